"""What one step of one environment takes in a ring: which numbers, of which size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import Space, spaces

from agents.trajectory import Trajectory
from networks.mirror import Array
from networks.observations import Observations, Shape, map_observations

WHOLE = ""
"""Name of an observation that has no parts."""


@dataclass(frozen=True)
class Column:
    """Shape and dtype of what a step holds of one kind."""

    shape: Shape
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """Size of one."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class StepLayout:
    """The columns of a stream of experience.

    Attributes:
        parts: of an observation by name, of a stack its newest frame alone; an observation without
            parts has the name "".
        action: as it is stored; integers take 4 bytes, as no space has 2^31 actions.
        state_size: of a memory's state.
    """

    parts: Mapping[str, Column]
    action: Column
    state_size: int

    @staticmethod
    def of(trajectory: Trajectory, frame_stacks: Mapping[str, int]) -> "StepLayout":
        """Read it off what arrives."""
        parts = {
            name: Column(rows.shape[2 + (name in frame_stacks) :], rows.dtype)
            for name, rows in arrays_of(trajectory.observations).items()
        }
        actions = trajectory.actions
        return StepLayout(
            parts,
            Column(tuple(actions.shape[2:]), stored_action(actions.dtype)),
            trajectory.state.shape[1],
        )

    @staticmethod
    def of_spaces(
        observation_space: Space[object],
        frame_stacks: Mapping[str, int],
        *,
        action_shape: Shape,
        action_dtype: torch.dtype,
        state_size: int,
    ) -> "StepLayout":
        """Foresee it: one environment's space, the policy's own actions, the memory's size."""
        space = observation_space
        leaves = space.spaces if isinstance(space, spaces.Dict) else {WHOLE: space}
        parts = {}
        for name, part in leaves.items():
            dtype = np.dtype(np.float32 if part.dtype == np.float64 else part.dtype)
            parts[name] = Column((part.shape or ())[name in frame_stacks :], dtype)
        return StepLayout(parts, Column(action_shape, stored_action(action_dtype)), state_size)

    @property
    def record(self) -> np.dtype:
        """All that a step holds beside what was observed, packed so that one gather reads it."""
        return np.dtype(
            [
                ("rewards", np.float32),
                ("actions", self.action.dtype, self.action.shape),
                ("is_first", np.bool_),
                ("terminated", np.bool_),
                ("truncated", np.bool_),
                ("refilled", np.bool_),  # a stack that consists of its newest frame alone
            ],
            align=True,
        )

    @property
    def step_bytes(self) -> int:
        """Bytes of a step, kept states apart."""
        return self.record.itemsize + sum(part.bytes for part in self.parts.values())


def arrays_of(observations: Observations) -> dict[str, Array]:
    """View observations as arrays by name."""
    arrays = map_observations(lambda part: part.numpy(), observations)
    return arrays if isinstance(arrays, dict) else {WHOLE: arrays}


def stored_action(dtype: torch.dtype) -> np.dtype:
    """Say as what actions of a dtype are stored."""
    if dtype.is_floating_point:
        return np.dtype(torch.zeros((), dtype=dtype).numpy().dtype)
    return np.dtype(np.int32)
