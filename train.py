"""Trains an agent: `python train.py [group=option] [key=value] ...`; `--help` tells more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from conf.compose import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(config: DictConfig) -> float:
    """Train one run; return the mean return of its last evaluation, for sweepers to maximise."""
    from training.directory import discard
    from training.environments import build_environments
    from training.refusal import Refusal

    try:
        try:
            environments = build_environments(config, num_envs=config.env.num_envs)
        except ValueError as error:
            raise Refusal(str(error), 2) from error

        # Only now: importing torch takes a second, which a wrong environment need not wait for.
        from training.session import train_run

        return train_run(config, environments)
    except BaseException as error:
        discard(Path(config.run_dir))
        is_one_of_many = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        if not isinstance(error, Refusal) or is_one_of_many:
            raise  # a job that breaks does not keep the others of its sweep from running
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    launch(train)
