"""Preallocated storage for one trajectory, with the views that make writing it cheap."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.trajectory import Trajectory
from networks.heads.acting import PolicyHead
from networks.mirror import Array
from networks.observations import Observations, any_part, map_observations


class Storage:
    """One trajectory's tensors, and views of them: indexing a tensor costs microseconds.

    Attributes:
        observations_at: what was observed at each step, ready for acting.
        action_array, reward_array, terminated_array, truncated_array, is_first_array: numpy views.
    """

    def __init__(self, length: int, first: Any) -> None:
        """Allocate `length` steps of environments that emit batches such as `first`."""
        self.length = length

        def allocate(batch: Any) -> Tensor:
            array = np.asarray(batch)
            return torch.zeros(length + 1, *array.shape, dtype=storage_dtype(array.dtype))

        self.observations: Observations = map_observations(allocate, first)
        parts = self.observations
        if isinstance(parts, dict):
            self.observations_at: list[Observations] = [
                {name: part[step] for name, part in parts.items()} for step in range(length + 1)
            ]
        else:
            self.observations_at = list(parts.unbind())
        num_envs = any_part(parts).shape[1]
        self._arrays: Any = map_observations(lambda part: part.numpy(), parts)
        size = (length, num_envs)
        self.is_first = torch.zeros(length + 1, num_envs, dtype=torch.bool)
        self.rewards = torch.zeros(size)
        self.terminated = torch.zeros(size, dtype=torch.bool)
        self.truncated = torch.zeros(size, dtype=torch.bool)
        self.actions = torch.zeros(0)
        self.is_first_at = self.is_first.unbind()
        self.action_array: Array = self.actions.numpy()
        self.is_first_array = self.is_first.numpy()
        self.reward_array = self.rewards.numpy()
        self.terminated_array = self.terminated.numpy()
        self.truncated_array = self.truncated.numpy()

    def put(self, row: int, observations: Any) -> None:
        """Copy a batch of observations, which its environments will overwrite."""
        arrays = self._arrays
        if isinstance(arrays, dict):
            for name, array in arrays.items():
                array[row] = observations[name]
        else:
            arrays[row] = observations

    def rewind(self) -> None:
        """Begin with the observation that the last trajectory ended on."""
        arrays = self._arrays
        for array in arrays.values() if isinstance(arrays, dict) else (arrays,):
            array[0] = array[-1]
        self.is_first[0] = self.is_first[-1]

    def allocate_actions(self, head: PolicyHead) -> None:
        """Allocate actions as the policy makes them, once."""
        size = (*self.rewards.shape, *head.action_shape)
        if self.actions.shape != size or self.actions.dtype != head.action_dtype:
            self.actions = torch.zeros(size, dtype=head.action_dtype)
            self.action_array = self.actions.numpy()

    @property
    def valid_steps(self) -> int:
        """Count the steps that do more than reset."""
        is_first = self.is_first_array[1:]
        return int(is_first.size - np.count_nonzero(is_first))

    def trajectory(self, *, state: Tensor) -> Trajectory:
        """View it as a trajectory, with the memory's state before its first observation."""
        return Trajectory(
            observations=self.observations,
            is_first=self.is_first,
            actions=self.actions,
            rewards=self.rewards,
            terminated=self.terminated,
            truncated=self.truncated,
            state=state,
        )


def storage_dtype(dtype: Any) -> torch.dtype:
    """Keep the environment's own dtype, but no float64: networks compute in float32."""
    stored: torch.dtype = torch.from_numpy(np.zeros((), dtype)).dtype
    return torch.float32 if stored == torch.float64 else stored
