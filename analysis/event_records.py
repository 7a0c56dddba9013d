"""Reads scalars from event files, many records at once.

A record is the length of its payload, a checksum of that, the payload, and a checksum of it. A
payload is a protocol buffer: TensorFlow's message `Event`. Those that a run writes again and again
differ in time, step and values only, at equal places. So one of them is parsed, and the others are
read as columns: ten times faster than to parse each.
"""

import math
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

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
        tags: which; None: all. Checksums of payloads that hold none of them are not compared.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        return Scalars(damage=str(error))
    starts, lengths, damage = _records(content)
    if not len(starts):
        return Scalars(damage=damage)
    end, parts = len(starts), dict[str, list[FloatArray]]()
    for indices in _of_one_length(lengths):
        size = int(lengths[indices[0]]) + _CHECKSUM
        rows = sliding_window_view(np.frombuffer(content, np.uint8), size)[starts[indices]]
        while len(rows):
            layout = _Layout(rows[0, :-_CHECKSUM].tobytes())
            alike = layout.fits(rows)
            wanted = [tag for tag in layout.scalars if tags is None or tag in tags]
            # The first is checked anyway: an unknown layout may be that of a damaged record.
            checked = np.flatnonzero(alike)[: None if wanted else 1]
            end = min(end, *indices[checked][~_are_intact(rows[checked])], len(starts))
            for tag in wanted:
                parts.setdefault(tag, []).append(layout.points(tag, rows[alike], indices[alike]))
            rows, indices = rows[~alike], indices[~alike]
    first = content[starts[0] : starts[0] + lengths[0] + _CHECKSUM]
    return Scalars(
        began=float(_Layout(first[:-_CHECKSUM]).times(np.frombuffer(first, np.uint8)[None])[0]),
        points={tag: _in_order(part, end) for tag, part in parts.items()},
        damage="the checksum of a record is wrong" if end < len(starts) else damage,
    )


def _in_order(parts: list[FloatArray], end: int) -> FloatArray:
    """Join points, which begin with the numbers of their records, without those from `end` on."""
    points = np.concatenate(parts)
    points = points[points[:, 0].argsort(kind="stable")]
    return points[points[:, 0] < end, 1:]


def _of_one_length(lengths: Integers) -> Iterator[Integers]:
    """Yield numbers of records of equal length, some at a time."""
    for length in np.unique(lengths[lengths <= _LONGEST]):
        indices = np.flatnonzero(lengths == length)
        at_once = _AT_ONCE // (int(length) + 1)
        yield from np.split(indices, range(at_once, len(indices), at_once))


# ---- records


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


# ---- payloads

Span = tuple[int, int]
"""Start and end of a field's content."""
# Keys of fields: number and wire type.
_TIME, _STEP, _SUMMARY = 1 << 3 | 1, 2 << 3 | 0, 5 << 3 | 2
_TAG, _SCALAR = 1 << 3 | 2, 2 << 3 | 5


class _Layout:
    """Where time, step and scalars are in a payload, and in those like it.

    Attributes:
        scalars: spans of values, by tag; none in what is not an event.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = np.frombuffer(payload, np.uint8)
        self._fixed = np.full(len(payload), 0xFF, np.uint8)  # bits that are equal in all
        self._time: Span = (0, 0)
        self._step: Span = (0, 0)
        self.scalars: dict[str, Span] = {}
        with suppress(IndexError, KeyError, ValueError):
            self._parse(payload)

    def _parse(self, payload: bytes) -> None:
        for key, span in _fields(payload, (0, len(payload))):
            if key == _TIME:
                self._time = span
                self._fixed[slice(*span)] = 0
            elif key == _STEP:
                self._step = span
                self._fixed[slice(*span)] = 0x80  # whether another byte follows
            elif key == _SUMMARY:
                for _, value in _fields(payload, span):
                    self._parse_value(payload, dict(_fields(payload, value)))

    def _parse_value(self, payload: bytes, spans: dict[int, Span]) -> None:
        if _TAG in spans and _SCALAR in spans:
            self.scalars[payload[slice(*spans[_TAG])].decode()] = spans[_SCALAR]
            self._fixed[slice(*spans[_SCALAR])] = 0

    def fits(self, rows: Bytes) -> npt.NDArray[np.bool_]:
        """Tell which rows differ from the payload in time, step and values only."""
        differences = (rows[:, :-_CHECKSUM] ^ self._payload) & self._fixed
        is_alike: npt.NDArray[np.bool_] = (differences == 0).all(axis=1)
        return is_alike

    def times(self, rows: Bytes) -> FloatArray:
        """Return the rows' times, in seconds."""
        return _column(rows, self._time, "<f8")

    def points(self, tag: str, rows: Bytes, indices: Integers) -> FloatArray:
        """Return, for each row, its number, step, time and the tag's value, `[n, 4]`."""
        steps = np.zeros(len(rows))
        for place, column in enumerate(range(*self._step)):
            steps += (rows[:, column] & 0x7F) * 128.0**place
        values = _column(rows, self.scalars[tag], "<f4")
        return np.stack([indices, steps, self.times(rows), values], axis=1)


def _column(rows: Bytes, span: Span, kind: str) -> FloatArray:
    """Return a number from each row; zeros if it is left out."""
    if span == (0, 0):
        return np.zeros(len(rows))
    return rows[:, slice(*span)].copy().view(kind)[:, 0].astype(np.float64)


def _fields(payload: bytes, span: Span) -> Iterator[tuple[int, Span]]:
    """Yield key and span of each field of a protocol buffer.

    Raises:
        IndexError, KeyError, ValueError: it is none.
    """
    position, end = span
    while position < end:
        key, position = _varint(payload, position)
        if key & 7 == 2:
            length, position = _varint(payload, position)
        elif key & 7 == 0:
            length = _varint(payload, position)[1] - position
        else:
            length = {1: 8, 5: 4}[key & 7]
        if position + length > end:
            raise ValueError
        yield key, (position, position + length)
        position += length


def _varint(payload: bytes, position: int) -> tuple[int, int]:
    """Return an integer of variable length, and the position behind it."""
    value = shift = 0
    while True:
        byte = payload[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
