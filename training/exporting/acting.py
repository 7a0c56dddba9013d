"""A run's policy as one module: observations in, the environment's actions out."""

from collections.abc import Callable

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from agents.agent import Agent
from networks.heads.acting import PolicyHead
from networks.heads.box import BoxHead
from networks.mirror import Array
from networks.observations import Observations, map_observations


class ActingPolicy(nn.Module):
    """`observations [B, *O], state [B, S], is_first [B] -> actions [B, *A], state [B, S]`.

    Normalisation, memory and the scaling of actions are inside; actions are the most probable ones,
    as those of `Policy.predict`. Observations are raw, one tensor or tensors by part. A mask of
    legal actions is a further input, `[B, M]`, which a policy with `has_masks` needs.
    """

    def __init__(self, agent: Agent, *, has_masks: bool) -> None:
        super().__init__()
        self.actor, self.policy_head = agent.actor, agent.policy_head
        self._networks, self._has_masks = agent.networks, has_masks
        self.sent = environment_actions(agent.policy_head)
        self.eval()

    def forward(
        self,
        observation: Observations,
        state: Float[Tensor, "B S"],
        is_first: Bool[Tensor, " B"],
        action_mask: Bool[Tensor, "B M"] | None = None,
    ) -> tuple[Shaped[Tensor, "B ..."], Float[Tensor, "B S"]]:
        """Act in one step of B environments.

        Raises:
            ValueError: there is no mask, although the policy needs one.
        """
        if action_mask is None and self._has_masks:
            raise ValueError("env.action_mask=true: expected action_mask [B, M], a fourth argument")
        step = map_observations(lambda part: part[None], observation)
        summary, after = self.actor(step, state, is_first[None])
        legal = None if action_mask is None else self.policy_head.legal(action_mask)
        return self.sent(self._networks.policy(summary[0], legal).mode()), after


def environment_actions(head: PolicyHead) -> nn.Module:
    """Return `head.to_environment` as a module."""
    if isinstance(head, BoxHead):
        space = head.space
        assert isinstance(space, spaces.Box)
        ends = np.clip([space.low.ravel(), space.high.ravel()], *_FLOATS, dtype=np.float64)
        one = np.zeros((1, *space.shape), space.dtype)
        return _Sent(_scaled, low=ends[0], high=ends[1], is_bounded=head.is_bounded, one=one)
    if head.action_shape == () and not head.action_dtype.is_floating_point:
        return _Sent(_chosen, table=head.to_environment(np.arange(head.encoded_size)))
    return _Sent(_shifted, first=head.to_environment(np.zeros((1, *head.action_shape), np.int64)))


_FLOATS = np.finfo(np.float32).min, np.finfo(np.float32).max


class _Sent(nn.Module):
    """A function of actions, with constants that travel with the module."""

    def __init__(self, function: Callable[..., Tensor], **constants: Array) -> None:
        super().__init__()
        self.function = function
        for name, constant in constants.items():
            self.register_buffer(name, torch.from_numpy(constant))

    def forward(self, actions: Tensor) -> Tensor:
        return self.function(actions, **dict(self.named_buffers()))


def _chosen(actions: Tensor, table: Tensor) -> Tensor:
    """One of the environment's actions, by its number."""
    return table[actions]


def _shifted(actions: Tensor, first: Tensor) -> Tensor:
    """Several choices, each counted from a number of its own."""
    return actions.unflatten(-1, first.shape[1:]).to(first.dtype) + first


def _scaled(actions: Tensor, low: Tensor, high: Tensor, is_bounded: Tensor, one: Tensor) -> Tensor:
    """Numbers in units of the bounds, clipped to them; `one` has the shape of a single action."""
    share = (actions.double() + 1.0) * 0.5
    scaled = low * (1.0 - share) + high * share
    mapped = torch.where(is_bounded, scaled, actions.double()).clamp(low, high)
    return mapped.to(one.dtype).unflatten(-1, one.shape[1:])
