"""What `compare.py` prints: a table for each task, the verdict, and what to know beside them."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from textwrap import fill
from typing import Literal

from analysis.comparison import ArmResult, Results
from analysis.grouping import ABSENT, differing_choices
from analysis.irregularities import irregularities
from analysis.measures import BY_IMPORTANCE, STATUS, shown, told
from analysis.verdict import judge
from analysis.wording import word
from conf.composing.choices import Choice

Columns = Literal["auto", "all"] | Sequence[str]
Cells = Sequence[Sequence[str]]
METRICS = {
    "last": "mean return of the final evaluation, with the last weights",
    "best": "mean return of the best evaluation",
    "mean": "mean return of the last five evaluations",
}
"""What a score is."""
ARM = "arm"
_GAP = 3
_MOST = 12
"""Lines of each kind in a terminal; a report has all."""


def printed(results: Results, columns: Columns, width: int) -> str:
    """Return tables, verdict and remarks."""
    answer = list[str]()
    if any(len(results.of_task(task)) > 1 for task in results.tasks):
        verdict = judge(results)
        answer = [*verdict.summary, *_first(verdict.comparisons), *verdict.limits]
    remarks = _first([*results.plan.remarks, *irregularities(results)])
    items = ["\n".join(f"  {line}" for line in lines) for lines in (answer, remarks)]
    return "\n\n".join(filter(None, [write(results, columns, width), *items]))


def _first(lines: Iterable[str]) -> list[str]:
    """Cut lines for a terminal."""
    every = list(lines)
    rest = len(every) - _MOST
    if rest < 2:
        return every
    return [*every[:_MOST], f"and {rest:,} more lines, in the report (report=DIRECTORY)"]


def write(results: Results, columns: Columns = "auto", width: int = 100) -> str:
    """Write a table for each task, best arm first.

    Args:
        columns: keys of the configuration that name an arm; auto: those that fit.
        width: of the terminal, in characters.
    """
    tables = (_titled(results, task, columns, width) for task in results.tasks)
    return "\n\n".join(filter(None, tables))


def measure_table(arms: Sequence[ArmResult], titles: Sequence[str]) -> Cells:
    """Return a row for each arm, headers first."""
    heads = shown(titles, arms)
    return [[ARM, *heads], *([arm.arm, *(told(head, arm) for head in heads)] for arm in arms)]


def markdown_table(cells: Cells, num_words: int = 1) -> str:
    """Write a table in Markdown; columns after the first are numbers."""
    heads, *rows = (
        [" ".join(cell.replace("|", "\\|").replace("<", "&lt;").split()) for cell in row]
        for row in cells
    )
    rule = ["---" if index < num_words else "---:" for index in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rule, *rows])


def text_table(cells: Cells, num_words: int = 1) -> list[str]:
    """Align columns in lines: words to the left, numbers to the right."""
    padded = []
    for index, column in enumerate(zip(*cells, strict=True)):
        is_word = index < num_words or column[0] == STATUS
        width = max(map(len, column))
        padded.append([each.ljust(width) if is_word else each.rjust(width) for each in column])
    return [(" " * _GAP).join(row).rstrip() for row in zip(*padded, strict=True)]


def _titled(results: Results, task: str, columns: Columns, width: int) -> str:
    """Write the table of a task below its name, with what a score is and what is folded."""
    arms = _rows(results, task)
    if not arms:
        return ""
    measures = shown(BY_IMPORTANCE, arms)
    if results.plan.status == "all":
        measures.insert(3, STATUS)
    keys = _keys(results, task, columns)
    words = [[key, *(word(_choice(arm, key)) for arm in arms)] for key in keys]
    numbers = [[measure, *(told(measure, arm) for arm in arms)] for measure in measures]
    fitting = _fitting(words, numbers, width, is_free=columns == "auto")
    kept = [column for column in words if column in fitting]
    cells = [*zip(*kept, *(column for column in numbers if column in fitting), strict=True)]
    folded = len(words) - len(kept)
    notes = [f"and {folded} more keys differ: columns=all shows them"] if folded > 0 else []
    score = f"score: {METRICS[results.plan.metric]}"
    title = fill(f"{task}   {score}", width, subsequent_indent="  ")
    return "\n  ".join([title, *text_table(cells, len(kept)), *notes])


def _rows(results: Results, task: str) -> list[ArmResult]:
    """Return the arms with a row; those without a run that counts only if they were planned."""
    plan, every = results.plan, results.ranked(task)
    return [arm for arm in every if arm.n or plan.status == "all" or (task, arm.arm) in plan.seeds]


def _keys(results: Results, task: str, columns: Columns) -> list[str]:
    """Return the columns that name the arms of a task."""
    if not isinstance(columns, str):
        return list(columns)
    runs = [run for arm in results.of_task(task) for run in arm.runs]
    return ([] if results.plan.words else [*differing_choices(runs)]) or [ARM]


def _choice(arm: ArmResult, key: str) -> Choice:
    if key == ARM:
        return arm.arm
    run = next((run for run, _ in arm.every_run), None)
    return ABSENT if run is None else run.choices.get(key, ABSENT)


def _fitting(words: Cells, numbers: Cells, width: int, *, is_free: bool) -> Cells:
    """Choose the columns that fit: the score first, then choices and measures in turn.

    Args:
        words: columns of choices.
        numbers: columns of measures.
        is_free: whether choices may be folded.
    """
    pairs = zip_longest(words[1:], numbers[2:], fillvalue=list[str]())
    in_turn = [*words[:1], *numbers[:2], *(column for pair in pairs for column in pair if column)]
    fitting = []
    left = width + 1  # no gap after the last column, and an indent of two
    for column in in_turn if is_free else [*words, *numbers]:
        needed = _GAP + max(map(len, column))
        if needed <= left or (column in words and not is_free):
            fitting.append(column)
            left -= needed
    return fitting
