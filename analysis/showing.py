"""Shows a comparison: on the terminal, and as a report where one is asked for."""

import shutil
import sys
from pathlib import Path

from omegaconf import DictConfig

from analysis.comparison import Plan, Results, compare, with_curves
from analysis.grouping import labelled_by_choices
from analysis.runs import find_runs
from analysis.tables import printed
from conf.schema.study import Metric
from training.runs.refusal import Refusal

_WIDE = 120
"""Characters in a line where there is no terminal."""


def show(results: Results, config: DictConfig, directory: str | Path | None) -> int:
    """Print what was found; return the number of runs that count.

    Args:
        directory: of a report; None for none.

    Raises:
        Refusal: the report cannot be written.
    """
    columns = config.columns if isinstance(config.columns, str) else list(config.columns)
    width = shutil.get_terminal_size((_WIDE, 1)).columns
    print(printed(results, columns, width))
    known = {key for run in results.runs for key in run.choices}
    for key in [] if isinstance(columns, str) else columns:
        if key not in known:
            print(f"columns: no run has a key {key}", file=sys.stderr)
    if directory is not None:
        from analysis.report.report import write_report  # imports matplotlib

        try:
            print(f"report: {write_report(results, Path(directory))}", file=sys.stderr)
        except OSError as error:
            raise Refusal(f"{directory}: no report was written: {error}", 1) from error
    return len(results.runs)


def compare_found(config: DictConfig) -> int:
    """Compare the runs on disk; return the number of those that count.

    Raises:
        Refusal: there are none, or the report cannot be written.
    """
    places = [config.runs] if isinstance(config.runs, str) else list(config.runs)
    records, skipped = find_runs(places)
    print(*(f"{line}\n" for line in skipped), sep="", end="", file=sys.stderr)
    if not records:
        what = "a run is a directory with config.yaml and summary.json"
        raise Refusal(f"runs={config.runs}: no runs there; {what}", 2)
    if config.probe:
        from analysis.probing.showing import probe_missing  # imports torch

        probe_missing(records)
        records, _ = find_runs(places)
    metric: Metric = "last" if config.metric == "auto" else config.metric
    plan = Plan(", ".join(places), metric=metric, status=config.status, skipped=tuple(skipped))
    runs = labelled_by_choices(records)
    if config.report is not None or metric == "mean":  # which takes longer
        runs = [with_curves(run) for run in runs]
    return show(compare(runs, plan), config, config.report)
