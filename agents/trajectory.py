"""The stream: what environments and memories produced, time-major; nothing of any algorithm's."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from networks.observations import Observations, map_observations


@dataclass(frozen=True)
class Trajectory:
    """T steps of B environments, time-major.

    Step t reads `observations[t]` and leads to `observations[t + 1]`. Environments reset in the
    step *after* an episode's end, so the final observation of an episode is an ordinary element of
    the stream and its value is `values[t + 1]`; the step that only resets is not `valid`.
    Collection reuses its storage: a trajectory stands until the next one is collected.

    Attributes:
        observations: what was observed, raw, in the environment's dtype; a tensor, or tensors by
            name.
        is_first: `observations[t]` opens an episode.
        actions: the policy's own: unclipped, 0-based, in units of the bounds.
        rewards: raw rewards.
        terminated: `observations[t + 1]` is absorbing, its value is zero.
        truncated: the episode was cut at `observations[t + 1]`, its value stands.
        state: the actor's memory before `observations[0]`.
    """

    observations: Shaped[Tensor, "T1 B *O"] | dict[str, Shaped[Tensor, "T1 B ..."]]
    is_first: Bool[Tensor, "T1 B"]
    actions: Shaped[Tensor, "T B *A"]
    rewards: Float[Tensor, "T B"]
    terminated: Bool[Tensor, "T B"]
    truncated: Bool[Tensor, "T B"]
    state: Float[Tensor, "B S"]

    @property
    def step_observations(self) -> Observations:
        """What each of the T steps read."""
        return map_observations(lambda rows: rows[:-1], self.observations)

    @property
    def next_observations(self) -> Observations:
        """What each of the T steps led to."""
        return map_observations(lambda rows: rows[1:], self.observations)

    @property
    def valid(self) -> Bool[Tensor, "T B"]:
        """False on the step that only resets: its action was ignored, it counts nowhere."""
        return ~self.is_first[1:]

    @property
    def ended(self) -> Bool[Tensor, "T B"]:
        """True where step t ended an episode, for whatever reason."""
        return self.terminated | self.truncated

    def to(self, device: torch.device) -> "Trajectory":
        """Move every tensor; the trajectory itself where it already lies there."""
        if self.rewards.device == device:
            return self
        moved: dict[str, Any] = {
            field.name: map_observations(lambda part: part.to(device), getattr(self, field.name))
            for field in fields(self)
        }
        return Trajectory(**moved)
