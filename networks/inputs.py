"""Observations to network inputs, scaled by meaning: numbers as they are, identifiers one-hot."""

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from networks.mirror import Array, RowFunction


class BoxInput(nn.Module):
    """A vector of numbers: cast to float32, otherwise untouched."""

    is_numeric = True
    """Whether running normalisation makes sense for it."""

    def __init__(self, space: gymnasium.spaces.Box) -> None:
        """Remember the space's shape; scalars become vectors of one."""
        super().__init__()
        self.observation_shape = space.shape
        self.shape: tuple[int, ...] = space.shape or (1,)

    def forward(self, observations: Tensor) -> Float[Tensor, "N *O"]:
        """Cast rows to float32."""
        return observations.reshape(-1, *self.shape).to(torch.float32)

    def mirror(self) -> RowFunction:
        """Numpy form of `forward`."""
        shape = self.shape
        return lambda rows: rows.reshape(-1, *shape).astype(np.float32, copy=False)


class DiscreteInput(nn.Module):
    """An identifier out of `n`, `start` upwards: one-hot."""

    is_numeric = False

    def __init__(self, space: gymnasium.spaces.Discrete[Any]) -> None:
        """Remember the number of values and the smallest one."""
        super().__init__()
        self.observation_shape: tuple[int, ...] = ()
        self.shape: tuple[int, ...] = (int(space.n),)
        self.start = int(space.start)

    def forward(self, observations: Tensor) -> Float[Tensor, "N K"]:
        """One-hot rows."""
        codes = observations.reshape(-1).long() - self.start
        return functional.one_hot(codes, self.shape[0]).to(torch.float32)

    def mirror(self) -> RowFunction:
        """Numpy form of `forward`."""
        start, size = self.start, self.shape[0]

        def apply(rows: Array) -> Array:
            codes = rows.reshape(-1).astype(np.int64) - start
            encoded = np.zeros((len(codes), size), np.float32)
            encoded[np.arange(len(codes)), codes] = 1.0
            return encoded

        return apply


def make_input(space: gymnasium.Space[Any]) -> BoxInput | DiscreteInput:
    """Choose the input scaling for an observation space.

    Raises:
        ValueError: the space is none that a network here can read.
    """
    if isinstance(space, gymnasium.spaces.Box) and math.prod(space.shape) > 0:
        return BoxInput(space)
    if isinstance(space, gymnasium.spaces.Discrete):
        return DiscreteInput(space)
    raise ValueError(f"observation space {space} is not supported; use Box vectors or Discrete")
