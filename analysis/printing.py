"""What `compare.py` prints: the verdict, a table for each task, and what to know beside them."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from analysis.comparison import Results
from analysis.irregularities import irregularities
from analysis.tables import Format, write
from analysis.verdict import judge
from training.runs.refusal import Refusal

_WIDE = 120
"""Characters in a line where there is no terminal."""
_MOST = 12
"""Lines of each kind in a terminal; a report has all."""


def show(results: Results, config: DictConfig, directory: str | Path | None) -> int:
    """Print what was found; return the number of runs that count.

    Args:
        directory: of a report; None for none.

    Raises:
        Refusal: the report cannot be written.
    """
    columns = config.columns if isinstance(config.columns, str) else list(config.columns)
    width = shutil.get_terminal_size((_WIDE, 1)).columns
    print(printed(results, config.format, columns, width))
    notes = remarks(results) if config.format == "csv" else []  # the table alone is for programs
    if not isinstance(columns, str):
        known = {key for run in results.runs for key in run.record.choices}
        notes += [f"columns: no run has a key {key}" for key in columns if key not in known]
    for note in notes:
        print(note, file=sys.stderr)
    if directory is not None:
        from analysis.report.report import write_report  # imports matplotlib

        try:
            print(f"report: {write_report(results, Path(directory))}", file=sys.stderr)
        except OSError as error:
            raise Refusal(f"{directory}: no report was written: {error}", 1) from error
    return len(results.runs)


def printed(
    results: Results, style: Format, columns: Literal["auto", "all"] | Sequence[str], width: int
) -> str:
    """Return tables, verdict and remarks as text or Markdown; as CSV the table alone."""
    tables = write(results, style, columns, width)
    if style == "csv":
        return tables
    blocks = [tables, _items(_answer(results), style), _items(remarks(results), style)]
    return "\n\n".join(block for block in blocks if block)


def remarks(results: Results) -> list[str]:
    """List what to know beside the numbers, cut for a terminal."""
    return _first([*results.plan.remarks, *irregularities(results)])


def _answer(results: Results) -> list[str]:
    """Return the verdict; nothing where there is nothing to compare."""
    if all(len(results.of_task(task)) < 2 for task in results.tasks):
        return []
    verdict = judge(results)
    return [*verdict.summary, *_first(verdict.comparisons), *verdict.limits]


def _first(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    rest = len(every) - _MOST
    if rest < 2:
        return every
    return [*every[:_MOST], f"and {rest:,} more lines, which report=DIRECTORY shows"]


def _items(lines: Sequence[str], style: Format) -> str:
    return "\n".join(f"- {line}" if style == "markdown" else f"  {line}" for line in lines)
