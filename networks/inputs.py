"""Observations to network inputs, scaled by meaning: numbers as they are, identifiers one-hot."""

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn

from networks.mirror import Array, RowFunction, array_of
from networks.observations import Parts

MAX_ONE_HOT = 10_000
"""Widest row that identifiers are encoded in."""


class BoxInput(nn.Module):
    """Numbers, or bits: cast to float32, otherwise untouched."""

    def __init__(self, space: spaces.Box | spaces.MultiBinary) -> None:
        """Remember the space's shape; scalars become vectors of one."""
        super().__init__()
        self.space = space
        self.is_numeric = isinstance(space, spaces.Box)
        """Whether running normalisation makes sense for it."""
        self.observation_shape: tuple[int, ...] = space.shape
        self.shape: tuple[int, ...] = space.shape or (1,)

    def forward(self, observations: Tensor) -> Float[Tensor, "N *O"]:
        """Cast rows to float32."""
        return observations.reshape(-1, *self.shape).to(torch.float32)

    def mirror(self) -> RowFunction:
        """Numpy form of `forward`."""
        shape = self.shape
        return lambda rows: rows.reshape(-1, *shape).astype(np.float32, copy=False)


class OneHotInput(nn.Module):
    """Identifiers, one or several, each counted from a start of its own: one-hot, side by side."""

    is_numeric = False
    starts: Tensor
    offsets: Tensor

    def __init__(self, space: spaces.Discrete[Any] | spaces.MultiDiscrete[Any]) -> None:
        """Lay out the columns, those of one identifier after those of another."""
        super().__init__()
        sizes = space.n if isinstance(space, spaces.Discrete) else space.nvec
        counts, starts = (np.ravel(each).astype(np.int64) for each in (sizes, space.start))
        self.space = space
        self.observation_shape: tuple[int, ...] = space.shape or ()
        self.shape: tuple[int, ...] = (int(counts.sum()),)
        self._counts = counts
        # Known from the space, so no checkpoint holds them.
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)
        self.register_buffer(
            "offsets", torch.from_numpy(np.cumsum(counts) - counts), persistent=False
        )

    def forward(self, observations: Tensor) -> Float[Tensor, "N K"]:
        """One-hot rows."""
        codes = observations.reshape(-1, len(self._counts)).long() - self.starts
        rows = torch.zeros(len(codes), *self.shape, device=codes.device)
        return rows.scatter_(1, codes + self.offsets, 1.0)

    def mirror(self) -> RowFunction:
        """Numpy form of `forward`; it refuses what is outside of the space."""
        starts, offsets = array_of(self.starts), array_of(self.offsets)
        counts, width, space = self._counts.astype(np.uint64), self.shape[0], self.space

        def apply(rows: Array) -> Array:
            codes = rows.reshape(-1, len(counts)).astype(np.int64, copy=False) - starts
            # A negative number is a huge one without its sign.
            is_wrong = codes.view(np.uint64) >= counts
            if is_wrong.any():
                wrong = rows.reshape(-1, len(counts))[is_wrong.any(1)][0].tolist()
                raise ValueError(f"the observation {wrong} is not in the space {space}")
            one_hot = np.zeros((len(codes), width), np.float32)
            one_hot[np.arange(len(codes))[:, None], codes + offsets] = 1.0
            return one_hot

        return apply


PartInput = BoxInput | OneHotInput


class DictInput(Parts):
    """Several parts by name, each scaled by its own meaning."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        """Choose the input of every part."""
        # Not in the annotation: beartype refuses Gymnasium's class, which is a `typing.Mapping`.
        assert isinstance(space, spaces.Dict)
        inputs = {name: _part_input(part) for name, part in space.spaces.items()}
        super().__init__(inputs)
        self.space = space
        self.observation_shape = {name: part.observation_shape for name, part in inputs.items()}
        self.shape = {name: part.shape for name, part in inputs.items()}
        self.numeric = frozenset(name for name, part in inputs.items() if part.is_numeric)
        """The parts for which running normalisation makes sense."""


ObservationInput = PartInput | DictInput


def make_input(space: gymnasium.Space[Any]) -> ObservationInput:
    """Choose the input scaling for an observation space.

    Raises:
        ValueError: the space is none that a network here can read.
    """
    if isinstance(space, spaces.Dict) and space.spaces:
        return DictInput(space)
    return _part_input(space)


def _part_input(space: gymnasium.Space[Any]) -> PartInput:
    if isinstance(space, spaces.MultiBinary):
        return BoxInput(space)
    if isinstance(space, spaces.Box) and len(space.shape) <= 2 and math.prod(space.shape) > 0:
        return BoxInput(space)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        width = int(space.n if isinstance(space, spaces.Discrete) else space.nvec.sum())
        if 0 < width <= MAX_ONE_HOT:
            return OneHotInput(space)
    raise ValueError(
        f"observation space {space} is not supported; use Box vectors, Discrete, MultiDiscrete, "
        f"MultiBinary or a Dict of these, with identifiers of at most {MAX_ONE_HOT:,} values"
    )
