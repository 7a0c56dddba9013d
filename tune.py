"""Searches for the best values: `python tune.py task=... key='interval(0, 1)'`; see `--help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch
from conf.schema.layout import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


def tune(config: DictConfig) -> float:
    """Run the missing trials and write the best as an experiment; return its score."""
    from analysis.studies.ranges import values_of
    from analysis.studies.searching import search_command_line

    best = search_command_line(config)
    values = " ".join(values_of(best["values"]))
    print(f"best: trial {best['number']}, {best['score']:.2f}   {values}")
    print(command("train", "--config-dir", config.directory, "experiment=best"))
    return float(best["score"])


def main() -> None:
    """Search; ranges on the command line are `tuning.keys`."""
    from analysis.studies.ranges import with_ranges

    sys.argv[1:] = with_ranges(sys.argv[1:])
    launch(tune, config_name="tune")


if __name__ == "__main__":
    main()
