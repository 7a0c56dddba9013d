"""Preallocated storage for one trajectory, with the views that make writing it cheap."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.trajectory import Trajectory
from networks.heads.acting import PolicyHead
from networks.mirror import Array
from networks.observations import Arrays, Observations, any_part, map_observations, parts_of


class StepRow(NamedTuple):
    """One step: what the policy reads, and what the step is written to."""

    observations: Arrays
    is_first: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_is_first: Array
    next_observations: Arrays


class Storage:
    """One trajectory's tensors, and views of them: indexing a tensor costs microseconds.

    Attributes:
        rows: of every step; none before `allocate_actions`.
    """

    def __init__(self, length: int, first: Any) -> None:
        """Allocate `length` steps of environments that emit batches such as `first`."""

        def allocate(batch: Any) -> Tensor:
            array = np.asarray(batch)
            return torch.zeros(length + 1, *array.shape, dtype=storage_dtype(array.dtype))

        self.observations: Observations = map_observations(allocate, first)
        num_envs = any_part(self.observations).shape[1]
        self.is_first = torch.zeros(length + 1, num_envs, dtype=torch.bool)
        self.rewards = torch.zeros(length, num_envs)
        self.terminated, self.truncated = torch.zeros(2, length, num_envs, dtype=torch.bool)
        self.actions = torch.zeros(0)
        self.rows: list[StepRow] = []
        self._viewed: Trajectory | None = None
        arrays = [part.numpy() for part in parts_of(self.observations)]
        self._seams = [(each[0], each[-1]) for each in (self.is_first.numpy(), *arrays)]
        self._resets = self.is_first.numpy()[1:]
        self._ends = (self.terminated.numpy(), self.truncated.numpy())
        numbers = (self.rewards.numpy(), *arrays)
        self._flat = [array.reshape(-1) for array in numbers if array.dtype.kind == "f"]

    def _views(self, row: int) -> Arrays:
        return map_observations(lambda part: part[row].numpy(), self.observations)

    def open(self, observations: Any, is_first: Any) -> None:
        """Start the next trajectory with these observations, not with those of the last step."""
        put(self._views(-1), observations)
        self.is_first[-1] = is_first

    def rewind(self) -> None:
        """Start with the last trajectory's final observation, and without ends of episodes."""
        for first, last in self._seams:
            first[...] = last
        for flags in self._ends:
            flags.fill(False)

    def allocate_actions(self, head: PolicyHead) -> None:
        """Allocate actions in the policy's shape and dtype, once."""
        size = (*self.rewards.shape, *head.action_shape)
        if self.rows and self.actions.shape == size and self.actions.dtype == head.action_dtype:
            return
        self.actions = torch.zeros(size, dtype=head.action_dtype)
        self._viewed = None
        fields = (self.actions, self.rewards, self.terminated, self.truncated)
        self.rows = []
        for step in range(len(self.rewards)):
            action, reward, terminated, truncated = (field[step].numpy() for field in fields)
            read = self._views(step), self.is_first[step].numpy()
            ahead = self._resets[step], self._views(step + 1)
            self.rows.append(StepRow(*read, action, reward, terminated, truncated, *ahead))

    @property
    def valid_steps(self) -> int:
        """Count the steps, reset steps excluded."""
        return self._resets.size - int(np.count_nonzero(self._resets))

    @property
    def is_finite(self) -> bool:
        """Quick check that all values are finite; False only means that each must be checked."""
        # A sum of squares is finite only if all are, and vdot gives no overflow warning.
        return all(math.isfinite(np.vdot(numbers, numbers)) for numbers in self._flat)

    def trajectory(self, *, state: Array) -> Trajectory:
        """View it as a trajectory, with the memory's initial state."""
        if self._viewed is not None and not state.size:
            return self._viewed
        ends = {"terminated": self.terminated, "truncated": self.truncated}
        steps = self.observations, self.is_first, self.actions, self.rewards
        self._viewed = Trajectory(*steps, **ends, state=torch.from_numpy(state))
        return self._viewed


def put(row: Arrays, observations: Any) -> None:
    """Copy a batch of observations, which its environments will overwrite."""
    if isinstance(row, dict):
        for name, part in row.items():
            part[...] = observations[name]
    else:
        row[...] = observations


def storage_dtype(dtype: Any) -> torch.dtype:
    """Keep the environment's dtype, except float64: networks compute in float32."""
    stored: torch.dtype = torch.from_numpy(np.zeros((), dtype)).dtype
    return torch.float32 if stored == torch.float64 else stored
