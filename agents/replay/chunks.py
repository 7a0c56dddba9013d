"""Splits a ring into chunks for checkpoints; a complete chunk is saved only once."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from agents.replay.ring import STEP_FIELDS, WHOLE, Ring, stretches
from networks.mirror import Array

Chunk = dict[str, Tensor]

_CHUNKS = 64
"""Approximate number of chunks of a ring; more if they would be large."""
_LARGE = 1 << 24
"""Bytes that a chunk takes at most: the newest one is saved again with every checkpoint."""
_UNSETTLED = 2
"""Newest steps whose end flags may still change, because an environment may have restarted."""
_OBSERVATIONS = "observations"


def chunks_of(
    ring: Ring, *, first: int, first_step: int, newest: int
) -> dict[str, Callable[[], Chunk]]:
    """Return the chunks that hold the rows from `first` to `newest`: name to a read function.

    A chunk is a fixed range of rows. `steps-<row>-<row>` is complete and never changes, except that
    rows which the ring has overwritten since are missing at its front. The names of incomplete
    chunks are never used again.

    Args:
        first: the oldest row needed.
        first_step: the first row ever that is a step.
        newest: the row without a step.
    """
    most = _LARGE * ring.num_rows // ring.allocated_bytes  # rows
    length = ring.stride * max(1, min(ring.num_rows // _CHUNKS, most) // ring.stride)
    found: dict[str, Callable[[], Chunk]] = {}
    for start in range(first // length * length, newest + 1, length):
        end = start + length
        is_final = end <= newest - _UNSETTLED
        name = f"steps-{start}-{end}" if is_final else f"newest-{start}-{newest}"
        rows = range(max(start, first), min(end, newest + 1))
        found[name] = partial(_read, ring, rows, first_step=first_step, newest=newest)
    return found


def _read(ring: Ring, rows: range, *, first_step: int, newest: int) -> Chunk:
    chunk = {"row": torch.tensor([rows.start])}
    for name, field in ring.fields.items():
        chunk[name] = _stretch(field, rows)
        if rows.stop > newest and name in STEP_FIELDS:
            chunk[name][-1] = 0  # not known yet
    for name, frames in ring.frames.items():
        chunk[_key(name)] = _stretch(frames, rows)
    numbers = _kept(ring, rows, first_step=first_step, newest=newest)
    if ring.layout.state_size and numbers:
        chunk["states"] = _stretch(ring.states, numbers)
    return chunk


def _stretch(array: Array, rows: range) -> Tensor:
    """Copy rows from a ring array."""
    slots = [array[each] for each, _ in stretches(rows.start, len(rows), len(array))]
    return torch.from_numpy(np.concatenate(slots))


def restore(
    ring: Ring, chunks: Mapping[str, Chunk], *, first: int, first_step: int, newest: int
) -> None:
    """Restore the rows from `first` to `newest`; each chunk is looked up once.

    Raises:
        ValueError: rows are missing.
    """
    missing = newest + 1 - first
    for name in chunks:
        chunk = chunks[name]
        start = int(chunk["row"])
        rows = range(max(start, first), min(start + len(chunk["rewards"]), newest + 1))
        skipped = rows.start - start
        for slots, taken in stretches(rows.start, len(rows), ring.num_rows):
            given = slice(taken.start + skipped, taken.stop + skipped)
            for key, field in ring.fields.items():
                field[slots] = chunk[key][given].numpy()
            for part, frames in ring.frames.items():
                frames[slots] = chunk[_key(part)][given].numpy()
        if "states" in chunk:
            saved = _kept(ring, range(start, rows.stop), first_step=first_step, newest=newest)
            numbers = _kept(ring, rows, first_step=first_step, newest=newest)
            kept = chunk["states"].numpy()  # ends at the same step, may start later
            ring.keep(numbers.start, kept[len(kept) - (saved.stop - numbers.start) :])
        missing -= len(rows)
    if missing:
        raise ValueError(f"{missing} of the replay's {newest + 1 - first} rows are missing")


def _key(part: str) -> str:
    return f"{_OBSERVATIONS}.{part}" if part != WHOLE else _OBSERVATIONS


def _kept(ring: Ring, rows: range, *, first_step: int, newest: int) -> range:
    """Numbers of the states stored for these rows: state k is before step `k * stride`."""
    first, end = max(rows.start, first_step), min(rows.stop, newest)
    return range(-(-first // ring.stride), -(-end // ring.stride))
