"""Searches for the best values: `python tune.py task=... key='interval(0, 1)'`; see `--help`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch

OWN = ("tuning", "engine", "directory")
"""Keys of the search, which its runs do not have."""

if TYPE_CHECKING:
    from omegaconf import DictConfig


def tune(config: DictConfig) -> float:
    """Run the missing trials and write the best as an experiment; return its score."""
    from conf.checking.refusals import InvalidConfiguration
    from training.runs.refusal import Refusal

    try:
        return search(config)
    except InvalidConfiguration as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.exit_code)


def search(config: DictConfig) -> float:
    """Search in `config.directory`.

    Raises:
        InvalidConfiguration: a range does not fit.
        Refusal: it cannot run, or was stopped.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from analysis.studies.engines import build_engine
    from analysis.studies.ranges import values_of
    from analysis.studies.searching import search_command_line
    from conf.composing.sweeps import key_of, user_directory

    settings, directory = HydraConfig.get(), Path(config.directory)
    words = [word for word in settings.overrides.task if not key_of(word).startswith(OWN)]
    tuning: Any = OmegaConf.to_container(config.tuning)
    build = partial(build_engine, config.engine, directory)
    best = search_command_line(
        tuning, words, directory, build, user_directory=user_directory(settings)
    )
    values = " ".join(values_of(best["values"]))
    print(f"best: trial {best['number']}, {best['score']:.2f}   {values}")
    print(f"python train.py --config-dir {directory} experiment=best")
    return float(best["score"])


def main() -> None:
    """Search; ranges on the command line are `tuning.keys`."""
    from analysis.studies.ranges import with_ranges

    sys.argv[1:] = with_ranges(sys.argv[1:])
    launch(tune, config_name="tune")


if __name__ == "__main__":
    main()
