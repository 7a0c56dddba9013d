"""Input scaling of observations: intensities divided by 255, identifiers one-hot.

Rows keep the environment's layout; `networks.extractors.images` handles the position of channels.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn

from networks.mirror import Array, RowFunction, array_of
from networks.observations import Parts

MAX_DIMENSIONS = 4
"""Most dimensions of a Box: those of a stack of images, frames first."""

Identifiers = spaces.Discrete[Any] | spaces.MultiDiscrete[Any]
Kind = Literal["numbers", "intensities", "booleans", "identifiers"]
_FLOAT32 = np.dtype(np.float32)
KnownLayout = Literal["hwc"] | None
"""Position of an image's channels, if the space determines it."""


class BoxInput(nn.Module):
    """Numbers, intensities or booleans: cast to float32; intensities are divided by 255.

    A Box with all bounds 0 and 255 holds intensities, whatever its dtype. A boolean Box and
    MultiBinary hold booleans. Everything else is numbers, the only kind that is normalised.
    """

    layout: KnownLayout = None

    def __init__(self, space: spaces.Box | spaces.MultiBinary) -> None:
        """Determine the kind from the space; scalars become vectors of size 1."""
        super().__init__()
        self.space = space
        self.kind: Kind = _kind(space)
        self.observation_shape: tuple[int, ...] = space.shape
        self.shape: tuple[int, ...] = space.shape or (1,)
        # Rows of numbers only need a cast.
        self._is_ready = self.kind != "intensities" and len(space.shape) == 1
        # Rows that look like images: with fewer channels than pixels per side.
        self._is_channels_first = len(self.shape) == 3 and self.shape[0] < min(self.shape[1:])

    @property
    def stages(self) -> list[nn.Module] | None:
        """None but for rows of numbers, which are stored as float32: nothing is done to them."""
        is_float = self.space.dtype in (np.float32, np.float64)
        return [] if self._is_ready and is_float else None

    def forward(self, observations: Tensor) -> Float[Tensor, "N *O"]:
        """Cast rows to float32."""
        if self._is_ready and observations.dtype == torch.float32:
            return observations
        rows = observations.reshape(-1, *self.shape)
        if self._is_channels_first:
            # Image extractors need channels-last memory. Reordering bytes before the cast takes
            # half the time of both in one pass (measured).
            rows = torch.stack(rows.unbind(1), -1).permute(0, 3, 1, 2)
        if self.kind == "intensities":  # in place, in half the time of x / 255 (measured)
            return rows.to(torch.float32, copy=True).div_(255.0)
        return rows.to(torch.float32)

    def mirror(self) -> RowFunction:
        """Numpy form of `forward`."""
        shape, largest = self.shape, np.float32(255.0)
        if self.kind == "numbers" and shape == self.observation_shape:
            return lambda rows: rows if rows.dtype is _FLOAT32 else rows.astype(np.float32)
        if self.kind == "intensities":
            return lambda rows: np.divide(rows.reshape(-1, *shape), largest, dtype=np.float32)
        return lambda rows: rows.reshape(-1, *shape).astype(np.float32, copy=False)


