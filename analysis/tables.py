"""Writes comparisons: aligned text, Markdown, or CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Literal

from analysis.comparison import ABSENT, Table
from conf.composing.choices import Choice

Format = Literal["text", "markdown", "csv"]
Cells = list[list[str]]

_MEASURES = {
    "seeds": ("seeds", "{}"),
    "env_steps": ("env steps", "{:,.0f}"),
    "training_seconds": ("training s", "{:,.1f}"),
    "steps_per_second": ("steps/s", "{:,.0f}"),
    "parameters": ("parameters", "{:,.0f}"),
}
"""Titles and formats of a row's numbers."""
_CSV = {"score": "score_mean", "score_deviation": "score_std"}
"""Columns of CSV that are not called as in a row."""


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
    titles = [title for title, _ in _MEASURES.values()]
    heads = [*table.choices, "score", *titles, *(["status"] if has_status else [])]
    rows = [
        [
            *(_word(row.configuration.get(key, ABSENT)) for key in table.choices),
            score,
            *(written.format(getattr(row, name)) for name, (_, written) in _MEASURES.items()),
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
    measures = ["score", "score_deviation", *_MEASURES, "status"]
    writer.writerow(["environment", *choices, *(_CSV.get(name, name) for name in measures)])
    for table in tables:
        for row in table.rows:
            values = [_typed(row.configuration.get(key, "")) for key in choices]
            numbers = [getattr(row, name) for name in measures]
            writer.writerow([table.environment, *values, *numbers])
    return file.getvalue().rstrip("\n")
