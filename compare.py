"""Runs studies and compares runs: `python compare.py study=NAME`; see `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compare(config: DictConfig) -> int:
    """Run what a study misses, if there is one, and report; return the number of runs."""
    if config.study.name is None:
        from analysis.showing import compare_found

        return compare_found(config)

    from analysis.studies.session import compare_study  # imports torch

    return compare_study(config)


if __name__ == "__main__":
    launch(compare, config_name="compare")
