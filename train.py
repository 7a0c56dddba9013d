"""Trains an agent: `python train.py [group=option] [key=value] ...`; `--help` tells more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.compose import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(config: DictConfig) -> float:
    """Train one run; return the mean return of its last evaluation, for sweepers to maximise."""
    from training.environments import build_environments
    from training.refusal import Refusal, discard

    try:
        environments = build_environments(config, num_envs=config.env.num_envs)
    except ValueError as error:
        discard(Path(config.run_dir))
        sys.exit(_refuse(error))

    # Only now: importing torch takes a second, which a wrong command line need not wait for.
    from training.session import train_run

    try:
        return train_run(config, environments)
    except Refusal as refusal:
        _refuse(refusal)
        sys.exit(refusal.exit_code)


def _refuse(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 2


if __name__ == "__main__":
    launch(train)
