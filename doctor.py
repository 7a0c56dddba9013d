"""Checks parts before they train: `python doctor.py env.id=... memory=...`; see `--help`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch
from training.process.leaving import leave
from training.runs.refusal import refusals_end

if TYPE_CHECKING:
    from omegaconf import DictConfig


@refusals_end
def doctor(config: DictConfig) -> None:
    """Check everything that the words of a training choose; exit with 1 if something is wrong."""
    from analysis.doctor.doctor import consult

    if not consult(config, coloured=sys.stdout.isatty()):
        sys.exit(1)


if __name__ == "__main__":
    leave(partial(launch, doctor, config_name="doctor"))
