"""Reads the scalars of runs as curves over steps and seconds."""

import math
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import numpy as np

from analysis.event_records import FloatArray, Scalars, read_scalars
from analysis.runs import RunRecord
from training.tracking.event_files import event_files

EVALUATIONS = "evaluation/return"
SECONDS = "time/training_seconds"
"""Seconds of collecting, learning and pre-training so far, logged at each evaluation."""
_EPOCHS = "pretraining/"
"""Start of the tags whose steps are epochs."""


class Curve(NamedTuple):
    """A scalar over a run.

    Attributes:
        env_steps: `[n]`, increasing, including those of pre-training; epochs for `pretraining/*`.
        seconds: `[n]`, of collecting and learning, including those of pre-training; between
            evaluations by interpolation; nan for `pretraining/*`.
        values: `[n]`.
    """

    env_steps: FloatArray
    seconds: FloatArray
    values: FloatArray


def read_curves(
    run: RunRecord, tags: Collection[str] | None = None
) -> tuple[dict[str, Curve], list[str]]:
    """Read a run's scalars.

    Args:
        tags: which; None: all.

    Returns:
        The curves by tag, those that the run has; and a line for each damage, if there is any.
    """
    paths = event_files(run.directory)
    files = [read_scalars(path, None if tags is None else {*tags, SECONDS}) for path in paths]
    notes = [
        f"{path} is damaged, its later points are missing: {file.damage}"
        for path, file in zip(paths, files, strict=True)
        if file.damage is not None
    ]
    points = {tag: _joined(tag, files) for file in files for tag in file.points}
    clock = _clock(points[SECONDS], run) if SECONDS in points else None
    if not paths:
        notes.append(f"{run.directory} has no event files, so no curves")
    elif clock is None and points:
        notes.append(f"{run.directory} has no {SECONDS}: the seconds of its curves are wall time")
    began = min((file.began for file in files), default=math.inf)
    curves = {}
    for tag in (tag for tag in points if tags is None or tag in tags):
        steps, times, values = points[tag].T
        seconds = times - began if clock is None else np.interp(steps, *clock)
        curves[tag] = Curve(steps + run.pretraining_env_steps, seconds, values)
        if tag.startswith(_EPOCHS):
            curves[tag] = Curve(steps, np.full(len(steps), np.nan), values)
    return curves, notes


def aligned(
    curves: Sequence[Curve], grid: FloatArray, axis: Literal["env_steps", "seconds"]
) -> FloatArray:
    """Interpolate curves on a grid, linearly; nan outside a curve's own range.

    Returns:
        Values `[curves, grid]`.
    """
    rows = np.full((len(curves), len(grid)), np.nan)
    for row, curve in zip(rows, curves, strict=True):
        if len(curve.values):
            row[:] = np.interp(grid, getattr(curve, axis), curve.values, math.nan, math.nan)
    return rows


def _joined(tag: str, files: Sequence[Scalars]) -> FloatArray:
    """Join the points of a run's files, `[n, 3]`.

    A run that was resumed without its files being rewound has steps twice: the later points count.
    """
    points = np.concatenate([file.points[tag] for file in files if tag in file.points])
    least_after = np.minimum.accumulate(np.append(points[:, 0], np.inf)[:0:-1])[::-1]
    return points[points[:, 0] < least_after]


def _clock(points: FloatArray, run: RunRecord) -> tuple[FloatArray, FloatArray]:
    """Return steps of training and the seconds there, from the beginning to the end."""
    steps = np.append(0.0, points[:, 0])
    seconds = np.append(run.pretraining_seconds, points[:, 2])
    end = run.env_steps - run.pretraining_env_steps
    if end > steps[-1]:  # it ended without an evaluation, or with one of the best weights
        steps, seconds = np.append(steps, end), np.append(seconds, run.training_seconds)
    return steps, seconds
