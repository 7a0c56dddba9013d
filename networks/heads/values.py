"""Heads turn summaries into values here, into actions in `policy_heads`.

A value head is what values are fitted by; the layers that it has are how they are computed.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from networks.extractors.mlp import MLP
from networks.initialization import initialize
from networks.mirror import Array, RowFunction, chained, linear_mirror, mirror_of


@dataclass(frozen=True, kw_only=True)
class Rescaling:
    """Nearly linear about zero, like a square root far out.

        h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x

    Source: Pohlen et al. (2018), arXiv:1805.11593, section 3.2; Kapturowski et al. (2019), R2D2.

    Attributes:
        eps: least slope, which makes the inverse continuous in Lipschitz' sense; > 0.
    """

    eps: float

    def __call__(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Squash a value."""
        size = value.abs()
        # sqrt(a + 1) - 1 without the difference of two numbers near one.
        return value.sign() * (size / (torch.sqrt(size + 1) + 1)) + self.eps * value

    def inverse(self, scaled: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the value that is squashed to this one.

        sign(y) (((sqrt(1 + 4 eps (|y| + 1 + eps)) - 1) / (2 eps))^2 - 1)
        """
        shifted = scaled.abs() + 1 + self.eps
        # The fraction, without the difference of two numbers near one: eps is small.
        root = 2 * shifted / (torch.sqrt(1 + 4 * self.eps * shifted) + 1)
        return scaled.sign() * (root.square() - 1)


HIDDEN_GAIN = math.sqrt(2)
"""Of the layers before the output, whose own is configured."""

NoisyFunction = Callable[[Array, Array | None], Array]
"""`summary [B, H], noise or None -> rows [B, *O]`."""


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
            gain=HIDDEN_GAIN,
        )
        self.output = nn.Linear(self.hidden.output_size, output_size)
        initialize(self.output, initialization=initialization, gain=gain)

    def linear(
        self, summary: Float[Tensor, "*N H"], noise: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*N O"]:
        """Apply all layers, which take no noise; rows may have any leading shape but none."""
        if not self.hidden.hidden_sizes:
            rows: Tensor = self.output(summary)
            return rows
        rows = self.output(self.hidden(summary.flatten(0, -2)))
        return rows.view(*summary.shape[:-1], -1)

    def linear_mirror(self) -> RowFunction | None:
        """Numpy form of `linear`."""
        hidden, output = mirror_of(self.hidden), linear_mirror(self.output)
        return None if hidden is None else chained(hidden, output)


class ValueLayers(nn.Module, ABC):
    """How the raw numbers of a value head come out of a summary.

    Attributes:
        output_shape: of one summary's numbers: `(K,)`, or `(A, K)` with a value for each action.
        noise_size: numbers of standard normal noise that a row takes; 0 where there is none.
    """

    output_shape: tuple[int, ...]
    noise_size: int

    @abstractmethod
    def forward(
        self, summary: Float[Tensor, "*N H"], noise: Float[Tensor, "..."] | None
    ) -> Float[Tensor, "..."]:
        """Map summaries to rows `[*N, *output_shape]`.

        Args:
            noise: `[*N, noise_size]`, or what broadcasts to it; None is the mean of all noise.
        """

    @abstractmethod
    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Change the output layers so that what was the row y is `weights @ y + bias`, in place."""

    @abstractmethod
    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `forward`, on `[B, H]`."""


@torch.no_grad()
def project_linear(
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, " O"],
    weights: Float[Tensor, "K K"],
    shift: Float[Tensor, " K"],
) -> None:
    """Follow a linear layer, whose outputs are groups of K numbers, by a linear map of each."""
    for rows, offsets in zip(weight.split(len(weights)), bias.split(len(weights)), strict=True):
        rows.copy_(weights @ rows)
        offsets.copy_(weights @ offsets + shift)


class StateLayers(Head, ValueLayers):
    """A head's layers: the numbers of one value for each summary."""

    noise_size = 0

    def __init__(self, input_size: int, output_size: int, **layers: Any) -> None:
        """Build the layers."""
        super().__init__(input_size, output_size, **layers)
        self.output_shape = (output_size,)

    forward = Head.linear

    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Project the output layer, each group of K outputs alike."""
        project_linear(self.output.weight, self.output.bias, weights, bias)

    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `forward`."""
        linear = self.linear_mirror()
        return None if linear is None else lambda summary, noise: linear(summary)


LayersFactory = Callable[[int], ValueLayers]
"""`K -> layers` that make the K numbers of each value."""


class ValueHead(nn.Module, ABC):
    """A value per summary, or per summary and action, in whatever form is fitted best.

    How it is fitted is the head's: its targets, its loss, its error. How it is computed is up to
    the layers. All but `forward` is elementwise, so that it means the same of states and actions.

    Attributes:
        is_scalar: whether the output is the value itself, so that it can be clipped.
        fits_returns: whether any return can be a target, as on-policy agents have them. Where not,
            `target` alone can make one, of one later output.
        learns_support: whether `observe` must see targets before each step that is taken on them.
    """

    is_scalar = True
    fits_returns = True
    learns_support = False

    def __init__(self, layers: LayersFactory, width: int) -> None:
        """Build the layers for `width` numbers of each value."""
        super().__init__()
        self.layers = layers(width)

    @property
    def noise_size(self) -> int:
        """Numbers of noise that a row takes; 0 where there is none."""
        return self.layers.noise_size

    def forward(
        self, summary: Float[Tensor, "*N H"], noise: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "..."]:
        """Return the raw output of each summary.

        It is `[*N]` of a scalar head and `[*N, K]` of others; of the values of actions `[*N, A]`
        and `[*N, A, K]`.

        Args:
            noise: of noisy layers, `[*N, noise_size]` or what broadcasts to it; None is its mean.
        """
        output: Tensor = self.layers(summary, noise)
        return output.squeeze(-1) if self.is_scalar else output

    def value(self, output: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the value `[*N]` that each raw output stands for, in the units it is fitted in."""
        return output

    def value_mirror(self) -> RowFunction:
        """Numpy form of `value`, on the numbers `[..., K]` that the layers make."""
        return lambda numbers: numbers[..., 0]

    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `forward` and `value` together, `summary, noise -> values`."""
        layers, value = self.layers.mirror(), self.value_mirror()
        return None if layers is None else lambda summary, noise: value(layers(summary, noise))

    @torch.no_grad()
    def target(
        self,
        rewards: Float[Tensor, "*N"],
        discounts: Float[Tensor, "*N"],
        next_output: Float[Tensor, "..."],
        scale: Rescaling | None,
    ) -> Float[Tensor, "..."]:
        """Return what to fit to rewards and the value after them, `h(r + d h^-1(v'))`.

        Args:
            rewards: discounted sum of the rewards on the way, in units of return.
            discounts: of what comes after them; 0 where the episode terminated.
            next_output: raw output `[*N]` or `[*N, K]` of what comes after, of this head or of one
                with the same support.
            scale: h, in which values are fitted; None where they are as they are.
        """
        value = self.value(next_output)
        if scale is None:
            return rewards + discounts * value
        return scale(rewards + discounts * scale.inverse(value))

    @abstractmethod
    def loss(
        self, output: Float[Tensor, "..."], target: Float[Tensor, "..."]
    ) -> Float[Tensor, "*N"]:
        """Elementwise loss of raw outputs against what `target` makes, or against returns."""

    @torch.no_grad()
    def error(
        self, output: Float[Tensor, "..."], target: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Size `[*N]` of the error against what `target` makes, >= 0: `|y - v|`."""
        return (target - self.value(output)).abs()

    def observe(
        self, returns: Float[Tensor, "*N"], valid: Bool[Tensor, "*N"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Look at targets, as numbers, before the first step on them; return metrics.

        What a head learns of its targets in other ways than by gradients, it learns here: equal
        heads that observe the same stay comparable.
        """
        return {}


class MSEValueHead(ValueHead):
    """Regression by the squared error, `(v - y)^2`."""

    def __init__(self, layers: LayersFactory) -> None:
        """Build the layers."""
        super().__init__(layers, 1)

    def loss(self, output: Float[Tensor, "*N"], target: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Squared error."""
        return (output - target).square()


class HuberValueHead(ValueHead):
    """Quadratic within `delta` of the target, linear beyond (Huber 1964)."""

    def __init__(self, layers: LayersFactory, *, delta: float) -> None:
        """Build the layers; `delta` is in units of the target."""
        super().__init__(layers, 1)
        self.delta = delta

    def loss(self, output: Float[Tensor, "*N"], target: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Huber loss."""
        return functional.huber_loss(output, target, reduction="none", delta=self.delta)
