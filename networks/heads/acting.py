"""Heads that an agent can act with: their interface, and those with a distribution."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from conf.schema.extractors import BlocksOptions
from conf.schema.heads import CategoricalHeadOptions
from networks.heads.distributions import Choice
from networks.heads.values import Head
from networks.mirror import Array

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

    @abstractmethod
    def encode(self, actions: Shaped[Tensor, "..."]) -> Float[Tensor, "... E"]:
        """Encode the policy's actions `[*N, *A]` as network inputs `[*N, E]`."""

    @abstractmethod
    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` with mode and sampling."""


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
