"""Policy heads for continuous actions."""

import math

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn

from conf.schema.extractors import BlocksOptions
from conf.schema.heads import DeterministicHeadOptions, GaussianHeadOptions
from networks.heads.acting import DistributionHead, HeadMirror
from networks.heads.distributions import Deterministic, DiagonalGaussian, SquashedGaussian
from networks.mirror import Array, array_of

_LOG_STD_RANGE = (-20.0, 2.0)
_LARGEST = float(np.finfo(np.float32).max)
"""Bounds from here on count as unbounded, as some environments use the largest float."""


class BoxHead(DistributionHead):
    """Continuous actions in units of the bounds: -1 and 1 are `low` and `high`.

    Actions beyond them are clipped for the environment, but not for learning. Dimensions without
    two finite bounds are not scaled, and are clipped to the one bound, if any.

    Attributes:
        is_bounded: `[A]`, which dimensions have two finite bounds.
        num_parameters: outputs of the layers for each dimension.
    """

    action_dtype = torch.float32
    num_parameters = 1
    space: spaces.Box

    def __init__(self, space: spaces.Box, input_size: int, options: BlocksOptions) -> None:
        size = math.prod(space.shape)
        super().__init__(space, input_size, self.num_parameters * size, options)
        self.action_shape, self.encoded_size = (size,), size
        low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))
        self.is_bounded = (np.abs(low) < _LARGEST) & (np.abs(high) < _LARGEST)
        self._low, self._high = (np.where(self.is_bounded, bound, 0.0) for bound in (low, high))
        limits = np.finfo(space.dtype.name)
        self._smallest, self._largest = (np.clip(b, limits.min, limits.max) for b in (low, high))

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array | None:
        """Standard normal noise."""
        return generator.standard_normal((batch_size, *self.action_shape), dtype=np.float32)

    def uniform(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Draw uniformly between two finite bounds, otherwise from the standard normal."""
        normal: Array = generator.standard_normal((batch_size, self.encoded_size), np.float32)
        uniform = generator.uniform(-1.0, 1.0, normal.shape)
        return np.where(self.is_bounded, uniform, normal).astype(np.float32)

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

    def _require_bounds(self, name: str) -> None:
        if not self.is_bounded.all():
            raise ValueError(
                f"{name} scales actions to finite bounds, which {self.space} has not; "
                "use policy_head=gaussian, with agent=ppo or agent=a2c"
            )


class GaussianHead(BoxHead):
    """Diagonal Gaussian, unclipped, with state-independent standard deviations."""

    Options = GaussianHeadOptions

    def __init__(self, space: spaces.Box, input_size: int, options: GaussianHeadOptions) -> None:
        super().__init__(space, input_size, options)
        self.log_std = nn.Parameter(torch.full(self.action_shape, options.initial_log_std))

    def forward(self, summary: Float[Tensor, "*N H"]) -> DiagonalGaussian:
        """Return the action distribution of each row."""
        return DiagonalGaussian(self.linear(summary), self.log_std)

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""
        log_std = array_of(self.log_std)
        return lambda mean, noise: mean if noise is None else mean + np.exp(log_std) * noise


class SquashedGaussianHead(BoxHead):
    """The tanh of a Gaussian whose means and standard deviations depend on the summary.

    Source: Haarnoja et al. (2018), arXiv:1812.05905, appendices C and D; log standard deviations
    are clipped to [-20, 2].
    """

    Options = GaussianHeadOptions
    num_parameters = 2

    def __init__(self, space: spaces.Box, input_size: int, options: GaussianHeadOptions) -> None:
        super().__init__(space, input_size, options)
        self._require_bounds("squashed_gaussian")
        nn.init.constant_(self.output.bias[self.encoded_size :], options.initial_log_std)

    def forward(self, summary: Float[Tensor, "*N H"]) -> SquashedGaussian:
        """Return the action distribution of each row."""
        mean, log_std = self.linear(summary).chunk(2, dim=-1)
        return SquashedGaussian(mean, log_std.clamp(*_LOG_STD_RANGE))

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""
        size = self.encoded_size

        def choose(rows: Array, noise: Array | None) -> Array:
            inner = rows[:, :size]
            if noise is not None:
                inner = inner + np.exp(np.clip(rows[:, size:], *_LOG_STD_RANGE)) * noise
            return np.tanh(inner)

        return choose


class DeterministicHead(BoxHead):
    """The tanh of the layers' output, with Gaussian noise where it explores.

    Attributes:
        exploration_noise: standard deviation, in units of the bounds; set by the agent.
    """

    Options = DeterministicHeadOptions
    exploration_noise = 0.0

    def __init__(self, space: spaces.Box, input_size: int, options: BlocksOptions) -> None:
        super().__init__(space, input_size, options)
        self._require_bounds("deterministic")

    def forward(self, summary: Float[Tensor, "*N H"]) -> Deterministic:
        """Return the action of each row."""
        return Deterministic(self.linear(summary).tanh())

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array | None:
        """Gaussian noise of the actions."""
        if not self.exploration_noise:
            return None
        noise = generator.standard_normal((batch_size, *self.action_shape), dtype=np.float32)
        return noise * np.float32(self.exploration_noise)

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""

        def choose(rows: Array, noise: Array | None) -> Array:
            actions = np.tanh(rows)
            return actions if noise is None else np.clip(actions + noise, -1.0, 1.0)

        return choose
