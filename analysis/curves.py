"""Reads the scalars of runs as curves over steps and seconds, up to the first damage of a file."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from analysis.runs import Curve, RunRecord
from analysis.statistics import FloatArray
from training.tracking.event_files import event_files

SECONDS = "time/training_seconds"
"""Seconds of collecting, learning and pre-training so far, logged at each evaluation."""
_EPOCHS = "pretraining/"
"""Start of the tags whose steps are epochs."""
_HEAD, _CHECKSUM = 12, 4
"""Bytes of a record before its message, and behind it."""
_LONGEST = 2**14
"""Bytes of an event; longer ones hold images or texts, and are skipped."""

Tags = Collection[str] | None
"""Some tags; None: all."""
Points = defaultdict[str, list[tuple[float, ...]]]
"""By tag: step and value."""


def read_curves(run: RunRecord, tags: Tags = None) -> tuple[dict[str, Curve], list[str]]:
    """Read a run's scalars.

    Args:
        tags: which; None: all.

    Returns:
        The curves by tag, those that the run has; and a line for each damage, if there is any.
    """
    paths = event_files(run.directory)
    found, notes = _scalars(paths, None if tags is None else {*tags, SECONDS})
    points = {tag: _joined(np.array(each)) for tag, each in found.items()}
    clock = _clock(points.get(SECONDS, np.empty((0, 2))), run)
    if not paths:
        notes.append(f"{run.directory} has no event files, so no curves")
    curves = {}
    for tag in (tag for tag in points if tags is None or tag in tags):
        steps, values = points[tag].T
        seconds = np.interp(steps, *clock)
        curves[tag] = Curve(steps + run.pretraining_env_steps, seconds, values)
        if tag.startswith(_EPOCHS):
            curves[tag] = Curve(steps, np.full(len(steps), np.nan), values)
    return curves, notes


def _scalars(paths: Sequence[Path], tags: Tags) -> tuple[Points, list[str]]:
    """Return points of each tag, and damage."""
    found, notes = Points(list), list[str]()
    for path in paths:
        try:
            for event in _events(path):
                for value in event.summary.value:
                    if value.HasField("simple_value") and (tags is None or value.tag in tags):
                        found[value.tag].append((event.step, value.simple_value))
        except (OSError, ValueError) as error:
            notes.append(f"{path} is damaged, its later points are missing: {error}")
    return found, notes


def _events(path: Path) -> Iterator[Any]:
    """Yield the events of a file: each a length, its checksum, a message, and its checksum.

    Only lengths are verified, as in TensorBoard's own reader.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged from here on.
    """
    content, place = path.read_bytes(), 0
    while place < len(content):
        start = place + _HEAD
        length = _length(content[place:start])
        place = start + length + _CHECKSUM
        if place > len(content):
            raise ValueError("it ends within a record")
        if length <= _LONGEST:
            try:
                yield Event.FromString(content[start : start + length])
            except DecodeError as error:
                raise ValueError("a record is no event") from error


@lru_cache(maxsize=4096)  # lengths repeat
def _length(head: bytes) -> int:
    """Return the length in the head of a record.

    Raises:
        ValueError: it is incomplete, or its checksum is wrong.
    """
    length, checksum = head[:-_CHECKSUM], head[-_CHECKSUM:]
    if len(head) < _HEAD:
        raise ValueError("it ends within a record")
    if masked_crc32c(length) != int.from_bytes(checksum, "little"):
        raise ValueError("a length is wrong")
    return int.from_bytes(length, "little")


def _joined(points: FloatArray) -> FloatArray:
    """Leave out points that a later session wrote anew, `[n, 2]`.

    A run that was resumed without its files being rewound has steps twice: the later points count.
    """
    least_after = np.minimum.accumulate(np.append(points[:, 0], np.inf)[:0:-1])[::-1]
    return points[points[:, 0] < least_after]


def _clock(points: FloatArray, run: RunRecord) -> tuple[FloatArray, FloatArray]:
    """Return steps of training and the seconds there, from the beginning to the end.

    Args:
        points: logged ones, if there are any.
    """
    steps = np.append(0.0, points[:, 0])
    seconds = np.append(run.pretraining_seconds, points[:, 1])
    end = run.env_steps - run.pretraining_env_steps
    if end > steps[-1]:  # it ended without an evaluation, or with one of the best weights
        steps, seconds = np.append(steps, end), np.append(seconds, run.training_seconds)
    return steps, seconds
