"""Reads scalars from event files.

A record is the length of its payload, a checksum of that, the payload, and a checksum of it. A
payload is a protocol buffer: TensorFlow's message `Event`. All checksums are compared, many at
once; only payloads that hold a scalar which is asked for are parsed.
"""

import math
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.lib.stride_tricks import sliding_window_view
from tensorboard.compat.proto.event_pb2 import Event

FloatArray = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_BEFORE, _CHECKSUM = 12, 4
"""Bytes of a record before its payload, and after it."""
_LONGEST = 2**14
"""Bytes of a payload; longer ones hold images or texts, and are skipped."""
_AT_ONCE = 2**20
"""Bytes compared together."""


@dataclass
class Scalars:
    """The scalars of one file.

    Attributes:
        began: time of the first event; inf if there is none.
        points: by tag, `[n, 3]`: steps, times in seconds, values.
        damage: what ended reading before the end of the file; None if nothing did.
    """

    began: float = math.inf
    points: dict[str, FloatArray] = field(default_factory=dict)
    damage: str | None = None


def read_scalars(path: Path, tags: Collection[str] | None) -> Scalars:
    """Read a file's scalars, up to the first damage.

    Args:
        tags: which; None: all.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        return Scalars(damage=str(error))
    starts, lengths, damage = _records(content)
    short = np.flatnonzero(lengths <= _LONGEST)
    end = _first_damaged(content, starts, lengths, short)
    if end < len(starts):
        damage = "the checksum of a record is wrong"
    points = defaultdict[str, list[tuple[float, float, float]]](list)
    began = math.inf
    for index in _holding(content, starts, short[short < end], tags):
        event = _parsed(content[starts[index] : starts[index] + lengths[index]])
        began = event.wall_time if index == 0 else began
        for value in event.summary.value:
            if value.HasField("simple_value") and (tags is None or value.tag in tags):
                points[value.tag].append((event.step, event.wall_time, value.simple_value))
    return Scalars(began, {tag: np.array(part) for tag, part in points.items()}, damage)


def _holding(
    content: bytes, starts: Integers, records: Integers, tags: Collection[str] | None
) -> list[int]:
    """Return the records that hold one of the tags, and the first one, which has the time."""
    if tags is None:
        return records.tolist()
    places = [
        found.start() for tag in tags for found in re.finditer(re.escape(tag).encode(), content)
    ]
    holding = np.searchsorted(starts, places, "right") - 1
    return np.intersect1d(records, [0, *holding]).tolist()


def _parsed(payload: bytes) -> Event:
    try:
        return Event.FromString(payload)
    except DecodeError:
        return Event()


def _records(content: bytes) -> tuple[Integers, Integers, str | None]:
    """Return starts and lengths of the payloads, and what is damaged behind them."""
    starts, lengths, damage = list[int](), list[int](), None
    position = 0
    while position < len(content):
        length = _length(content[position : position + _BEFORE])
        behind = position + _BEFORE + (length or 0) + _CHECKSUM
        if length is None or behind > len(content):
            damage = "it ends within a record" if length is not None else "a length is wrong"
            break
        starts.append(position + _BEFORE)
        lengths.append(length)
        position = behind
    return np.array(starts, np.int64), np.array(lengths, np.int64), damage


@lru_cache(maxsize=4096)  # lengths repeat
def _length(head: bytes) -> int | None:
    """Return the length in the head of a record; None if its checksum is wrong."""
    if len(head) < _BEFORE:
        return 0  # the record is incomplete in any case
    is_intact = _are_intact(np.frombuffer(head, np.uint8)[None])[0]
    return int.from_bytes(head[:8], "little") if is_intact else None


def _first_damaged(content: bytes, starts: Integers, lengths: Integers, records: Integers) -> int:
    """Return the first of the records whose checksum is wrong; the number of all if none is."""
    end = len(starts)
    for length in np.unique(lengths[records]):
        alike = records[lengths[records] == length]
        rows = sliding_window_view(np.frombuffer(content, np.uint8), length + _CHECKSUM)
        at_once = _AT_ONCE // (int(length) + 1)
        for part in np.split(alike, range(at_once, len(alike), at_once)):
            end = min(end, *part[~_are_intact(rows[starts[part]])], end)
    return int(end)


def _are_intact(rows: Bytes) -> npt.NDArray[np.bool_]:
    """Compare the masked CRC-32C of each row with that in its last four bytes.

    CRC is linear: it is the sum modulo 2 over the bytes, each with as many zeros behind it as there
    are bytes. To start from a register of ones is to flip the first four bytes.
    """
    content, stored = rows[:, :-_CHECKSUM].copy(), rows[:, -_CHECKSUM:].copy().view("<u4")[:, 0]
    size = content.shape[1]
    if size < 4:  # shorter than any event
        return np.zeros(len(rows), np.bool_)
    content[:, :4] ^= 0xFF
    terms = _remainders((size - 1).bit_length())[np.arange(size - 1, -1, -1), content]
    sums: npt.NDArray[np.uint32] = ~np.bitwise_xor.reduce(terms, axis=1)
    masked = (sums >> 15 | sums << 17) + np.uint32(0xA282EAD8)
    return masked == stored


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
