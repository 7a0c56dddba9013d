"""Compares runs: `python compare.py 'runs=runs/**' [format=markdown]`; see `--help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compare(config: DictConfig) -> int:
    """Print one table per environment; return the number of runs."""
    from analysis.comparison import compare as compared
    from analysis.runs import find_runs
    from analysis.tables import write

    places = [config.runs] if isinstance(config.runs, str) else list(config.runs)
    runs, skipped = find_runs(places)
    for line in skipped:
        print(line, file=sys.stderr)
    if not runs:
        print(
            f"runs={config.runs}: no runs there; a run is a directory with config.yaml and "
            "summary.json",
            file=sys.stderr,
        )
        sys.exit(2)
    tables = compared(runs)
    print(write(tables, config.format))
    if config.format == "csv":
        for table in tables:
            for note in table.notes:
                print(f"{table.environment}: {note}", file=sys.stderr)
    return len(runs)


if __name__ == "__main__":
    launch(compare, config_name="compare")
