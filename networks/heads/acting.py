"""Heads that an agent can act with: their interface, and those with a distribution."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from conf.schema.extractors import BlocksOptions
from conf.schema.heads import CategoricalHeadOptions
from networks.heads.distributions import IMPOSSIBLE, Choice, Legal
from networks.heads.values import Head
from networks.mirror import Array, array_of

Space = gymnasium.Space[Any]
HeadMirror = Callable[[Array, Array | None], Array]
"""`summary [B, H], noise or None -> actions [B, *A]`; without noise the mode."""


class PolicyHead(nn.Module, ABC):
    """Maps summaries to the policy's actions (unclipped, 0-based).

    Attributes:
        space: the environment's action space.
        action_shape, action_dtype: of one of the policy's actions.
        encoded_size: size of an encoded action.
    """

    space: Space
    action_shape: tuple[int, ...]
    action_dtype: torch.dtype
    encoded_size: int

    @abstractmethod
    def forward(self, summary: Float[Tensor, "*N H"]) -> Choice:
        """Return the action distribution of each row."""

    @abstractmethod
    def noise(self, generator: np.random.Generator, batch_size: int) -> Array | None:
        """Draw the noise for `sample`, `[B, ...]` float32; None means to take the mode."""

    @abstractmethod
    def uniform(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Draw uniformly random actions `[B, *A]`, independent of the weights."""

    @abstractmethod
    def to_environment(self, actions: Array) -> Array:
        """Convert the policy's actions to environment actions."""

    def legal(self, mask: Bool[Tensor, "*N M"]) -> Legal:
        """Return which of the policy's own actions or options an environment's mask allows.

        Raises:
            ValueError: the head has no probability or value of each.
        """
        raise ValueError(
            f"env.action_mask=true: {type(self).__name__} weighs no actions that could be masked; "
            "use env.action_mask=false"
        )

    def legal_array(self, mask: Array) -> Array:
        """Return which actions are legal, as `legal`, on arrays."""
        return array_of(self.legal(torch.from_numpy(mask)))

    def mask_noise(self, noise: Array | None, legal: Array, random: np.random.Generator) -> Array:
        """Change the noise of `sample` (None: of the mode), so that it takes legal actions only."""
        noise = np.zeros(legal.shape, np.float32) if noise is None else noise
        noise[~legal] = IMPOSSIBLE
        return noise

    @abstractmethod
    def encode(self, actions: Shaped[Tensor, "..."]) -> Float[Tensor, "... E"]:
        """Encode the policy's actions `[*N, *A]` as network inputs `[*N, E]`."""

    @abstractmethod
    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` with mode and sampling."""


def uniform_actions(
    head: PolicyHead, mask: Array | None, generator: np.random.Generator, batch_size: int
) -> Array:
    """Draw uniformly random actions `[B, *A]`, of legal ones where there is a mask `[B, M]`."""
    if mask is None:
        return head.uniform(generator, batch_size)
    return draw_legal(head.legal_array(mask), generator)


def draw_legal(legal: Array, generator: np.random.Generator) -> Array:
    """Draw one of the legal options of each row `[..., A]`, uniformly."""
    drawn: Array = np.where(legal, generator.random(legal.shape), -1.0).argmax(-1)
    return drawn


class DistributionHead(Head, PolicyHead):
    """A policy head whose layers compute the parameters of a distribution."""

    Options: ClassVar[type] = CategoricalHeadOptions
    action_dtype = torch.int64

    action_shape: tuple[int, ...] = ()

    def __init__(self, space: Space, input_size: int, size: int, options: BlocksOptions) -> None:
        """Build layers with as many outputs as the distribution has parameters."""
        super().__init__(input_size, size, options)
        self.space, self.encoded_size = space, size

    @abstractmethod
    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling, on the rows of `linear`."""

    def uniform(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Draw uniformly random actions: noise with equal logits."""
        noise = self.noise(generator, batch_size)
        return self.choice()(np.zeros((batch_size, self.output.out_features), np.float32), noise)

    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` and `choice` together."""
        linear = self.linear_mirror()
        if linear is None:
            return None
        choose = self.choice()
        return lambda summary, noise: choose(linear(summary), noise)


def one_hot(codes: Int[Tensor, "..."], count: int) -> Float[Tensor, "... K"]:
    """One-hot encoding that compiles without a graph break, unlike `functional.one_hot`."""
    return (codes[..., None] == torch.arange(count, device=codes.device)).float()
