"""Uniform and prioritised sampling of replay windows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from agents.replay.ring import stretches
from networks.mirror import Array

_FAN_OUT = 32  # measured: of powers of two the fastest for a million leaves


class SumTree:
    """Sum tree of `capacity` leaves >= 0, with 32 children per node.

    Sums are always recomputed from their children. Rounding errors do not accumulate, and equal
    leaves make an equal tree, whatever their history.

    Attributes:
        leaves: float32, `[capacity]`; initially 0.
        leaf_bytes: memory per leaf, with its share of the inner nodes.
    """

    leaf_bytes = 4 + 8 / (_FAN_OUT - 1)

    def __init__(self, capacity: int) -> None:
        count = -(-capacity // _FAN_OUT)
        self._levels = [np.zeros((count, _FAN_OUT), np.float32)]  # from the leaves up
        while count > 1:
            count = -(-count // _FAN_OUT)
            self._levels.append(np.zeros((count, _FAN_OUT), np.float64))
        self._capacity = capacity
        self._view()

    def _view(self) -> None:
        self._flat = [level.reshape(-1) for level in self._levels]
        self.leaves = self._flat[0][: self._capacity]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy: what were views of the levels would be arrays of their own."""
        self.__dict__.update(state)
        self._view()

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(self._levels[-1].sum(dtype=np.float64))

    def fill(self, slots: slice, values: Array | float) -> None:
        """Set the leaves of a slice, which must not be empty."""
        self.leaves[slots] = values
        first, last = slots.start, slots.stop - 1
        for level, above in zip(self._levels, self._flat[1:], strict=False):
            first, last = first // _FAN_OUT, last // _FAN_OUT
            above[first : last + 1] = level[first : last + 1].sum(1, dtype=np.float64)

    def set(self, slots: Array, values: Array) -> None:
        """Set leaves `[N]`; for a repeated leaf the last value counts."""
        self.leaves[slots] = values
        for level, above in zip(self._levels, self._flat[1:], strict=False):
            slots = slots // _FAN_OUT
            above[slots] = level.take(slots, axis=0).sum(1, dtype=np.float64)

    def find(self, fractions: Array) -> tuple[Array, Array]:
        """Find the leaves where the cumulative sum passes fractions of the total; never empty ones.

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
            # Rounding may have moved the rest past the last leaf that is not empty.
            np.minimum(rest, np.nextafter(sums[:, -1], 0.0), out=rest)
            child = (sums > rest[:, None]).argmax(1)
            places = np.arange(0, values.size, _FAN_OUT) + child
            found = values.take(places).astype(np.float64)
            rest -= sums.take(places) - found
            np.maximum(rest, 0.0, out=rest)
            slots = slots * _FAN_OUT + child
        return slots, found


_EPSILON = 1e-6  # added to priorities, so that none is 0 (Schaul et al. 2016, section 3.3)
_MAX_ROUNDS = 16


class Sampler(ABC):
    """Samples windows by number.

    Windows are numbered in the order of their creation; the slot of a number is the number modulo
    the capacity. Windows from `first` to `end` are known, and most of them can be drawn.

    Attributes:
        first, end: range of the known windows.
        num_windows: number of windows that can be drawn.
        window_bytes: memory per window.
        uses_priorities: whether `update` has an effect.
    """

    window_bytes: ClassVar[float]
    uses_priorities: ClassVar[bool]
    first = 0
    end = 0
    num_windows = 0
    _capacity = 0

    def allocate(self, capacity: int, first: int) -> None:
        """Start without windows; `first` is the number of the first one to come."""
        self._capacity, self.first, self.end, self.num_windows = capacity, first, first, 0
        self._allocate()

    def advance(self, first: int, end: int, is_drawable: Array) -> None:
        """Remove windows before `first` and add those up to `end`.

        Args:
            is_drawable: bool, for the last windows up to `end`, which are the new ones.
        """
        forgotten, new = min(first, self.end) - self.first, len(is_drawable)
        if forgotten > 0:
            for slots, _ in stretches(self.first, forgotten, self._capacity):
                self._exclude(slots)
        if new:
            for slots, taken in stretches(end - new, new, self._capacity):
                self._set(slots, is_drawable[taken])
            self.num_windows += int(np.count_nonzero(is_drawable))
        self.first, self.end = first, end

    def retract(self, numbers: Array) -> None:
        """Exclude known windows from sampling."""
        self._exclude(numbers % self._capacity)

    def _exclude(self, slots: Array | slice) -> None:
        self.num_windows -= self._count(slots)
        self._set(slots, False)

    @abstractmethod
    def draw(
        self, count: int, generator: np.random.Generator, *, importance_exponent: float
    ) -> tuple[Array, Tensor | None]:
        """Draw numbers `[N]` of windows, with replacement, and their importance weights `[N]`."""

    def update(self, numbers: Array, priorities: Array) -> None:
        """Update priorities of windows; removed windows are ignored."""
        return  # nothing is kept

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state that the stored steps do not imply, as tensors and JSON values."""
        return {}, {}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore a saved state, after `advance` has added the windows."""
        return

    @abstractmethod
    def _allocate(self) -> None:
        """Allocate `_capacity` windows, none of which can be drawn."""

    @abstractmethod
    def _count(self, slots: Array | slice) -> int:
        """Count the windows that can be drawn."""

    @abstractmethod
    def _set(self, slots: Array | slice, is_drawable: Array | bool) -> None:
        """Add windows, or exclude them from sampling."""


class UniformSampler(Sampler):
    """Draws windows uniformly."""

    window_bytes = 1.0
    uses_priorities = False

    def _allocate(self) -> None:
        self._drawable = np.zeros(self._capacity, np.bool_)

    def _count(self, slots: Array | slice) -> int:
        return int(np.count_nonzero(self._drawable[slots]))

    def _set(self, slots: Array | slice, is_drawable: Array | bool) -> None:
        self._drawable[slots] = is_drawable

    def draw(
        self, count: int, generator: np.random.Generator, *, importance_exponent: float
    ) -> tuple[Array, None]:
        """Draw numbers `[N]` of windows, with replacement, without weights."""
        numbers = generator.integers(self.first, self.end, size=count)
        for _ in range(_MAX_ROUNDS):  # usually few cannot be drawn
            is_drawable = self._drawable.take(numbers % self._capacity)
            if np.count_nonzero(is_drawable) == count:  # ten times faster than all()
                break
            missing = np.flatnonzero(~is_drawable)
            numbers[missing] = generator.integers(self.first, self.end, size=len(missing))
        else:
            every = np.arange(self.first, self.end)
            every = every[self._drawable.take(every % self._capacity)]
            numbers = every[generator.integers(len(every), size=count)]
        return numbers, None


class PrioritizedSampler(Sampler):
    """Draws window i with probability `P(i) = p_i^a / sum_k p_k^a`, p its latest priority.

    New windows get the largest priority so far, so that each is drawn soon. A batch is stratified:
    one window from each of N ranges of equal probability. The importance weights
    `(N P(i))^-b / max_j (N P(j))^-b` correct the bias, fully if b = 1.

    Source: Schaul et al. (2016), "Prioritized experience replay", arXiv:1511.05952, section 3.3.

    Args:
        priority_exponent: a; 0 samples uniformly.
    """

    window_bytes = SumTree.leaf_bytes
    uses_priorities = True

    def __init__(self, *, priority_exponent: float) -> None:
        self._exponent = priority_exponent
        self._largest = 1.0

    def _allocate(self) -> None:
        self._tree = SumTree(self._capacity)

    def _count(self, slots: Array | slice) -> int:
        return int(np.count_nonzero(self._tree.leaves[slots]))

    def _set(self, slots: Array | slice, is_drawable: Array | bool) -> None:
        leaves = np.where(is_drawable, self._leaf(self._largest), 0.0)
        if isinstance(slots, slice):
            self._tree.fill(slots, leaves)
        else:
            self._tree.set(slots, leaves)

    def _leaf(self, priorities: Any) -> Any:
        return (priorities + _EPSILON) ** self._exponent

    def draw(
        self, count: int, generator: np.random.Generator, *, importance_exponent: float
    ) -> tuple[Array, Tensor]:
        """Draw numbers `[N]` of windows and importance weights `[N]` with a maximum of 1."""
        fractions = (np.arange(count) + generator.random(count)) / count
        slots, leaves = self._tree.find(fractions)
        numbers = self.first + (slots - self.first) % self._capacity
        weights = (leaves.min() / leaves) ** importance_exponent
        return numbers, torch.from_numpy(weights.astype(np.float32))

    def update(self, numbers: Array, priorities: Array) -> None:
        """Update priorities `[N]`, each >= 0; for a repeated number the last one counts.

        Windows that were removed, even if their slot is used again, and priorities that are not
        finite are ignored.
        """
        slots = numbers % self._capacity
        is_known = (numbers >= self.first) & (self._tree.leaves.take(slots) > 0)
        is_known &= np.isfinite(priorities)
        if not is_known.all():
            slots, priorities = slots[is_known], priorities[is_known]
        if not len(slots):
            return
        self._largest = max(self._largest, float(priorities.max()))
        self._tree.set(slots, self._leaf(priorities))

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the priorities of the known windows in order, and the largest priority so far."""
        slots = np.arange(self.first, self.end) % self._capacity
        leaves = torch.from_numpy(self._tree.leaves.take(slots))
        return {"priorities": leaves}, {"largest": self._largest}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore a saved state, after `advance` has added the windows."""
        self._largest = state["largest"]
        leaves = tensors["priorities"].numpy()
        for slots, taken in stretches(self.first, len(leaves), self._capacity):
            self._tree.fill(slots, leaves[taken])
