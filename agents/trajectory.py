"""Trajectories: collected experience, time-major, the same for every algorithm."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from networks.mirror import Array
from networks.observations import Observations, map_observations


@dataclass(frozen=True)
class Trajectory:
    """T steps of B environments, time-major.

    Step t reads `observations[t]` and leads to `observations[t + 1]`. Environments reset in the
    step *after* an episode's end. The final observation of an episode is therefore an ordinary
    element, with the value `values[t + 1]`, and the reset step is not `valid`. Collecting the next
    trajectory overwrites the storage of this one.

    Attributes:
        observations: raw observations in the environment's dtype; a tensor, or tensors by name.
        is_first: `observations[t]` is the first of an episode.
        actions: the policy's actions: unclipped, 0-based, in units of the bounds.
        rewards: raw rewards.
        terminated: `observations[t + 1]` is terminal, its value is zero.
        truncated: the episode was truncated at `observations[t + 1]`, which is bootstrapped from.
        state: the actor's memory state before `observations[0]`.
    """

    observations: Shaped[Tensor, "T1 B *O"] | dict[str, Shaped[Tensor, "T1 B ..."]]
    is_first: Bool[Tensor, "T1 B"]
    actions: Shaped[Tensor, "T B *A"]
    rewards: Float[Tensor, "T B"]
    terminated: Bool[Tensor, "T B"]
    truncated: Bool[Tensor, "T B"]
    state: Float[Tensor, "B S"]

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """Views of the tensors of single steps, on the CPU, by name."""
        names = ("is_first", "actions", "rewards", "terminated", "truncated")
        return {name: getattr(self, name).numpy() for name in names}

    @property
    def step_observations(self) -> Observations:
        """Observations before each of the T steps."""
        return map_observations(lambda rows: rows[:-1], self.observations)

    @property
    def next_observations(self) -> Observations:
        """Observations after each of the T steps."""
        return map_observations(lambda rows: rows[1:], self.observations)

    @property
    def valid(self) -> Bool[Tensor, "T B"]:
        """False on reset steps, whose action was ignored: they count nowhere."""
        return ~self.is_first[1:]

    @property
    def ended(self) -> Bool[Tensor, "T B"]:
        """True where step t terminated or truncated an episode."""
        return self.terminated | self.truncated

    def to(self, device: torch.device) -> "Trajectory":
        """Move every tensor; returns itself if it is already on the device."""
        if self.rewards.device == device:
            return self
        moved: dict[str, Any] = {
            field.name: map_observations(lambda part: part.to(device), getattr(self, field.name))
            for field in fields(self)
        }
        return Trajectory(**moved)
