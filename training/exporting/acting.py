"""A run's policy as one module: observations in, the environment's actions out."""

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from agents.agent import Agent
from networks.heads.acting import PolicyHead
from networks.heads.box import BoxHead
from networks.observations import Observations, map_observations


class ActingPolicy(nn.Module):
    """`observations [B, *O], state [B, S], is_first [B] -> actions [B, *A], state [B, S]`.

    Normalisation, memory and the scaling of actions are inside; actions are the most probable ones,
    as those of `Policy.predict`. Observations are raw, one tensor or tensors by part.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.actor, self.policy_head = agent.actor, agent.policy_head
        self.sent = environment_actions(agent.policy_head)
        self.eval()

    def forward(
        self, observation: Observations, state: Float[Tensor, "B S"], is_first: Bool[Tensor, " B"]
    ) -> tuple[Shaped[Tensor, "B ..."], Float[Tensor, "B S"]]:
        """Act in one step of B environments."""
        step = map_observations(lambda part: part[None], observation)
        summary, after = self.actor(step, state, is_first[None])
        return self.sent(self.policy_head(summary[0]).mode()), after


def environment_actions(head: PolicyHead) -> nn.Module:
    """Return `head.to_environment` as a module."""
    if isinstance(head, BoxHead):
        return _Scaled(head)
    if head.action_shape == () and not head.action_dtype.is_floating_point:
        return _Chosen(head)
    return _Shifted(head)


class _Chosen(nn.Module):
    """One of the environment's actions, by its number."""

    table: Tensor

    def __init__(self, head: PolicyHead) -> None:
        super().__init__()
        numbered = head.to_environment(np.arange(head.encoded_size))
        self.register_buffer("table", torch.from_numpy(numbered))

    def forward(self, actions: Tensor) -> Tensor:
        return self.table[actions]


class _Shifted(nn.Module):
    """Several choices, each counted from a number of its own."""

    starts: Tensor

    def __init__(self, head: PolicyHead) -> None:
        super().__init__()
        first = head.to_environment(np.zeros((1, *head.action_shape), np.int64))
        self.register_buffer("starts", torch.from_numpy(first))

    def forward(self, actions: Tensor) -> Tensor:
        shaped = actions.unflatten(-1, self.starts.shape[1:])
        return shaped.to(self.starts.dtype) + self.starts


class _Scaled(nn.Module):
    """Numbers in units of the bounds, clipped to them."""

    low: Tensor
    high: Tensor
    is_bounded: Tensor

    def __init__(self, head: BoxHead) -> None:
        super().__init__()
        space = head.space
        assert isinstance(space, spaces.Box)
        self.shape = space.shape
        limits = torch.finfo(torch.float32)
        for name in ("low", "high"):
            bound = getattr(space, name).ravel().astype(np.float64)
            self.register_buffer(name, torch.from_numpy(bound.clip(limits.min, limits.max)))
        self.register_buffer("is_bounded", torch.from_numpy(head.is_bounded))
        self.dtype = torch.from_numpy(np.zeros(0, space.dtype)).dtype

    def forward(self, actions: Tensor) -> Tensor:
        share = (actions.double() + 1.0) * 0.5
        scaled = self.low * (1.0 - share) + self.high * share
        mapped = torch.where(self.is_bounded, scaled, actions.double())
        cut = mapped.clamp(self.low, self.high)
        return cut.to(self.dtype).unflatten(-1, self.shape)
