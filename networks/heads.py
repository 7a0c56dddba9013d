"""Heads turn summaries into action distributions and values, and value heads own their loss.

`make_policy_head` is the one place that looks at an action space.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from networks.distributions import Categorical, DiagonalGaussian
from networks.initialization import initialize
from networks.mirror import Array, RowFunction, array_of, linear_mirror, mirror_of
from networks.mlp import MLP

HeadMirror = Callable[[Array, Array | None], Array]
"""`summary [B, H], noise or None -> actions [B, *A]`; None asks for the mode."""

_HIDDEN_GAIN = math.sqrt(2)
_TINY = np.finfo(np.float32).tiny


class Head(nn.Module):
    """Hidden layers of the head's own, then one linear layer."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        hidden_sizes: Sequence[int],
        activation: str,
        initialization: str,
        gain: float,
    ) -> None:
        """Build the layers; `gain` is the output layer's, hidden ones use sqrt(2)."""
        super().__init__()
        self.hidden = MLP(
            (input_size,),
            hidden_sizes=hidden_sizes,
            activation=activation,
            layer_norm=False,
            initialization=initialization,
            gain=_HIDDEN_GAIN,
        )
        self.output = nn.Linear(self.hidden.output_size, output_size)
        initialize(self.output, initialization=initialization, gain=gain)

    def linear(self, summary: Float[Tensor, "*N H"]) -> Float[Tensor, "*N O"]:
        """Apply all layers; rows may have any leading shape of one dimension or more."""
        rows: Tensor = self.output(self.hidden(summary.flatten(0, -2)))
        return rows.view(*summary.shape[:-1], -1)

    def linear_mirror(self) -> RowFunction | None:
        """Numpy form of `linear`."""
        hidden, output = mirror_of(self.hidden), linear_mirror(self.output)
        return None if hidden is None else lambda summary: output(hidden(summary))


class PolicyHead(Head, ABC):
    """Maps summaries to a distribution over the policy's own actions (unclipped, 0-based)."""

    action_shape: tuple[int, ...]
    action_dtype: torch.dtype

    @abstractmethod
    def forward(self, summary: Float[Tensor, "*N H"]) -> Categorical | DiagonalGaussian:
        """Return the distribution of each row's action."""

    @abstractmethod
    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Draw what `sample` needs for a batch, `[B, ...]` float32."""

    @abstractmethod
    def to_environment(self, actions: Array) -> Array:
        """Map the policy's actions to the environment's."""

    @abstractmethod
    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` and sampling together."""


