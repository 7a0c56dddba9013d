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
from training.runs.refusal import refusing

if TYPE_CHECKING:
    from omegaconf import DictConfig

_GREEN, _RED, _PLAIN = "\033[32m", "\033[31m", "\033[0m"


def doctor(config: DictConfig) -> None:
    """Check everything that the words of a training choose; exit with 1 if something is wrong."""
    if not consult(config, coloured=sys.stdout.isatty()):
        sys.exit(1)


def consult(config: DictConfig, *, coloured: bool) -> bool:
    """Print every finding; return whether all is well.

    Raises:
        Refusal: the environment cannot be made, or the networks do not fit it.
    """
    from analysis.doctor.environment import ENVIRONMENT
    from analysis.doctor.learning import LEARNING, throughput
    from analysis.doctor.networks import NETWORKS
    from analysis.doctor.patient import admit, examine
    from training.process.threads import set_num_threads

    with refusing(ValueError, OSError, RuntimeError, exit_code=2):
        patient = admit(config)
    set_num_threads(config.num_threads, patient.agent)
    every = {"environment": ENVIRONMENT, "networks": NETWORKS, "learning": LEARNING}
    problems = 0
    for title, checks in every.items():
        print(title)
        for name, problem in examine(patient, checks):
            problems += problem is not None
            mark, colour = ("ok", _GREEN) if problem is None else ("!!", _RED)
            print(f"  {colour}{mark}{_PLAIN}  {name}" if coloured else f"  {mark}  {name}")
            if problem is not None:
                print(f"      {problem}")
    if not problems:
        print("speed", *(f"  {line}" for line in throughput(patient)), sep="\n")
    patient.environments.close()
    print("all is well" if not problems else f"{problems} to mend")
    return not problems


if __name__ == "__main__":
    leave(partial(launch, doctor, config_name="doctor"))
