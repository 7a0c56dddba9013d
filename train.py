"""Trains an agent: `python train.py [group=option] [key=value] ...`; `--help` tells more."""

from __future__ import annotations

import math
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


_broken_jobs: list[str] = []


def train(config: DictConfig) -> float:
    """Train one run; return the mean return of its last evaluation, for sweepers to maximise."""
    from training.devices import refuse_missing_device
    from training.directory import discard, finished
    from training.environments import build_environments
    from training.refusal import Refusal

    if config.resume is not None:
        over = finished(Path(config.resume), total_env_steps=config.total_env_steps)
        if over is not None:
            steps, score = over
            print(
                f"{config.resume} has finished: {steps:,} steps, evaluation {score:.2f}; "
                "a larger total_env_steps goes on with it"
            )
            return score
    try:
        try:
            refuse_missing_device(config.device)
            environments = build_environments(config, num_envs=config.env.num_envs)
        except ValueError as error:
            raise Refusal(str(error), 2) from error

        # Only now: importing torch takes a second, which a wrong environment need not wait for.
        from training.session import train_run

        return train_run(config, environments)
    except BaseException as error:
        discard(Path(config.run_dir))
        if not isinstance(error, Refusal):
            raise
        print(error, file=sys.stderr)
        is_one_of_many = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        if is_one_of_many and not error.is_interrupt:
            _broken_jobs.append(str(error))  # the others of its sweep go on
            return math.nan
        sys.exit(error.exit_code)


if __name__ == "__main__":
    launch(train)
    sys.exit(1 if _broken_jobs else 0)
