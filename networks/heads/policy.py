"""Policy heads: from summaries to distributions over actions.

Only `make_policy_head`, and `networks.heads.greedy` for action values, depend on the action space.
The policy's actions are flat rows. `to_environment` converts them to the starts, shapes, bounds and
dtypes of the environment's action space.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from networks.heads.acting import HeadMirror, PolicyHead, one_hot
from networks.heads.distributions import (
    IMPOSSIBLE,
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
)
from networks.heads.values import Head
from networks.mirror import Array, array_of

_TINY = np.finfo(np.float32).tiny
_LARGEST = float(np.finfo(np.float32).max)
"""Bounds from here on count as unbounded, as some environments use the largest float."""


class DistributionHead(Head, PolicyHead):
    """A policy head whose layers compute the parameters of a distribution."""

    @abstractmethod
    def forward(self, summary: Float[Tensor, "*N H"]) -> Distribution:
        """Return the action distribution of each row."""

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


def _gumbel_noise(generator: np.random.Generator, size: tuple[int, ...]) -> Array:
    """Standard Gumbel noise: `-log E` with E standard exponential."""
    noise = generator.standard_exponential(size, dtype=np.float32)
    np.maximum(noise, _TINY, out=noise)
    return np.negative(np.log(noise, out=noise), out=noise)


class CategoricalHead(DistributionHead):
    """One of K actions; the environment's actions start at `start`."""

    def __init__(self, space: spaces.Discrete[Any], input_size: int, **layers: Any) -> None:
        super().__init__(input_size, int(space.n), **layers)
        self.space, self.start = space, int(space.start)
        self.action_shape, self.action_dtype = (), torch.int64
        self.encoded_size = int(space.n)

    def forward(self, summary: Float[Tensor, "*N H"]) -> Categorical:
        """Return the action distribution of each row."""
        return Categorical(self.linear(summary))

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard Gumbel noise, one number per action."""
        return _gumbel_noise(generator, (batch_size, self.output.out_features))

    def to_environment(self, actions: Array) -> Array:
        """Add the space's `start`."""
        counted = actions + self.start if self.start else actions
        return counted.astype(self.space.dtype, copy=False)

    def encode(self, actions: Int[Tensor, "*N"]) -> Float[Tensor, "*N E"]:
        """One-hot."""
        return one_hot(actions, self.encoded_size)

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""

        def choose(logits: Array, noise: Array | None) -> Array:
            actions: Array = (logits if noise is None else logits + noise).argmax(-1)
            return actions

        return choose


