"""Value heads: a value head defines targets and losses, its layers compute the outputs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.extractors import BlocksOptions
from conf.schema.heads import HuberValueHeadOptions
from networks.extractors.mlp import MLP
from networks.initialization import initialize
from networks.layers import half_precision
from networks.mirror import Array, RowFunction, layers_mirror


@dataclass(frozen=True, kw_only=True)
class Rescaling:
    """Value rescaling: nearly linear around zero, like a square root for large values.

        h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x

    Source: Pohlen et al. (2018), arXiv:1805.11593, section 3.2; Kapturowski et al. (2019), R2D2.

    Attributes:
        eps: smallest slope, > 0, which makes the inverse Lipschitz continuous.
    """

    eps: float

    def __call__(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply h."""
        size = value.abs()
        # sqrt(a + 1) - 1 without cancellation.
        return value.sign() * (size / (torch.sqrt(size + 1) + 1)) + self.eps * value

    def inverse(self, scaled: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply the inverse of h.

        sign(y) (((sqrt(1 + 4 eps (|y| + 1 + eps)) - 1) / (2 eps))^2 - 1)
        """
        shifted = scaled.abs() + 1 + self.eps
        # The fraction without cancellation, as eps is small.
        root = 2 * shifted / (torch.sqrt(1 + 4 * self.eps * shifted) + 1)
        return scaled.sign() * (root.square() - 1)


Scale = Rescaling | None
Summary = Float[Tensor, "*N H"]
Values = Float[Tensor, "*N"]
Outputs = Float[Tensor, "..."]
"""Raw outputs of a value head: values, or several numbers for each."""
Noise = Float[Tensor, "..."] | None
"""Of noisy layers, broadcasts to `[*N, noise_size]`; None uses mean weights."""
Metrics = dict[str, Float[Tensor, ""]]


def bootstrapped(rewards: Outputs, discounts: Outputs, value: Outputs, scale: Scale) -> Outputs:
    """Compute `h(r + d h^-1(v'))`; without a scale, h is the identity."""
    if scale is None:
        return rewards + discounts * value
    return scale(rewards + discounts * scale.inverse(value))


HIDDEN_GAIN = math.sqrt(2)
"""Initialisation gain of hidden layers; the output layer's is configured."""

NoisyFunction = Callable[[Array, Array | None], Array]
"""`summary [B, H], noise or None -> rows [B, *O]`."""


class Head(nn.Module):
    """Hidden layers, then one linear layer.

    Attributes:
        half_precision: whether hidden layers compute in bfloat16.
    """

    half_precision = False

    def __init__(self, input_size: int, output_size: int, options: BlocksOptions) -> None:
        """Build the layers; `gain` is the output layer's, hidden layers use sqrt(2)."""
        super().__init__()
        self.hidden = MLP((input_size,), replace(options, gain=HIDDEN_GAIN))
        self.output = nn.Linear(self.hidden.output_size, output_size)
        initialize(self.output, initialization=options.initialization, gain=options.gain)

    @property
    def sequence(self) -> list[nn.Module]:
        """All layers in order."""
        return [*self.hidden.stages, self.output]

    @property
    def stages(self) -> list[nn.Module] | None:
        """All layers in order; None in half precision, which is more than these."""
        return None if self.half_precision else self.sequence

    def linear(self, summary: Summary, noise: Noise = None) -> Float[Tensor, "*N O"]:
        """Apply all layers, without noise; rows have at least one leading dimension."""
        if not self.hidden.hidden_sizes:
            return self.output(summary)
        rows = summary.flatten(0, -2)
        hidden = half_precision(self.hidden, rows, is_on=self.half_precision)
        return self.output(hidden).view(*summary.shape[:-1], -1)

    def linear_mirror(self) -> RowFunction | None:
        """Numpy form of `linear`; None in half precision, as acting must round as learning does."""
        return None if self.half_precision else layers_mirror(*self.sequence)


class ValueLayers(nn.Module, ABC):
    """Layers that compute the raw outputs of a value head.

    Attributes:
        output_shape: of one summary: `(K,)`; for action values `(A, K)`, or `(A,)` if K is 1.
        noise_size: standard normal numbers per row; 0 without noise.
    """

    output_shape: tuple[int, ...]
    noise_size: int

    @abstractmethod
    def forward(self, summary: Summary, noise: Noise) -> Outputs:
        """Map summaries to rows `[*N, *output_shape]`.

        Args:
            noise: broadcasts to `[*N, noise_size]`; None uses mean weights.
        """

    @abstractmethod
    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Change the output layers in place, so that an output y becomes `weights @ y + bias`."""

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
    """Compose a linear layer with a linear map of each group of K outputs, in place."""
    for rows, offsets in zip(weight.split(len(weights)), bias.split(len(weights)), strict=True):
        rows.copy_(weights @ rows)
        offsets.copy_(weights @ offsets + shift)


class StateLayers(Head, ValueLayers):
    """Layers of state values: K outputs for each summary."""

    noise_size = 0

    def __init__(self, input_size: int, output_size: int, options: BlocksOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.output_shape = (output_size,)

    forward = Head.linear

    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Project the output layer, each group of K outputs in the same way."""
        project_linear(self.output.weight, self.output.bias, weights, bias)

    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `forward`."""
        linear = self.linear_mirror()
        return None if linear is None else lambda summary, noise: linear(summary)


LayersFactory = Callable[[int], ValueLayers]
"""`K -> layers` with K outputs per value."""


class ValueHead(nn.Module, ABC):
    """State values, or action values, with the targets, loss and error that fit them.

    The layers compute the outputs. All methods but `forward` are elementwise, so that they apply to
    state and action values alike.

    Attributes:
        is_scalar: whether the output is the value itself, so that it can be clipped.
        fits_returns: whether targets can be returns, as in on-policy agents. If not, targets must
            come from `target`, which needs a later output.
        learns_support: whether `observe` must be called with the targets before each gradient step.
    """

    is_scalar = True
    fits_returns = True
    learns_support = False

    def __init__(self, layers: LayersFactory, width: int) -> None:
        """Build layers with `width` outputs per value."""
        super().__init__()
        self.layers = layers(width)

    @property
    def noise_size(self) -> int:
        """Noise numbers per row; 0 without noise."""
        return self.layers.noise_size

    def forward(self, summary: Summary, noise: Noise = None) -> Outputs:
        """Return the raw output of each summary.

        It is `[*N]` for a scalar head and `[*N, K]` for others; for action values `[*N, A]` and
        `[*N, A, K]`.

        Args:
            noise: of noisy layers, broadcasts to `[*N, noise_size]`; None uses mean weights.
        """
        output: Tensor = self.layers(summary, noise)
        return output.squeeze(-1) if self.is_scalar else output

    def value(self, output: Outputs) -> Outputs:
        """Return the value `[*N]` of each raw output, rescaled if the targets are."""
        return output

    def value_mirror(self) -> RowFunction:
        """Numpy form of `value`, on the layers' outputs `[..., K]`."""
        return lambda numbers: numbers[..., 0]

    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `value(forward(summary, noise))`."""
        layers, value = self.layers.mirror(), self.value_mirror()
        return None if layers is None else lambda summary, noise: value(layers(summary, noise))

    @torch.no_grad()
    def target(self, rewards: Values, discounts: Values, later: Outputs, scale: Scale) -> Outputs:
        """Return the bootstrapped target, `h(r + d h^-1(v'))`.

        Args:
            rewards: n-step rewards, discounted and summed, in units of return.
            discounts: of the bootstrap value; 0 where the episode terminated.
            later: raw output `[*N]` or `[*N, K]` to bootstrap from, of this head or of one
                with the same support.
            scale: value rescaling h; None for none.
        """
        return bootstrapped(rewards, discounts, self.value(later), scale)

    @abstractmethod
    def loss(self, output: Outputs, target: Outputs) -> Values:
        """Elementwise loss of raw outputs against the result of `target`, or against returns."""

    @torch.no_grad()
    def error(self, output: Outputs, target: Outputs) -> Outputs:
        """Absolute error `[*N]` against the result of `target`, `|y - v|`."""
        return (target - self.value(output)).abs()

    def observe(self, returns: Values, valid: Bool[Tensor, "*N"]) -> Metrics:
        """Update statistics of the targets before the gradient steps on them; return metrics.

        This updates everything that is not learnt by gradients, such as a support. Equal heads that
        observe the same targets keep the same support.
        """
        return {}


class MSEValueHead(ValueHead):
    """Regression with the squared error, `(v - y)^2`."""

    def __init__(self, layers: LayersFactory) -> None:
        super().__init__(layers, 1)

    def loss(self, output: Values, target: Values) -> Values:
        """Squared error."""
        return (output - target).square()


class HuberValueHead(ValueHead):
    """Quadratic within `delta` of the target, linear beyond (Huber 1964)."""

    Options = HuberValueHeadOptions

    def __init__(self, layers: LayersFactory, options: HuberValueHeadOptions) -> None:
        super().__init__(layers, 1)
        self.delta = options.delta

    def loss(self, output: Values, target: Values) -> Values:
        """Huber loss."""
        return functional.huber_loss(output, target, reduction="none", delta=self.delta)