class CategoricalHead(PolicyHead):
    """One of K actions; the environment counts them from `start`."""

    def __init__(
        self, space: gymnasium.spaces.Discrete[Any], input_size: int, **layers: Any
    ) -> None:
        """Build the layers for the space."""
        super().__init__(input_size, int(space.n), **layers)
        self.start = int(space.start)
        self.action_shape, self.action_dtype = (), torch.int64

    def forward(self, summary: Float[Tensor, "*N H"]) -> Categorical:
        """Return the distribution of each row's action."""
        return Categorical(self.linear(summary))

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard Gumbel, one number per action: `-log E` with E standard exponential."""
        size = (batch_size, self.output.out_features)
        noise = generator.standard_exponential(size, dtype=np.float32)
        np.maximum(noise, _TINY, out=noise)
        return np.negative(np.log(noise, out=noise), out=noise)

    def to_environment(self, actions: Array) -> Array:
        """Count from the space's `start`."""
        return actions + self.start if self.start else actions

    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` and sampling together."""
        linear = self.linear_mirror()
        if linear is None:
            return None

        def apply(summary: Array, noise: Array | None) -> Array:
            logits = linear(summary)
            actions: Array = (logits if noise is None else logits + noise).argmax(-1)
            return actions

        return apply


class GaussianHead(PolicyHead):
    """Real actions from a diagonal Gaussian; its deviations are parameters, whatever the state.

    The policy works in units of the bounds: -1 and 1 are `low` and `high`, beyond them the
    environment receives the bound while the policy keeps the action it drew. Dimensions without two
    finite bounds are handed on as they are.
    """

    def __init__(
        self,
        space: gymnasium.spaces.Box,
        input_size: int,
        *,
        initial_log_std: float,
        **layers: Any,
    ) -> None:
        """Build the layers for the space."""
        super().__init__(input_size, math.prod(space.shape), **layers)
        self.log_std = nn.Parameter(torch.full((math.prod(space.shape),), initial_log_std))
        self.space = space
        self.action_shape, self.action_dtype = space.shape, torch.float32
        self._bounded = np.isfinite(space.low) & np.isfinite(space.high)
        self._low = np.where(self._bounded, space.low, 0.0).astype(np.float64)
        self._range = np.where(self._bounded, space.high - self._low, 0.0).astype(np.float64)

    def forward(self, summary: Float[Tensor, "*N H"]) -> DiagonalGaussian:
        """Return the distribution of each row's action."""
        return DiagonalGaussian(self.linear(summary), self.log_std)

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard normal."""
        size = (batch_size, math.prod(self.action_shape))
        return generator.standard_normal(size, dtype=np.float32)

    def to_environment(self, actions: Array) -> Array:
        """Scale [-1, 1] to the bounds where there are two, and cut to the space everywhere."""
        scaled = self._low + (actions.astype(np.float64) + 1.0) * 0.5 * self._range
        mapped = np.where(self._bounded, scaled, actions)
        bounded: Array = np.clip(mapped, self.space.low, self.space.high)
        return bounded.astype(self.space.dtype)

    def mirror(self) -> HeadMirror | None:
        """Numpy form of `forward` and sampling together."""
        linear = self.linear_mirror()
        if linear is None:
            return None
        log_std = array_of(self.log_std)

        def apply(summary: Array, noise: Array | None) -> Array:
            mean = linear(summary)
            return mean if noise is None else mean + np.exp(log_std) * noise

        return apply


def make_policy_head(
    space: gymnasium.Space[Any],
    input_size: int,
    *,
    hidden_sizes: Sequence[int],
    activation: str,
    initialization: str,
    gain: float,
    initial_log_std: float,
) -> PolicyHead:
    """Choose the policy head for an action space.

    Args:
        gain: initialisation gain of the output layer; 0.01 starts near the uniform policy.
        initial_log_std: log of the Gaussian's first standard deviation (Box spaces only).

    Raises:
        ValueError: no policy here can act in the space.
    """
    layers = {
        "hidden_sizes": hidden_sizes,
        "activation": activation,
        "initialization": initialization,
        "gain": gain,
    }
    if isinstance(space, gymnasium.spaces.Discrete):
        return CategoricalHead(space, input_size, **layers)
    if isinstance(space, gymnasium.spaces.Box):
        return GaussianHead(space, input_size, initial_log_std=initial_log_std, **layers)
    raise ValueError(f"action space {space} is not supported; use Discrete or Box")


class ValueHead(Head, ABC):
    """One number per summary, trained by a loss of its own."""

    def __init__(
        self,
        input_size: int,
        *,
        hidden_sizes: Sequence[int],
        activation: str,
        initialization: str,
        gain: float,
    ) -> None:
        """Build the layers."""
        super().__init__(
            input_size,
            1,
            hidden_sizes=hidden_sizes,
            activation=activation,
            initialization=initialization,
            gain=gain,
        )

    def forward(self, summary: Float[Tensor, "*N H"]) -> Float[Tensor, "*N"]:
        """Return the value of each summary."""
        return self.linear(summary).squeeze(-1)

    @abstractmethod
    def loss(self, output: Float[Tensor, "*N"], target: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Elementwise loss of the head's output against a scalar target."""


class MSEValueHead(ValueHead):
    """Regression by the squared error, `(v - y)^2`."""

    def loss(self, output: Float[Tensor, "*N"], target: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Squared error."""
        return (output - target).square()


class HuberValueHead(ValueHead):
    """Quadratic within `delta` of the target, linear beyond (Huber 1964)."""

    def __init__(self, input_size: int, *, delta: float, **layers: Any) -> None:
        """Build the layers; `delta` is in units of the target."""
        super().__init__(input_size, **layers)
        self.delta = delta

    def loss(self, output: Float[Tensor, "*N"], target: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Huber loss."""
        return functional.huber_loss(output, target, reduction="none", delta=self.delta)
