"""Ring buffer of steps in preallocated arrays."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor

from agents.trajectory import Trajectory
from networks.heads.acting import PolicyHead
from networks.mirror import Array
from networks.observations import Observations, Shape

WHOLE = ""
"""Name of an observation that has no parts."""
_SMALL = 256
"""Bytes up to which a part of an observation is stored in the step's record."""
_PART = "observations."
"""Prefix of observation parts in the record's field names."""


@dataclass(frozen=True)
class Column:
    """Shape and dtype of one field of a step."""

    shape: Shape
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """Bytes per step."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class StepLayout:
    """The fields of a stored step.

    Attributes:
        parts: parts of an observation by name, with a single frame of frame stacks; an observation
            without parts has the name "".
        frame_stacks: number of frames of each part that is a frame stack.
        action: as stored; integers take 4 bytes, as no space has 2^31 actions.
        state_size: size of a memory state; 0 if none is stored.
    """

    parts: Mapping[str, Column]
    frame_stacks: Mapping[str, int]
    action: Column
    state_size: int

    def __post_init__(self) -> None:
        """Sort the parts, so that equal observations are packed alike."""
        object.__setattr__(self, "parts", dict(sorted(self.parts.items())))

    @staticmethod
    def of(
        space: Space[object], frame_stacks: Mapping[str, int], head: PolicyHead, state_size: int
    ) -> "StepLayout":
        """Return the layout for an observation space, a policy's own actions and a state size."""
        leaves = space.spaces if isinstance(space, spaces.Dict) else {WHOLE: space}
        parts = {}
        for name, part in leaves.items():
            dtype = np.dtype(np.float32 if part.dtype == np.float64 else part.dtype)
            parts[name] = Column((part.shape or ())[name in frame_stacks :], dtype)
        is_float = head.action_dtype.is_floating_point
        action = Column(head.action_shape, np.dtype(np.float32 if is_float else np.int32))
        return StepLayout(parts, frame_stacks, action, state_size)

    def refuse_other(self, parts: Mapping[str, Array]) -> None:
        """Refuse observations that a stored step could not hold.

        Raises:
            ValueError: fractions, of a space of integers.
        """
        for name, part in parts.items():
            stored = self.parts[name].dtype
            if part.dtype.kind == "f" and stored.kind != "f":
                raise ValueError(
                    f"{f'observation {name}'.strip()}: its space has dtype {stored}, "
                    f"and the environment sends {part.dtype}; give the space that dtype"
                )

    @property
    def packed(self) -> list[str]:
        """Observation parts stored in the record; the others have separate arrays."""
        return [name for name, part in self.parts.items() if part.bytes <= _SMALL]

    @property
    def record(self) -> np.dtype:
        """Dtype of a step without large observations, packed so that one gather reads it."""
        small = [
            (_PART + name, self.parts[name].dtype, self.parts[name].shape) for name in self.packed
        ]
        return np.dtype(
            [
                *small,
                ("rewards", np.float32),
                ("actions", self.action.dtype, self.action.shape),
                ("is_first", np.bool_),
                ("terminated", np.bool_),
                ("truncated", np.bool_),
                ("refilled", np.bool_),  # the frame stack repeats its newest frame
            ],
            align=True,
        )

    @property
    def step_bytes(self) -> int:
        """Bytes per step without memory states."""
        large = (part.bytes for name, part in self.parts.items() if name not in self.packed)
        return self.record.itemsize + sum(large)


def arrays_of(observations: Observations) -> dict[str, Array]:
    """View observations as numpy arrays by name."""
    if isinstance(observations, Tensor):
        return {WHOLE: observations.numpy()}
    return {name: part.numpy() for name, part in observations.items()}