class OneHotInput(nn.Module):
    """One or several identifiers, each with its own start: concatenated one-hot encodings.

    A grid (`is_grid`) keeps its positions, and the encodings of a position's channels are
    concatenated in the last axis: `(H, W, K)`, or `(frames, H, W, K)`. Others become a row, `(K,)`.

    Attributes:
        groups: number of columns of each identifier in the last axis, in order.
    """

    kind: Kind = "identifiers"
    starts: Tensor
    offsets: Tensor

    def __init__(self, space: Identifiers) -> None:
        super().__init__()
        *codes, positions = _codes(space)
        counts, starts = (np.ravel(each).astype(np.int64) for each in codes)
        self.layout: KnownLayout = "hwc" if positions else None
        self.space = space
        self.observation_shape: tuple[int, ...] = space.shape or ()
        self.shape: tuple[int, ...] = (*positions, int(counts.sum()))
        self.groups: tuple[int, ...] = tuple(counts.tolist())
        self._counts = counts
        # Determined by the space, so not saved in checkpoints.
        offsets = torch.from_numpy(np.cumsum(counts) - counts)
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, observations: Tensor) -> Float[Tensor, "N *K"]:
        """Encode one-hot."""
        codes = observations.reshape(-1, len(self._counts)).long() - self.starts
        rows = torch.zeros(codes.shape[0], self.shape[-1], device=codes.device)
        return rows.scatter_(1, codes + self.offsets, 1.0).view(-1, *self.shape)

    def mirror(self) -> RowFunction:
        """Numpy form of `forward`; raises an error for values outside the space."""
        starts, offsets = array_of(self.starts), array_of(self.offsets)
        counts, shape, space = self._counts.astype(np.uint64), self.shape, self.space

        def apply(rows: Array) -> Array:
            codes = rows.reshape(-1, len(counts)).astype(np.int64, copy=False) - starts
            # Negative codes become huge unsigned numbers.
            is_wrong = codes.view(np.uint64) >= counts
            if is_wrong.any():
                wrong = rows.reshape(-1, len(counts))[is_wrong.any(1)][0].tolist()
                raise ValueError(f"the observation {wrong} is not in the space {space}")
            one_hot = np.zeros((len(codes), shape[-1]), np.float32)
            one_hot[np.arange(len(codes))[:, None], codes + offsets] = 1.0
            return one_hot.reshape(-1, *shape)

        return apply


PartInput = BoxInput | OneHotInput


class DictInput(Parts):
    """Parts by name, each with its own scaling."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        # Not annotated as such: beartype refuses Gymnasium's class, which is a `typing.Mapping`.
        assert isinstance(space, spaces.Dict)
        inputs = {name: _part_input(part) for name, part in space.spaces.items()}
        super().__init__(inputs)
        self.space = space
        self.inputs = inputs
        self.observation_shape = {name: part.observation_shape for name, part in inputs.items()}
        self.shape = {name: part.shape for name, part in inputs.items()}
        self.layout = {name: part.layout for name, part in inputs.items()}


ObservationInput = PartInput | DictInput


def make_input(space: gymnasium.Space[Any]) -> ObservationInput:
    """Make the input scaling of an observation space; `envs.spaces` refuses unsupported ones."""
    return DictInput(space) if isinstance(space, spaces.Dict) else _part_input(space)


def is_grid(space: gymnasium.Space[Any]) -> bool:
    """Whether identifiers form an image: equal numbers of values at every position, per channel.

    `(H, W)` has one channel, `(H, W, C)` several, `(frames, H, W, C)` is a frame stack.
    """
    if not isinstance(space, spaces.MultiDiscrete) or not 2 <= len(space.shape) <= MAX_DIMENSIONS:
        return False
    if 0 in space.shape:
        return False
    return all(bool((each == _channels(each)).all()) for each in (space.nvec, space.start))


def _part_input(space: gymnasium.Space[Any]) -> PartInput:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return OneHotInput(space)
    assert isinstance(space, spaces.Box | spaces.MultiBinary)
    return BoxInput(space)


def _kind(space: spaces.Box | spaces.MultiBinary) -> Kind:
    if isinstance(space, spaces.MultiBinary) or space.dtype == np.bool_:
        return "booleans"
    is_intensity = bool((space.low == 0).all() and (space.high == 255).all())
    return "intensities" if is_intensity else "numbers"


def _codes(space: Identifiers) -> tuple[Any, Any, tuple[int, ...]]:
    """Number of values and start of each identifier, and the shape of a grid without its channels.

    Of a grid, the identifiers are those of one position.
    """
    if isinstance(space, spaces.Discrete):
        return space.n, space.start, ()
    if not is_grid(space):
        return space.nvec, space.start, ()
    positions = space.shape if len(space.shape) == 2 else space.shape[:-1]
    return _channels(space.nvec), _channels(space.start), positions


def _channels(sizes: Array) -> Array:
    """Values of a grid's first position, by channel."""
    return sizes.reshape(-1)[:1] if sizes.ndim == 2 else sizes.reshape(-1, sizes.shape[-1])[0]
