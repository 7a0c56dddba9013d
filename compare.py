"""Compares runs: `python compare.py 'runs=runs/**' [format=markdown]`; see `--help`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from analysis.comparison import Results
    from analysis.runs import Metric

_WIDE = 120
"""Characters in a line where there is no terminal."""


def compare(config: DictConfig) -> int:
    """Compare the runs that are there; return the number of those that count."""
    places = [config.runs] if isinstance(config.runs, str) else list(config.runs)
    return report(places, config)


def report(places: Sequence[str], config: DictConfig) -> int:
    """Print a table for each environment, and write a report if asked to."""
    from analysis.comparison import Plan
    from analysis.comparison import compare as compared
    from analysis.grouping import labelled_by_choices
    from analysis.runs import find_runs

    records, skipped = find_runs(places)
    for line in skipped:
        print(line, file=sys.stderr)
    if not records:
        print(
            f"runs={config.runs}: no runs there; a run is a directory with config.yaml and "
            "summary.json",
            file=sys.stderr,
        )
        sys.exit(2)
    metric: Metric = "last" if config.metric == "auto" else config.metric
    with_curves = config.report is not None or metric == "mean"
    plan = Plan(name=", ".join(places), metric=metric, status=config.status)
    results = compared(labelled_by_choices(records, with_curves=with_curves), plan)
    return show(results, config, config.report)


def show(results: Results, config: DictConfig, directory: Path | None) -> int:
    """Print what was found and write the report; return the number of runs that count."""
    from analysis.printing import printed, remarks

    columns = config.columns if isinstance(config.columns, str) else list(config.columns)
    width = shutil.get_terminal_size((_WIDE, 1)).columns
    print(printed(results, config.format, columns, width))
    if config.format == "csv":  # for programs: what readers must know goes elsewhere
        print(*remarks(results), sep="\n", file=sys.stderr)
    if directory is not None:
        from analysis.report.report import write_report

        print(f"report: {write_report(results, Path(directory))}", file=sys.stderr)
    return len(results.runs)


if __name__ == "__main__":
    launch(compare, config_name="compare")
