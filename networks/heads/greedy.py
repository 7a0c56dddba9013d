"""Epsilon-greedy policies over action values."""

import copy
import math
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int
from torch import Tensor

from networks.heads.acting import HeadMirror, PolicyHead, draw_legal, one_hot
from networks.heads.distributions import IMPOSSIBLE, Legal, mask_illegal
from networks.heads.values import ValueHead
from networks.mirror import Array, mirror_of

MOST_JOINT_ACTIONS = 4096
"""Largest number of actions, counting each combination of choices as one: one output each."""

_NOBODY, _FIRST = np.zeros(0, np.int64), np.zeros(1, np.int64)
_DECISIVE = np.float32(1e30)
"""Added to an action's value to make it the largest."""


class Greedy:
    """Greedy action selection; noise may select another action."""

    def __init__(self, head: ValueHead, summary: Float[Tensor, "*N H"], num_actions: int) -> None:
        """Store the inputs of the values, which are computed once the noise is known."""
        self._head, self._summary, self._num_actions = head, summary, num_actions
        self._legal: Legal | None = None

    def mask_illegal(self, legal: Legal) -> "Greedy":
        """Return the greedy selection of legal actions."""
        chosen = copy.copy(self)
        chosen._legal = legal
        return chosen

    def values(self, noise: Float[Tensor, "..."] | None) -> Float[Tensor, "*N A"]:
        """Return action values, with the layers' noise or with mean weights."""
        return mask_illegal(self._head.value(self._head(self._summary, noise)), self._legal)

    def mode(self) -> Int[Tensor, "*N"]:
        """Select the greedy action, with mean weights."""
        return self.values(None).argmax(-1)

    def sample(self, noise: Float[Tensor, "*N M"]) -> Int[Tensor, "*N"]:
        """Select the greedy action, with noisy weights, or the random action in the noise."""
        decided, of_layers = noise.tensor_split([self._num_actions], dim=-1)
        return (self.values(of_layers) + decided).argmax(-1)


class EpsilonGreedyHead(PolicyHead):
    """Epsilon-greedy policy: a random action with probability epsilon, else the greedy one.

    Each combination of several choices counts as one action.

    Attributes:
        value_head: of action values.
        num_actions: A.
        epsilon: probability of a uniformly random action, the greedy one included. A buffer, saved
            with the weights. All actions are random until it is set.
    """

    epsilon: Tensor

    def __init__(self, space: gymnasium.Space[Any], value_head: ValueHead) -> None:
        """Use a value head with one value for each of `joint_actions(space)`."""
        super().__init__()
        self.space, self.value_head = space, value_head
        self._sent, self._counts = environment_actions(space), choice_counts(space)
        self.num_actions = self.encoded_size = len(self._sent)
        self.action_shape, self.action_dtype = (), torch.int64
        self._noise_size = value_head.noise_size
        self.register_buffer("epsilon", torch.tensor(1.0))

    def set_epsilon(self, value: float) -> None:
        """Set the probability of a random action."""
        if self.epsilon.item() != np.float32(value):  # it rarely changes once it has fallen
            self.epsilon.fill_(value)

    def forward(self, summary: Float[Tensor, "*N H"]) -> Greedy:
        """Return the greedy choice of each row."""
        return Greedy(self.value_head, summary, self.num_actions)

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array | None:
        """Draw `[B, A + noise_size]`: the random action, if any, and the layers' noise."""
        noise_size, num_actions = self._noise_size, self.num_actions
        epsilon, exploring = self.epsilon.item(), _NOBODY
        if epsilon > 0 and batch_size == 1:  # the same draw, without arrays of one
            exploring = _FIRST if generator.random() < epsilon else _NOBODY
        elif epsilon > 0:
            exploring = np.flatnonzero(generator.random(batch_size) < epsilon)
        if not (len(exploring) or noise_size):
            return None  # the usual case
        noise = np.zeros((batch_size, num_actions + noise_size), np.float32)
        if len(exploring):
            noise[exploring, generator.integers(num_actions, size=len(exploring))] = _DECISIVE
        if noise_size:
            size = (batch_size, noise_size)
            noise[:, num_actions:] = generator.standard_normal(size, dtype=np.float32)
        return noise

    def legal(self, mask: Bool[Tensor, "*N M"]) -> Legal:
        """Return which combinations of choices a mask allows."""
        return legal_combinations(mask, self._counts)

    def mask_noise(self, noise: Array | None, legal: Array, random: np.random.Generator) -> Array:
        """Change the noise so that the greedy action, and the random one, is legal."""
        if noise is None:
            noise = np.zeros((len(legal), self.num_actions + self._noise_size), np.float32)
        decided = noise[:, : self.num_actions]
        if len(exploring := np.flatnonzero(decided.any(axis=1))):
            decided[exploring] = 0.0
            decided[exploring, draw_legal(legal[exploring], random)] = _DECISIVE
        decided[~legal] = IMPOSSIBLE
        return noise

    def uniform(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Draw uniformly random actions."""
        return generator.integers(self.num_actions, size=batch_size)

    def to_environment(self, actions: Array) -> Array:
        """Convert to the environment's actions; always a copy."""
        return self._sent.take(actions, axis=0)

    def encode(self, actions: Int[Tensor, "*N"]) -> Float[Tensor, "*N A"]:
        """One-hot."""
        return one_hot(actions, self.num_actions)

    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` with mode and sampling."""
        values, num_actions = mirror_of(self.value_head), self.num_actions
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
            return worth.argmax(-1)

        return choose


def joint_actions(space: gymnasium.Space[Any]) -> int:
    """Number of actions of a space, counting every combination of choices as one.

    Raises:
        ValueError: the space is not discrete, or has too many actions.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if not isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        raise ValueError(
            f"action space {space}: a value for each action (agent=dqn, agent=pqn) needs Discrete, "
            "MultiDiscrete or MultiBinary; use agent=ppo"
        )
    count = math.prod(choice_counts(space))
    if count > MOST_JOINT_ACTIONS:
        raise ValueError(
            f"action space {space}: its choices are {count:,} actions together, more than the "
            f"{MOST_JOINT_ACTIONS:,} that can have a value each (agent=dqn, pqn, sac); use "
            "agent=ppo, which makes each choice by itself"
        )
    return count


def choice_counts(space: Any) -> list[int]:
    """Number of options of each choice, flat."""
    if isinstance(space, spaces.MultiDiscrete):
        return list(map(int, space.nvec.ravel()))
    return [int(space.n)] if isinstance(space, spaces.Discrete) else [2] * math.prod(space.shape)


def legal_combinations(mask: Bool[Tensor, "*N M"], counts: list[int]) -> Legal:
    """Return which actions of `environment_actions` a mask of every choice's options allows."""
    legal, *others = mask.split(counts, dim=-1) if len(counts) > 1 else (mask,)
    for own in others:
        legal = (legal[..., :, None] & own[..., None, :]).flatten(-2)
    return legal


def environment_actions(space: gymnasium.Space[Any]) -> Array:
    """List the environment's actions `[A, *space.shape]`; the last choice changes fastest."""
    numbers = np.arange(joint_actions(space))
    choices = np.stack(np.unravel_index(numbers, tuple(choice_counts(space))), axis=-1)
    actions: Array = choices + np.ravel(getattr(space, "start", 0))
    return actions.astype(space.dtype).reshape(-1, *(space.shape or ()))
