"""A tree of sums: finds where a running total passes a number, among millions, in a few steps."""

import numpy as np

from networks.mirror import Array

_FAN_OUT = 32  # measured: of powers of two the fastest for a million leaves


class SumTree:
    """Numbers >= 0 in `capacity` leaves, and above them the sums of every 32.

    Sums are always taken anew from what is below them: no error builds up, and equal leaves make
    an equal tree, whatever became of them before.

    Attributes:
        leaves: float32, `[capacity]`; all 0 at first.
        leaf_bytes: memory that a leaf takes, with its share of what is above it.
    """

    leaf_bytes = 4 + 8 / (_FAN_OUT - 1)

    def __init__(self, capacity: int) -> None:
        """Allocate."""
        count = -(-capacity // _FAN_OUT)
        self._levels = [np.zeros((count, _FAN_OUT), np.float32)]  # from the leaves up
        while count > 1:
            count = -(-count // _FAN_OUT)
            self._levels.append(np.zeros((count, _FAN_OUT), np.float64))
        self._flat = [level.reshape(-1) for level in self._levels]
        self.leaves = self._flat[0][:capacity]

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(self._levels[-1].sum(dtype=np.float64))

    def count(self, slots: slice) -> int:
        """Count the leaves above 0 in a stretch."""
        return int(np.count_nonzero(self.leaves[slots]))

    def fill(self, slots: slice, values: Array | float) -> None:
        """Set the leaves of a stretch, which is not empty."""
        self.leaves[slots] = values
        first, last = slots.start, slots.stop - 1
        for level, above in zip(self._levels, self._flat[1:], strict=False):
            first, last = first // _FAN_OUT, last // _FAN_OUT
            above[first : last + 1] = level[first : last + 1].sum(1, dtype=np.float64)

    def set(self, slots: Array, values: Array) -> None:
        """Set leaves `[N]`; of several values for one leaf the last counts."""
        self.leaves[slots] = values
        for level, above in zip(self._levels, self._flat[1:], strict=False):
            slots = slots // _FAN_OUT
            above[slots] = level.take(slots, axis=0).sum(1, dtype=np.float64)

    def find(self, fractions: Array) -> tuple[Array, Array]:
        """Find the leaves at which the running sum passes fractions of the total; no empty ones.

        Args:
            fractions: `[N]` in [0, 1).

        Returns:
            Slots `[N]` and the leaves' values `[N]`, float64.
        """
        top = self._levels[-1][0].cumsum(dtype=np.float64)
        rest = fractions * top[-1]
        slots = np.zeros(len(rest), np.int64)
        for level in reversed(self._levels):
            values = level.take(slots, axis=0)
            sums = values.cumsum(1, dtype=np.float64)
            # Rounding may have pushed the rest to the end, where leaves may be empty.
            np.minimum(rest, np.nextafter(sums[:, -1], 0.0), out=rest)
            child = (sums > rest[:, None]).argmax(1)
            places = np.arange(0, values.size, _FAN_OUT) + child
            found = values.take(places).astype(np.float64)
            rest -= sums.take(places) - found
            np.maximum(rest, 0.0, out=rest)
            slots = slots * _FAN_OUT + child
        return slots, found
