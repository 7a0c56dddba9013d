"""Runs studies and compares runs: `python compare.py study=NAME`; see `--help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from conf.schema.study import Metric


def compare(config: DictConfig) -> int:
    """Run what a study misses, if there is one, and report; return the number of runs."""
    from conf.checking.refusals import InvalidConfiguration
    from training.runs.refusal import Refusal

    try:
        if config.study.name is None:
            return compare_found(config)

        from analysis.studies.session import compare_study

        return compare_study(config)
    except InvalidConfiguration as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.exit_code)


def compare_found(config: DictConfig) -> int:
    """Print a table for each environment of the runs on disk, and write a report if asked to."""
    from analysis.comparison import Plan
    from analysis.comparison import compare as compared
    from analysis.grouping import labelled_by_choices
    from analysis.tables import show
    from analysis.runs import find_runs

    places = [config.runs] if isinstance(config.runs, str) else list(config.runs)
    records, skipped = find_runs(places)
    print(*(f"{line}\n" for line in skipped), sep="", end="", file=sys.stderr)
    if not records:
        print(
            f"runs={config.runs}: no runs there; a run is a directory with config.yaml and "
            "summary.json",
            file=sys.stderr,
        )
        sys.exit(2)
    metric: Metric = "last" if config.metric == "auto" else config.metric
    plan = Plan(", ".join(places), metric=metric, status=config.status, skipped=tuple(skipped))
    with_curves = config.report is not None or metric == "mean"
    results = compared(labelled_by_choices(records, with_curves=with_curves), plan)
    return show(results, config, config.report)


if __name__ == "__main__":
    launch(compare, config_name="compare")
