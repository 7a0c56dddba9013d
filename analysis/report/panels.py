"""The numbers behind each figure; how they are drawn is `figures.py`'s business."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from analysis.aggregates import Aggregates
from analysis.comparison import TELEMETRY, ArmResult, Results
from analysis.quantiles import student_quantile
from analysis.runs import EVALUATIONS, Axis, Curve
from analysis.statistics import FloatArray, performance_profile, stratified_bootstrap
from analysis.wording import known, number

GRID = 101
"""Points of a curve's grid."""
_MOST_LINES = 8
_MOST_GROUPS = 40
"""Arms in a figure; with more nobody can read it."""
_ROWS = 11
"""Points of a curve in the table below its figure."""
_LABELS: dict[Axis, str] = {"env_steps": "environment steps", "seconds": "seconds of training"}
_NAMES: dict[Axis, str] = {"env_steps": "env-steps", "seconds": "seconds"}
_BAND = "from three runs on with its 95% interval"
_QUANTILE = 0.975
_LEAST_RUNS = 3
"""Bands of two runs are wider than the figure."""


class Line(NamedTuple):
    """A curve with a band, `[n]` each; nan where runs are missing."""

    arm: str
    x: FloatArray
    middle: FloatArray
    low: FloatArray
    high: FloatArray

    def text(self, row: int) -> str:
        """Write a point of the curve with its interval."""
        if row >= len(self.middle) or math.isnan(self.middle[row]):
            return ""
        low, high = self.low[row], self.high[row]
        if math.isnan(low) or low == high:
            return number(self.middle[row])
        return " ".join(known(self.middle[row], (low, high)))


