"""What a head offers so that an agent can act with it, whatever it chooses actions by."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from networks.heads.distributions import Choice
from networks.mirror import Array

HeadMirror = Callable[[Array, Array | None], Array]
"""`summary [B, H], noise or None -> actions [B, *A]`; None asks for the mode."""


class PolicyHead(nn.Module, ABC):
    """Maps summaries to a choice among the policy's own actions (unclipped, 0-based).

    Attributes:
        space: the environment's action space.
        action_shape, action_dtype: of one action of the policy's.
        encoded_size: numbers in an action as other networks read it.
    """

    space: gymnasium.Space[Any]
    action_shape: tuple[int, ...]
    action_dtype: torch.dtype
    encoded_size: int

    @abstractmethod
    def forward(self, summary: Float[Tensor, "*N H"]) -> Choice:
        """Return how each row's action is chosen."""

    @abstractmethod
    def noise(self, generator: np.random.Generator, batch_size: int) -> Array | None:
        """Draw what `sample` needs for a batch, `[B, ...]` float32; None: take the mode."""

    @abstractmethod
    def uniform(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Draw actions `[B, *A]` of which none is preferred, whatever the weights."""

    @abstractmethod
    def to_environment(self, actions: Array) -> Array:
        """Map the policy's actions to the environment's."""

    @abstractmethod
    def encode(self, actions: Shaped[Tensor, "..."]) -> Float[Tensor, "... E"]:
        """Write the policy's actions `[*N, *A]` as numbers for a network, `[*N, E]`."""

    @abstractmethod
    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` with mode and sampling."""


def one_hot(codes: Int[Tensor, "..."], count: int) -> Float[Tensor, "... K"]:
    """Compare with every code: unlike `functional.one_hot` it is compiled without a break."""
    return (codes[..., None] == torch.arange(count, device=codes.device)).float()