class MultiCategoricalHead(DistributionHead):
    """D independent choices, given the summary; their shape in the environment is arbitrary.

    One linear layer computes the logits of all choices. Choices with fewer options are padded, so
    that one softmax is enough.
    """

    space: spaces.MultiDiscrete[Any]
    places: Tensor
    columns: Tensor

    def __init__(self, space: spaces.MultiDiscrete[Any], input_size: int, **layers: Any) -> None:
        counts = space.nvec.ravel().astype(np.int64)
        super().__init__(input_size, int(counts.sum()), **layers)
        self.space, self.starts = space, space.start.ravel().astype(np.int64)
        self.action_shape, self.action_dtype = (len(counts),), torch.int64
        self.encoded_size = int(counts.sum())
        self._table = (len(counts), int(counts.max()))  # D, K
        self._is_ragged = bool((counts < counts.max()).any())
        # The column of each logit in the flattened table, and the logit of each cell; the index
        # after the last logit is the padding.
        is_option = np.arange(self._table[1]) < counts[:, None]  # [D, K]
        self._columns = np.flatnonzero(is_option)
        places = np.full(is_option.size, counts.sum())
        places[self._columns] = np.arange(counts.sum())
        self.register_buffer("places", torch.from_numpy(places), persistent=False)
        self.register_buffer("columns", torch.from_numpy(self._columns), persistent=False)

    def forward(self, summary: Float[Tensor, "*N H"]) -> MultiCategorical:
        """Return the action distribution of each row."""
        logits = self.linear(summary)
        if self._is_ragged:
            padded = functional.pad(logits, (0, 1), value=IMPOSSIBLE)
            logits = padded.index_select(-1, self.places)
        return MultiCategorical(logits.unflatten(-1, self._table))

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard Gumbel noise, one number per cell of the padded table."""
        return _gumbel_noise(generator, (batch_size, *self._table))

    def to_environment(self, actions: Array) -> Array:
        """Add the start of each choice, in the space's shape; always a copy."""
        counted = (actions + self.starts).reshape(len(actions), *self.space.shape)
        return counted.astype(self.space.dtype, copy=False)

    def encode(self, actions: Int[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
        """Concatenated one-hot encodings of the choices, without padding."""
        table = one_hot(actions, self._table[1]).flatten(-2)
        return table.index_select(-1, self.columns) if self._is_ragged else table

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""
        table, columns, is_ragged = self._table, self._columns, self._is_ragged

        def choose(logits: Array, noise: Array | None) -> Array:
            if is_ragged:
                padded = np.full((len(logits), table[0] * table[1]), IMPOSSIBLE, np.float32)
                padded[:, columns] = logits
                logits = padded
            logits = logits.reshape(-1, *table)
            actions: Array = (logits if noise is None else logits + noise).argmax(-1)
            return actions

        return choose


class BernoulliHead(DistributionHead):
    """D independent bits, given the summary; their shape in the environment is arbitrary."""

    space: spaces.MultiBinary

    def __init__(self, space: spaces.MultiBinary, input_size: int, **layers: Any) -> None:
        super().__init__(input_size, math.prod(space.shape), **layers)
        self.space = space
        self.action_shape, self.action_dtype = (math.prod(space.shape),), torch.int64
        self.encoded_size = math.prod(space.shape)

    def forward(self, summary: Float[Tensor, "*N H"]) -> Bernoulli:
        """Return the action distribution of each row."""
        return Bernoulli(self.linear(summary))

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard logistic noise, one number per bit."""
        size = (batch_size, self.output.out_features)
        return generator.logistic(size=size).astype(np.float32)

    def to_environment(self, actions: Array) -> Array:
        """Convert to the space's shape and dtype."""
        return actions.reshape(len(actions), *self.space.shape).astype(self.space.dtype)

    def encode(self, actions: Int[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
        """The bits, as 0 and 1."""
        return actions.float()

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""

        def choose(logits: Array, noise: Array | None) -> Array:
            actions: Array = (logits if noise is None else logits + noise) > 0
            return actions.astype(np.int64)

        return choose


class GaussianHead(DistributionHead):
    """Diagonal Gaussian over continuous actions, with state-independent standard deviations.

    The policy acts in units of the bounds: -1 and 1 are `low` and `high`. Actions beyond them are
    clipped for the environment, but not for learning. Dimensions without two finite bounds are not
    scaled, and are clipped to the one bound, if any.

    Attributes:
        is_bounded: `[A]`, which dimensions have two finite bounds.
    """

    space: spaces.Box

    def __init__(
        self, space: spaces.Box, input_size: int, *, initial_log_std: float, **layers: Any
    ) -> None:
        size = math.prod(space.shape)
        super().__init__(input_size, size, **layers)
        self.log_std = nn.Parameter(torch.full((size,), initial_log_std))
        self.space = space
        self.action_shape, self.action_dtype = (size,), torch.float32
        self.encoded_size = size
        low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))
        self.is_bounded = (np.abs(low) < _LARGEST) & (np.abs(high) < _LARGEST)
        self._low, self._high = (np.where(self.is_bounded, bound, 0.0) for bound in (low, high))
        limits = np.finfo(space.dtype.name)
        self._smallest, self._largest = (np.clip(b, limits.min, limits.max) for b in (low, high))

    def forward(self, summary: Float[Tensor, "*N H"]) -> DiagonalGaussian:
        """Return the action distribution of each row."""
        return DiagonalGaussian(self.linear(summary), self.log_std)

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard normal noise."""
        return generator.standard_normal((batch_size, *self.action_shape), dtype=np.float32)

    def uniform(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Draw uniformly between two finite bounds, otherwise from the standard normal."""
        noise = self.noise(generator, batch_size)
        uniform = generator.uniform(-1.0, 1.0, noise.shape)
        return np.where(self.is_bounded, uniform, noise).astype(np.float32)

    def to_environment(self, actions: Array) -> Array:
        """Scale [-1, 1] to two finite bounds, and clip to the space."""
        share = (actions.astype(np.float64) + 1.0) * 0.5
        # Not low + share * range, which may miss high by a rounding error.
        scaled = self._low * (1.0 - share) + self._high * share
        mapped = np.where(self.is_bounded, scaled, actions)
        cut: Array = np.clip(mapped, self._smallest, self._largest)
        return cut.astype(self.space.dtype).reshape(len(actions), *self.space.shape)

    def encode(self, actions: Float[Tensor, "*N A"]) -> Float[Tensor, "*N A"]:
        """The action, in units of the bounds."""
        return actions

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""
        log_std = array_of(self.log_std)

        def choose(mean: Array, noise: Array | None) -> Array:
            return mean if noise is None else mean + np.exp(log_std) * noise

        return choose


def make_policy_head(
    space: gymnasium.Space[Any],
    input_size: int,
    *,
    hidden_sizes: Sequence[int],
    activation: str,
    initialization: str,
    gain: float,
    initial_log_std: float,
) -> DistributionHead:
    """Make the policy head for an action space.

    Args:
        gain: initialisation gain of the output layer; 0.01 starts near the uniform policy.
        initial_log_std: log of the Gaussian's initial standard deviation (Box spaces only).

    Raises:
        ValueError: the action space is not supported.
    """
    layers = {
        "hidden_sizes": hidden_sizes,
        "activation": activation,
        "initialization": initialization,
        "gain": gain,
    }
    if isinstance(space, spaces.Discrete):
        return CategoricalHead(space, input_size, **layers)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategoricalHead(space, input_size, **layers)
    if isinstance(space, spaces.MultiBinary):
        return BernoulliHead(space, input_size, **layers)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return GaussianHead(space, input_size, initial_log_std=initial_log_std, **layers)
    raise ValueError(
        f"action space {space} is not supported; use Discrete, MultiDiscrete, MultiBinary or a Box "
        "of floats"
    )