@dataclass(frozen=True)
class Panel:
    """Curves over one axis, or every run of each arm as a dot.

    Attributes:
        heading: of the section that it belongs to.
        name: of its files.
        threshold: a level to mark, such as the score that counts as solved.
    """

    heading: str
    name: str
    title: str
    caption: str
    x_label: str
    y_label: str = ""
    lines: Sequence[Line] = ()
    groups: Sequence[ArmResult] = ()
    threshold: float | None = None

    def table(self) -> list[list[str]]:
        """Return every run, or some points of each curve; headers first."""
        if self.groups:
            rows = [
                [arm.arm, f"{run.seed}", number(score)]
                for arm in self.groups
                for run, score in zip(arm.runs, arm.scores, strict=True)
            ]
            return [["arm", "seed", self.x_label], *rows]
        x = max((line.x for line in self.lines), key=len)
        chosen = range(0, len(x), max(1, (len(x) - 1) // (_ROWS - 1)))
        at = {row: number(x[row], 10.0 if x[row] >= 100 else None) for row in chosen}
        points = [[at[row], *(line.text(row) for line in self.lines)] for row in chosen]
        return [[self.x_label, *(line.arm for line in self.lines)], *points]


def score_panels(results: Results) -> Iterator[Panel]:
    """Yield the scores of every run, a panel for each task."""
    for task in results.tasks:
        arms = [arm for arm in results.ranked(task) if arm.n]
        if arms:
            at = arms[0].solved_at
            told = "Every run is a dot; the bar is the mean with its 95% interval."
            told += "" if at is None else f" Dotted: {number(at)}, which counts as solved."
            told += _best_of(arms, _MOST_GROUPS)
            panel = Panel("Every run", f"scores-{slug(task)}", f"Scores on {task}", told, "score")
            yield replace(panel, groups=arms[:_MOST_GROUPS], threshold=at)


def learning_panels(results: Results) -> Iterator[Panel]:
    """Yield learning curves over steps and over seconds, for each task."""
    ends = "a line ends where the first of its runs does"
    told = f"Mean of the evaluations over runs, {_BAND}; {ends}."
    for task in results.tasks:
        for axis, label in _LABELS.items():
            name, title = f"curves-{slug(task)}-over-{_NAMES[axis]}", f"{task} over {label}"
            panel = Panel("Learning curves", name, title, told, label, "mean return")
            yield from _with_curves(panel, results, task, axis, EVALUATIONS)


def telemetry_panels(results: Results) -> Iterator[Panel]:
    """Yield diagnostics of representations, and reconstruction losses, where there are any."""
    for task in results.tasks:
        for tag, title in TELEMETRY.items():
            name, quantity = f"{slug(tag)}-{slug(task)}", tag.rpartition("/")[2].replace("_", " ")
            told, label = f"`{tag}`: mean over runs, {_BAND}.", _LABELS["env_steps"]
            panel = Panel("Representations", name, f"{title} on {task}", told, label, quantity)
            yield from _with_curves(panel, results, task, "env_steps", tag)


def profile_panel(across: Aggregates) -> Panel:
    """Return the share of runs above each normalized score."""
    grid, lines = np.linspace(0.0, 1.0, GRID), []
    profile = partial(performance_profile, thresholds=grid)
    for arm in across.arms[:_MOST_LINES]:
        band: Any = stratified_bootstrap(arm.scores, profile)
        lines.append(Line(arm.arm, grid, profile(arm.scores), *band))
    told = (
        "Share of all runs on all tasks whose normalized score exceeds a threshold, with its 95% "
    )
    told += f"interval.{_best_of(across.arms, _MOST_LINES)}"
    title, labels = "Performance profiles", ("normalized score", "share of runs")
    return Panel("Across tasks", "profiles", title, told, *labels, lines)


def _with_curves(
    panel: Panel, results: Results, task: str, axis: Axis, tag: str
) -> Iterator[Panel]:
    """Yield a panel with the curves of a task's best arms, in the plan's order; or nothing."""
    every = [arm for arm in results.ranked(task) if any(tag in run.curves for run in arm.runs)]
    best = sorted(every[:_MOST_LINES], key=lambda arm: results.names.index(arm.arm))
    if lines := mean_curves(best, axis, tag):
        at = best[0].solved_at if tag == EVALUATIONS else None
        told = panel.caption + _best_of(every, _MOST_LINES)
        yield replace(panel, caption=told, lines=lines, threshold=at)


def mean_curves(arms: Iterable[ArmResult], axis: Axis, tag: str = EVALUATIONS) -> list[Line]:
    """Average a scalar over the runs of each arm that have it, on one grid for all arms."""
    found = {arm.arm: [run.curves[tag] for run in arm.runs if tag in run.curves] for arm in arms}
    curves = {arm: own for arm, own in found.items() if own}
    ends = [min(getattr(curve, axis)[-1] for curve in own) for own in curves.values()]
    end = max(ends, default=math.nan)
    if not math.isfinite(end) or end <= 0:
        return []
    grid = np.linspace(0.0, end, GRID)
    return [_line(arm, own, grid, axis) for arm, own in curves.items()]


def _line(arm: str, curves: Sequence[Curve], grid: FloatArray, axis: Axis) -> Line:
    """Average curves, interpolated on a grid, with Student's t interval at each point."""
    outside = math.nan, math.nan  # of a curve's own range
    rows = [np.interp(grid, getattr(curve, axis), curve.values, *outside) for curve in curves]
    values, count = np.stack(rows), len(rows)
    middle = values.mean(axis=0)  # nan where a run is missing
    if count < _LEAST_RUNS:
        return Line(arm, grid, middle, middle, middle)
    deviation = values.std(axis=0, ddof=1) / math.sqrt(count)
    half = student_quantile(_QUANTILE, count - 1) * deviation
    return Line(arm, grid, middle, middle - half, middle + half)


def _best_of(arms: Sequence[object], most: int) -> str:
    """Say which arms a figure shows."""
    return f" The {most} best of {len(arms)} arms." if len(arms) > most else ""


def slug(name: str) -> str:
    """Write a name with letters, digits, dots, underscores and hyphens only, for a file."""
    return "-".join(filter(None, re.split(r"[^\w.]", name)))
