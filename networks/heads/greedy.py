"""Acting by values: the action that is worth most, and now and then any of them."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int
from torch import Tensor

from networks.heads.acting import HeadMirror, PolicyHead, one_hot
from networks.heads.values import ValueHead
from networks.mirror import Array

MOST_JOINT_ACTIONS = 4096
"""Choices made at once are one action here; a layer with a value for each should not be larger."""

_NOBODY, _FIRST = np.zeros(0, np.int64), np.zeros(1, np.int64)
_DECISIVE = np.float32(1e30)
"""Added to the value of an action, it is the largest."""


class Greedy:
    """The action of the largest value; noise may decide otherwise."""

    def __init__(self, head: ValueHead, summary: Float[Tensor, "*N H"], num_actions: int) -> None:
        """Keep what values are computed of, once it is known with which noise."""
        self._head, self._summary, self._num_actions = head, summary, num_actions

    def values(self, noise: Float[Tensor, "..."] | None) -> Float[Tensor, "*N A"]:
        """Return the value of each action, with the layers' noise or their mean weights."""
        return self._head.value(self._head(self._summary, noise))

    def mode(self) -> Int[Tensor, "*N"]:
        """Take the best action by the mean weights."""
        return self.values(None).argmax(-1)

    def sample(self, noise: Float[Tensor, "*N M"]) -> Int[Tensor, "*N"]:
        """Take the best action by noisy weights, or the one that the noise has decided on."""
        decided, of_layers = noise.tensor_split([self._num_actions], dim=-1)
        return (self.values(of_layers) + decided).argmax(-1)


class EpsilonGreedyHead(PolicyHead):
    """Takes the action of the largest value, and one at random with probability epsilon.

    Several choices at once are a single action here, of as many as there are combinations.

    Attributes:
        value_head: of the values of actions.
        num_actions: A.
        epsilon: probability of a random action, of which the best may be one; a buffer, so that it
            travels with the weights. Everything is random until it is set.
    """

    epsilon: Tensor

    def __init__(self, space: gymnasium.Space[Any], value_head: ValueHead) -> None:
        """Take the head that values the actions of the space, as `joint_actions` counts them."""
        super().__init__()
        self.space, self.value_head = space, value_head
        self._sent = _what_is_sent(space)
        self.num_actions = self.encoded_size = len(self._sent)
        self.action_shape, self.action_dtype = (), torch.int64
        self._noise_size = value_head.noise_size
        self.register_buffer("epsilon", torch.tensor(1.0))

    def set_epsilon(self, value: float) -> None:
        """Explore with this probability from now on."""
        if self.epsilon.item() != np.float32(value):  # it rarely changes once it has fallen
            self.epsilon.fill_(value)

    def forward(self, summary: Float[Tensor, "*N H"]) -> Greedy:
        """Return how each row's action is chosen."""
        return Greedy(self.value_head, summary, self.num_actions)

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array | None:
        """Draw `[B, A + noise_size]`: which action is decided on, if any is; the layers' noise."""
        noise_size, num_actions = self._noise_size, self.num_actions
        epsilon, exploring = self.epsilon.item(), _NOBODY
        if epsilon > 0 and batch_size == 1:  # the same draw, without arrays of one
            exploring = _FIRST if generator.random() < epsilon else _NOBODY
        elif epsilon > 0:
            exploring = np.flatnonzero(generator.random(batch_size) < epsilon)
        if not (len(exploring) or noise_size):
            return None  # as most of the time
        noise = np.zeros((batch_size, num_actions + noise_size), np.float32)
        if len(exploring):
            noise[exploring, generator.integers(num_actions, size=len(exploring))] = _DECISIVE
        if noise_size:
            size = (batch_size, noise_size)
            noise[:, num_actions:] = generator.standard_normal(size, dtype=np.float32)
        return noise

    def uniform(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Draw every action with the same probability."""
        return generator.integers(self.num_actions, size=batch_size)

    def to_environment(self, actions: Array) -> Array:
        """Look up what the environment calls the actions; always a copy."""
        sent: Array = self._sent[actions]
        return sent

    def encode(self, actions: Int[Tensor, "*N"]) -> Float[Tensor, "*N A"]:
        """One-hot."""
        return one_hot(actions, self.num_actions)

    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` with mode and sampling."""
        values, num_actions = self.value_head.mirror(), self.num_actions
        if values is None:
            return None
        is_noisy, of = self._noise_size > 0, values

        def choose(summary: Array, noise: Array | None) -> Array:
            if noise is None:
                worth = of(summary, None)
            elif is_noisy:
                worth = of(summary, noise[:, num_actions:]) + noise[:, :num_actions]
            else:
                worth = of(summary, None) + noise
            actions: Array = worth.argmax(-1)
            return actions

        return choose


def joint_actions(space: gymnasium.Space[Any]) -> int:
    """Count the actions of a space, every combination of choices as one.

    Raises:
        ValueError: they cannot be counted, or are too many for a value each.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if not isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        raise ValueError(
            f"action space {space}: a value for each action (agent=dqn, agent=pqn) needs Discrete, "
            "MultiDiscrete or MultiBinary; use agent=ppo"
        )
    count: int = math.prod(_counts(space).tolist())
    if count > MOST_JOINT_ACTIONS:
        raise ValueError(
            f"action space {space}: its choices are {count:,} actions together, more than the "
            f"{MOST_JOINT_ACTIONS:,} that can have a value each (agent=dqn, agent=pqn); use "
            "agent=ppo, which makes each choice by itself"
        )
    return count


def make_action_values(
    space: gymnasium.Space[Any], make_value_head: Callable[[int], ValueHead]
) -> EpsilonGreedyHead:
    """Make a head that acts in a space by values.

    Args:
        make_value_head: makes the head of the values of so many actions.

    Raises:
        ValueError: actions of the space cannot have a value each.
    """
    return EpsilonGreedyHead(space, make_value_head(joint_actions(space)))


def _counts(space: spaces.MultiDiscrete[Any] | spaces.MultiBinary) -> Array:
    """Options of each choice, flat."""
    if isinstance(space, spaces.MultiBinary):
        return np.full(math.prod(space.shape), 2)
    return space.nvec.ravel().astype(np.int64)


def _what_is_sent(space: gymnasium.Space[Any]) -> Array:
    """List the environment's actions `[A, *space.shape]`, the last choice changing fastest."""
    numbers = np.arange(joint_actions(space))
    if isinstance(space, spaces.Discrete):
        return (numbers + int(space.start)).astype(space.dtype)
    assert isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary)  # the others are refused
    choices = np.stack(np.unravel_index(numbers, tuple(_counts(space))), axis=-1)
    starts = space.start.ravel() if isinstance(space, spaces.MultiDiscrete) else 0
    return (choices + starts).astype(space.dtype).reshape(-1, *space.shape)
