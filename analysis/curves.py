"""Reads the scalars of runs as curves over steps and seconds, up to the first damage of a file."""

import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from analysis.grouping import differing_choices
from analysis.runs import NO_CURVE, Curve, RunRecord, find_runs
from analysis.statistics import FloatArray
from training.tracking.event_files import event_files

if TYPE_CHECKING:
    import pandas

SECONDS = "time/training_seconds"
"""Seconds of collecting, learning and pre-training so far, logged at each evaluation."""
_HEAD, _CHECKSUM = 12, 4
"""Bytes of a record before its message, and behind it."""
_LONGEST = 2**14
"""Bytes of an event; longer ones hold images or texts, and are skipped."""
_ONES = 2**32 - 1

Frame: TypeAlias = "pandas.DataFrame | npt.NDArray[np.void]"
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
    return curves, notes


def curve_table(places: str | Sequence[str], tags: Collection[str] | None) -> Frame:
    """Read runs into a table; see `neurl.results`."""
    tags = [tags] if isinstance(tags, str) else tags
    runs, notes = find_runs([places] if isinstance(places, str) else list(places))
    keys, labels, curves = differing_choices(runs), list[tuple[Any, ...]](), [NO_CURVE]
    for run in runs:
        found, damage = read_curves(run, tags)
        own = (str(run.directory), run.task, run.seed, *(run.choices.get(key) for key in keys))
        labels += [(*own, tag) for tag in found]
        curves += found.values()
        notes += damage
    for note in notes:
        warnings.warn(note, RuntimeWarning, stacklevel=3)
    if not runs:
        raise ValueError(f"{places}: no runs there; a run has a config.yaml and a summary.json")
    names = ("run", "environment", "seed", *keys, "tag")
    every = np.array(labels, object).reshape(-1, len(names))
    rows = np.repeat(every, [len(curve.values) for curve in curves[1:]], axis=0)
    columns = dict(zip(names, rows.T, strict=True))
    points = [np.concatenate(parts) for parts in zip(*curves, strict=True)]
    return _table(columns | dict(zip(("env_steps", "seconds", "value"), points, strict=True)))


def _table(columns: dict[str, npt.NDArray[Any]]) -> Frame:
    """Put columns together, as a data frame where pandas is installed."""
    try:
        import pandas
    except ImportError:
        kinds = [(name, column.dtype) for name, column in columns.items()]
        return np.rec.fromarrays([*columns.values()], dtype=kinds)
    words = dict.fromkeys(("run", "environment", "tag"), "category")  # codes, not a text for each
    return pandas.DataFrame(columns).infer_objects().astype(words)


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

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged from here on.
    """
    content, place = path.read_bytes(), 0
    while place < len(content):
        start = place + _HEAD
        length = _length(content[place:start])
        end = start + length
        place = end + _CHECKSUM
        if place > len(content):
            raise ValueError("it ends within a record")
        if length > _LONGEST:
            continue
        if _checksum(content[start:end]) != content[end:place]:
            raise ValueError("the checksum of a record is wrong")
        with suppress(DecodeError):  # another's record
            yield Event.FromString(content[start:end])


@lru_cache(maxsize=4096)  # lengths repeat
def _length(head: bytes) -> int:
    """Return the length in the head of a record; 0 if the head is cut, and so is the record.

    Raises:
        ValueError: its checksum is wrong.
    """
    if len(head) < _HEAD:
        return 0
    if _checksum(head[:-_CHECKSUM]) != head[-_CHECKSUM:]:
        raise ValueError("a length is wrong")
    return int.from_bytes(head[:-_CHECKSUM], "little")


def _checksum(content: bytes) -> bytes:
    """Return the masked CRC-32C, little-endian; TensorBoard's takes ten times as long.

    CRC is linear: it is the sum modulo 2 over the bytes, each with as many zeros behind it as there
    are bytes. To start from a register of ones is to flip the first four bytes.
    """
    values, size = np.frombuffer(content, np.uint8).copy(), len(content)
    if size < 4:  # shorter than any event
        return masked_crc32c(content).to_bytes(4, "little")
    values[:4] ^= 0xFF
    terms = _remainders(size.bit_length())[np.arange(size - 1, -1, -1), values]
    crc = ~int(np.bitwise_xor.reduce(terms)) & _ONES
    return ((crc >> 15 | crc << 17) + 0xA282EAD8 & _ONES).to_bytes(4, "little")


@lru_cache
def _remainders(bits: int) -> npt.NDArray[np.uint32]:
    """Return the remainder of each byte with k zero bytes behind it, `[k < 2 ** bits, 256]`."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):  # Castagnoli's polynomial, bits reversed
        first = first >> 1 ^ (first & 1) * np.uint32(0x82F63B78)
    rows = [first]
    while len(rows) < 2**bits:
        rows.append(rows[-1] >> 8 ^ first[rows[-1] & 0xFF])
    return np.stack(rows)


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
