"""Writes results for a terminal or a file: aligned text, Markdown, or CSV."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from textwrap import fill
from typing import Literal

from analysis.comparison import ArmResult, Results, statuses
from analysis.grouping import ABSENT, differing_choices
from analysis.measures import (
    AREA,
    INTERVAL,
    MEMORY,
    PARAMETERS,
    RUNS,
    SCORE,
    SECONDS_TO_SOLVE,
    SOLVED,
    STEPS_PER_SECOND,
    STEPS_TO_SOLVE,
    Measure,
    known,
    raw_numbers,
)
from analysis.wording import typed, word
from conf.composing.choices import Choice

Format = Literal["text", "markdown", "csv"]
Cells = list[list[str]]
METRICS = {
    "last": "mean return of the final evaluation, with the last weights",
    "best": "mean return of the best evaluation",
    "mean": "mean return of the last five evaluations",
}
"""What a score is."""
ARM = "arm"
_GAP = 3
# What a narrow terminal shows; choices take turns with them.
_BY_IMPORTANCE = (
    SCORE, INTERVAL, RUNS, SOLVED, STEPS_TO_SOLVE, STEPS_PER_SECOND, PARAMETERS, SECONDS_TO_SOLVE,
    AREA, MEMORY,
)  # fmt: skip
_STATUS = Measure("status", "runs by status", statuses)


def write(
    results: Results,
    style: Format,
    columns: Literal["auto", "all"] | Sequence[str] = "auto",
    width: int = 100,
) -> str:
    """Write a table for each task, best arm first; as CSV a single one.

    Args:
        columns: keys of the configuration that name an arm; auto: those that fit.
        width: of the terminal, in characters.
    """
    if style == "csv":
        return _csv(results, columns)
    draw = _text if style == "text" else markdown_table
    tables = [_titled(results, task, columns, width, draw) for task in results.tasks]
    return "\n\n".join(table for table in tables if table)


def measure_table(results: Sequence[ArmResult], measures: Sequence[Measure]) -> Cells:
    """Return a row for each arm, headers first."""
    shown = known(measures, results)
    heads = [ARM, *(measure.title for measure in shown)]
    return [heads, *([arm.arm, *(shown_in.text(arm) for shown_in in shown)] for arm in results)]


def markdown_table(cells: Cells, num_words: int = 1) -> str:
    """Write a table in Markdown; columns after the first are numbers."""
    heads, *rows = ([_squeezed(cell) for cell in row] for row in cells)
    rule = ["---" if index < num_words else "---:" for index in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rule, *rows])


def _titled(
    results: Results,
    task: str,
    columns: Literal["auto", "all"] | Sequence[str],
    width: int,
    draw: Callable[[Cells, int], str],
) -> str:
    arms = _shown(results, task)
    if not arms:
        return ""
    measures = known(_BY_IMPORTANCE, arms)
    if results.plan.status == "all":
        measures.insert(3, _STATUS)
    choices = _choices(results, task, columns)
    words = [[key, *(word(_choice(arm, key)) for arm in arms)] for key in choices]
    numbers = [[measure.title, *map(measure.text, arms)] for measure in measures]
    shown = _fitting(words, numbers, width, is_free=columns == "auto")
    kept = [column for column in words if column in shown]
    rows = zip(*kept, *(column for column in numbers if column in shown), strict=True)
    body = draw([list(row) for row in rows], len(kept))
    folded = len(words) - len(kept)
    notes = [f"and {folded} more keys differ: columns=all shows them"] if folded > 0 else []
    score = f"score: {METRICS[results.plan.metric]}"
    if draw is _text:
        title = f"{task}   {score}"
        if len(title) > width:
            title = f"{task}\n{fill(score, width, initial_indent='  ', subsequent_indent='  ')}"
        return "\n".join([title, body, *(f"  {note}" for note in notes)])
    return "\n\n".join([f"## {task}", body, f"{score[0].upper()}{score[1:]}.", *notes])


def _shown(results: Results, task: str) -> list[ArmResult]:
    """Return the arms with a row; those without a run that counts only if they were planned."""
    plan = results.plan
    return [
        arm
        for arm in results.ranked(task)
        if arm.n or plan.status == "all" or (task, arm.arm) in plan.seeds
    ]


def _choices(
    results: Results, task: str, columns: Literal["auto", "all"] | Sequence[str]
) -> list[str]:
    """Return the columns that name the arms of a task."""
    if not isinstance(columns, str):
        return list(columns)
    records = [run.record for arm in results.of_task(task) for run in arm.runs]
    if results.plan.words or not records:
        return [ARM]
    return list(differing_choices(records)) or [ARM]


def _choice(arm: ArmResult, key: str) -> Choice:
    if key == ARM:
        return arm.arm
    runs = [*arm.runs, *(out.run for out in arm.left_out)]
    configuration: Mapping[str, Choice] = runs[0].record.choices if runs else {}
    return configuration.get(key, ABSENT)


def _fitting(words: Cells, numbers: Cells, width: int, *, is_free: bool) -> Cells:
    """Choose the columns that fit: the score first, then choices and measures in turn.

    Args:
        words: columns of choices.
        numbers: columns of measures.
        is_free: whether choices may be folded.
    """
    pairs = zip_longest(words[1:], numbers[2:], fillvalue=list[str]())
    in_turn = [*words[:1], *numbers[:2], *(column for pair in pairs for column in pair if column)]
    shown = []
    left = width + 1  # no gap after the last column, and an indent of two
    for column in in_turn if is_free else [*words, *numbers]:
        needed = _GAP + max(map(len, column))
        if needed <= left or (column in words and not is_free):
            shown.append(column)
            left -= needed
    return shown


def _text(cells: Cells, num_words: int) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if index < num_words or title == "status" else cell.rjust(width)
            for index, (cell, width, title) in enumerate(zip(row, widths, cells[0], strict=True))
        ]
        lines.append("  " + (" " * _GAP).join(padded).rstrip())
    return "\n".join(lines)


def _squeezed(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").replace("<", "&lt;").split())


def _csv(results: Results, columns: Literal["auto", "all"] | Sequence[str]) -> str:
    keys = [key for task in results.tasks for key in _choices(results, task, columns)]
    choices = list(dict.fromkeys(key for key in keys if key != ARM))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = list(raw_numbers(results.arms[0]))
    writer.writerow(["task", ARM, *choices, "metric", *names, "status"])
    for task in results.tasks:
        for arm in _shown(results, task):
            values = [typed(_choice(arm, key)) for key in choices]
            numbers = map(plain, raw_numbers(arm).values())
            writer.writerow([task, arm.arm, *values, results.plan.metric, *numbers, statuses(arm)])
    return file.getvalue().rstrip("\n")


def plain(value: float | int | None) -> float | int | str:
    """Write a raw number; nothing for an unknown one."""
    return "" if value is None or math.isnan(value) else value
