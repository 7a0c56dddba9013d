"""Linear layers whose weights are noisy, so that a value network explores by itself.

The noise is an input like any other: whoever calls draws it, for each row or one for all.

Source: Fortunato et al. (2018), arXiv:1706.10295, section 3 (b), factorised Gaussian noise.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from networks.heads import HIDDEN_GAIN, NoisyFunction, ValueLayers, project_linear
from networks.initialization import initialize
from networks.mirror import ACTIVATIONS, Array, array_of, linear_mirror
from networks.mlp import ACTIVATION_MODULES


def squash(noise: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Give standard normal noise the spread that products of two need, `sign(e) sqrt |e|`."""
    return noise.sign() * noise.abs().sqrt()


class NoisyLinear(nn.Linear):
    """A linear layer, and a second one that noise on its inputs and outputs scales.

        y = W x + b + f(e_out) * (W_sigma (f(e_in) * x) + b_sigma),  f(e) = sign(e) sqrt |e|

    which is a layer with the weights `W + W_sigma * f(e_out) f(e_in)^T`, without ever making them.
    """

    def __init__(self, input_size: int, output_size: int, *, sigma: float) -> None:
        """Begin with every `sigma / sqrt(input_size)` (the paper's section 3.2)."""
        super().__init__(input_size, output_size)
        first = sigma / math.sqrt(input_size)
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, first))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, first))
        self.noise_size = input_size + output_size

    def forward(
        self, rows: Float[Tensor, "*N I"], noise: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*N O"]:
        """Apply the layer; without noise, its mean."""
        mean = functional.linear(rows, self.weight, self.bias)
        if noise is None:
            return mean
        of_inputs, of_outputs = squash(noise).split([self.in_features, self.out_features], dim=-1)
        perturbed = functional.linear(of_inputs * rows, self.weight_sigma, self.bias_sigma)
        result: Tensor = mean + of_outputs * perturbed
        return result

    def mirror(self) -> NoisyFunction:
        """Numpy form of `forward`."""
        mean, size = linear_mirror(self), self.in_features
        weight, bias = array_of(self.weight_sigma).T, array_of(self.bias_sigma)

        def apply(rows: Array, noise: Array | None) -> Array:
            output = mean(rows)
            if noise is not None:
                scales = np.sign(noise) * np.sqrt(np.abs(noise))
                output += scales[..., size:] * (np.dot(scales[..., :size] * rows, weight) + bias)
            return output

        return apply


class NoisyLayers(ValueLayers):
    """Hidden layers and an output layer like those of a plain head, all of them noisy."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        sigma: float,
        hidden_sizes: Sequence[int],
        activation: str,
        initialization: str,
        gain: float,
    ) -> None:
        """Build the layers; `gain` is of the output layer's mean, hidden ones use sqrt(2)."""
        super().__init__()
        sizes = [input_size, *hidden_sizes, output_size]
        layers = [NoisyLinear(*pair, sigma=sigma) for pair in pairwise(sizes)]
        for layer in layers:
            is_last = layer is layers[-1]
            initialize(layer, initialization=initialization, gain=gain if is_last else HIDDEN_GAIN)
        self.hidden, self.output = nn.ModuleList(layers[:-1]), layers[-1]
        self.activation, self._activation = ACTIVATION_MODULES[activation](), activation
        self.output_shape = (output_size,)
        self._noise_sizes = [layer.noise_size for layer in layers]
        self.noise_size = sum(self._noise_sizes)

    def forward(
        self, summary: Float[Tensor, "*N H"], noise: Float[Tensor, "..."] | None
    ) -> Float[Tensor, "*N O"]:
        """Apply all layers, each with its share of the noise."""
        shares = [None] * len(self._noise_sizes) if noise is None else self._split(noise)
        for layer, share in zip(self.hidden, shares[:-1], strict=True):
            summary = self.activation(layer(summary, share))
        output: Tensor = self.output(summary, shares[-1])
        return output

    def _split(self, noise: Float[Tensor, "..."]) -> list[Tensor | None]:
        return list(noise.split(self._noise_sizes, dim=-1))

    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Project the mean exactly, and the spread of the noise as if neighbours had the same.

        What is left of independent noise of one spread, in a sum with weights w, has that spread
        times `sqrt(sum w^2)`.
        """
        output, spread = self.output, weights.square().sum(-1).sqrt()
        project_linear(output.weight, output.bias, weights, bias)
        shares = weights * spread[:, None]
        project_linear(output.weight_sigma, output.bias_sigma, shares, torch.zeros_like(bias))

    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `forward`; None with an activation that numpy lacks."""
        function = ACTIVATIONS.get(self._activation)
        if function is None:
            return None
        layers = [layer.mirror() for layer in (*self.hidden, self.output)]
        ends = np.cumsum(self._noise_sizes)[:-1]

        def apply(summary: Array, noise: Array | None) -> Array:
            shares = [None] * len(layers) if noise is None else np.split(noise, ends, axis=-1)
            for layer, share in zip(layers[:-1], shares[:-1], strict=True):
                summary = function(layer(summary, share))
            output: Array = layers[-1](summary, shares[-1])
            return output

        return apply