_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def in_words(size: int) -> str:
    """Format a number of bytes with three significant digits."""
    power = min((len(str(size)) - 1) // 3, len(_UNITS) - 1)
    return f"{size / 1000**power:.3g} {_UNITS[power]}"


STEP_FIELDS = ("rewards", "actions", "terminated", "truncated")
"""Fields that the newest row, an observation without a step, does not have yet."""


def stretches(first: int, count: int, period: int) -> list[tuple[slice, slice]]:
    """Split `count` numbers from `first` on into `(ring slots, source slice)` pairs."""
    slot = first % period
    head = min(count, period - slot)
    found = [(slice(slot, slot + head), slice(0, head))]
    if head < count:
        found.append((slice(0, count - head), slice(head, count)))
    return found


class Ring:
    """The latest `num_rows` rows of `num_envs` environments; row t lies in slot `t % num_rows`.

    A row is a step with the observation before it; the newest row is an observation without a step.
    Memory states are stored every `stride` steps. Rows that were never written take no memory: the
    operating system allocates pages on first use.

    Attributes:
        size: rows summed over environments, R B.
        fields: views `[R, B, ...]` of the packed records, by name.
        frames: observations `[R, B, ...]` by part, with the newest frame of frame stacks. Small
            parts are views of the records too.
        states: memory states before every `stride`-th step, `[R / stride, B, S]`.
    """

    def __init__(self, layout: StepLayout, *, num_rows: int, num_envs: int, stride: int) -> None:
        """Allocate; `stride` divides `num_rows`."""
        self.layout = layout
        self.num_rows, self.num_envs, self.stride = num_rows, num_envs, stride
        self.size = num_rows * num_envs
        self._packed = np.empty((num_rows, num_envs), layout.record)
        self._unpacked = {
            name: np.empty((num_rows, num_envs, *part.shape), part.dtype)
            for name, part in layout.parts.items()
            if name not in layout.packed
        }
        self.states = np.empty((num_rows // stride, num_envs, layout.state_size), np.float32)
        self._view()

    def _view(self) -> None:
        """Make all views of the arrays."""
        packed, unpacked = self._packed, self._unpacked
        self._records = packed.reshape(-1)
        names = [name for name in packed.dtype.names or () if not name.startswith(_PART)]
        self.fields: dict[str, Array] = {name: packed[name] for name in names}
        self.frames: dict[str, Array] = {
            name: unpacked[name] if name in unpacked else packed[_PART + name]
            for name in self.layout.parts
        }
        self._large = {name: rows.reshape(-1, *rows.shape[2:]) for name, rows in unpacked.items()}
        count = len(self.states) * self.num_envs
        self._flat_states = self.states.reshape(count, self.layout.state_size)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy: what were views of one array would be arrays of their own."""
        self.__dict__.update(state)
        self._view()

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all arrays, written or not."""
        arrays = (self._records, self.states, *self._large.values())
        return sum(array.nbytes for array in arrays)

    def write(
        self, step: int, trajectory: Trajectory, frames: Mapping[str, Array], refilled: Array | None
    ) -> None:
        """Write T steps from `step` on, and the observation after them.

        Args:
            frames: `[T + 1, B, ...]` by part.
            refilled: `[T + 1, B]`; None without frame stacks.
        """
        steps, fields = trajectory.arrays, self.fields
        is_first = steps["is_first"]
        for slots, taken in stretches(step, len(is_first) - 1, self.num_rows):
            for name in STEP_FIELDS:
                fields[name][slots] = steps[name][taken]
        for slots, taken in stretches(step, len(is_first), self.num_rows):
            fields["is_first"][slots] = is_first[taken]
            fields["refilled"][slots] = False if refilled is None else refilled[taken]
            for name, frame in frames.items():
                self.frames[name][slots] = frame[taken]

    def keep(self, first: int, states: Array) -> None:
        """Store states `[K, B, S]` before steps `first * stride`, `(first + 1) * stride`, ..."""
        for slots, taken in stretches(first, len(states), len(self.states)):
            self.states[slots] = states[taken]

    def states_at(self, numbers: Array) -> Array:
        """Copy states `[N, S]`: number `k * B + b` is environment b's before step `k * stride`."""
        return _gathered(self._flat_states, numbers % len(self._flat_states))

    def frames_at(self, name: str, rows: Array) -> Array:
        """Read one part of the observations `[*N, ...]` of rows `[*N]`."""
        if name in self._large:
            return _gathered(self._large[name], rows)
        # a field by itself would be copied as a whole first
        part: Array = _gathered(self._records, rows)[_PART + name]
        return part

    def window(self, rows: Array, state: Tensor, rebuilt: Mapping[str, Array]) -> Trajectory:
        """Read rows `step * B + environment`, `[W + 1, N]`, as a trajectory of W steps.

        Args:
            state: memory state before the first step.
            rebuilt: the frame stacks `[W + 1, N, ...]` of observations, by part.
        """
        records = _gathered(self._records, rows)
        tensors: dict[str, Tensor] = {}
        for name in self.frames:
            if name in rebuilt:
                part = rebuilt[name]
            elif name in self._large:
                part = _gathered(self._large[name], rows)
            else:
                part = records[_PART + name]
            tensors[name] = torch.from_numpy(part)
        steps = records[:-1]
        actions = steps["actions"]
        if actions.dtype == np.int32:
            actions = actions.astype(np.int64)
        return Trajectory(
            observations=tensors.get(WHOLE, tensors),
            is_first=torch.from_numpy(records["is_first"]),
            actions=torch.from_numpy(actions),
            rewards=torch.from_numpy(steps["rewards"]),
            terminated=torch.from_numpy(steps["terminated"]),
            truncated=torch.from_numpy(steps["truncated"]),
            state=state,
        )


def _gathered(source: Array, rows: Array) -> Array:
    """Copy rows into memory of PyTorch's, which is aligned to cache lines.

    At another alignment products of small matrices may differ in the last bit, and numpy's memory
    is aligned otherwise in another process: a resumed run would not be the same.
    """
    shape = (*rows.shape, *source.shape[1:])
    size = math.prod(shape) * source.dtype.itemsize
    found: Array = torch.empty(size, dtype=torch.uint8).numpy().view(source.dtype).reshape(shape)
    return source.take(rows, axis=0, out=found, mode="clip")
