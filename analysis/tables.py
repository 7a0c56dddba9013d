"""Writes comparisons: aligned text, Markdown, or CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Literal

from analysis.comparison import ABSENT, Row, Table
from conf.composing.choices import Choice

Format = Literal["text", "markdown", "csv"]
Cells = list[list[str]]

_MEASURES: dict[str, Callable[[Row], str]] = {
    "seeds": lambda row: str(row.seeds),
    "env steps": lambda row: f"{row.env_steps:,.0f}",
    "training s": lambda row: f"{row.training_seconds:,.1f}",
    "steps/s": lambda row: f"{row.steps_per_second:,.0f}",
    "parameters": lambda row: f"{row.parameters:,.0f}",
}
_CSV_MEASURES: dict[str, Callable[[Row], object]] = {
    "score_mean": lambda row: row.score,
    "score_std": lambda row: row.score_deviation,
    "seeds": lambda row: row.seeds,
    "env_steps": lambda row: row.env_steps,
    "training_seconds": lambda row: row.training_seconds,
    "steps_per_second": lambda row: row.steps_per_second,
    "parameters": lambda row: row.parameters,
    "status": lambda row: row.status,
}


def write(tables: Sequence[Table], style: Format) -> str:
    """Write tables as text or Markdown, or as CSV: one table without notes."""
    if style == "csv":
        return _csv(tables)
    draw = _text if style == "text" else _markdown
    return "\n\n".join(_titled(table, draw) for table in tables)


def _titled(table: Table, draw: Callable[[Cells, int], str]) -> str:
    body = draw(_cells(table), len(table.choices))
    if draw is _markdown:
        return "\n\n".join([f"## {table.environment}", body, *table.notes])
    return "\n".join([table.environment, body, *(f"  {note}" for note in table.notes)])


def _cells(table: Table) -> Cells:
    """Return a table's cells, headers first, with the choices left of the score."""
    has_status = any("," in row.status or "finished" not in row.status for row in table.rows)
    heads = [*table.choices, "score", *_MEASURES, *(["status"] if has_status else [])]
    rows = [
        [
            *(_word(row.configuration.get(key, ABSENT)) for key in table.choices),
            score,
            *(write(row) for write in _MEASURES.values()),
            *([row.status] if has_status else []),
        ]
        for row, score in zip(table.rows, _scores(table), strict=True)
    ]
    return [heads, *rows]


def _scores(table: Table) -> list[str]:
    """Write mean +- deviation with aligned decimal points."""
    pairs = [(_fixed(row.score), _fixed(row.score_deviation)) for row in table.rows]
    width = max(len(deviation) for _, deviation in pairs)
    return [
        f"{mean or ABSENT} +- {deviation:>{width}}"
        if deviation
        else f"{mean or ABSENT}{' ' * (width + 4 if width else 0)}"
        for mean, deviation in pairs
    ]


def _fixed(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _typed(value: Choice) -> int | float | str:
    """Write a value as on the command line; numbers stay numbers."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else value


def _word(value: Choice) -> str:
    """Write a value for a reader, with thousands separators."""
    typed = _typed(value)
    if isinstance(typed, int):
        return f"{typed:,}"
    return f"{typed:g}" if isinstance(typed, float) else typed


def _text(cells: Cells, num_choices: int) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width)
            if index < num_choices or cells[0][index] == "status"
            else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "   ".join(padded).rstrip())
    return "\n".join(lines)


def _markdown(cells: Cells, num_choices: int) -> str:
    heads, *rows = ([_squeezed(cell) for cell in row] for row in cells)
    rule = ["---" if index < num_choices else "---:" for index in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rule, *rows])


def _squeezed(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


def _csv(tables: Sequence[Table]) -> str:
    choices = list(dict.fromkeys(key for table in tables for key in table.choices))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["environment", *choices, *_CSV_MEASURES])
    for table in tables:
        for row in table.rows:
            values = [_typed(row.configuration.get(key, "")) for key in choices]
            measures = [read(row) for read in _CSV_MEASURES.values()]
            writer.writerow([table.environment, *values, *measures])
    return file.getvalue().rstrip("\n")
