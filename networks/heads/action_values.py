"""Layers of action values: plain, dueling, noisy, or both."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.extractors import BlocksOptions
from networks.extractors.mlp import ACTIVATION_MODULES
from networks.heads.values import (
    HIDDEN_GAIN,
    Noise,
    NoisyFunction,
    StateLayers,
    Summary,
    ValueLayers,
    project_linear,
)
from networks.initialization import initialize
from networks.mirror import Array, array_of, layers_mirror, linear_mirror


def squash(noise: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Scale factorised standard normal noise, `f(e) = sign(e) sqrt |e|`."""
    return noise.sign() * noise.abs().sqrt()


class NoisyLinear(nn.Linear):
    """Linear layer with factorised Gaussian noise.

        y = W x + b + f(e_out) * (W_sigma (f(e_in) * x) + b_sigma),  f(e) = sign(e) sqrt |e|

    This equals a layer with weights `W + W_sigma * f(e_out) f(e_in)^T`, which are never computed.
    """

    def __init__(self, input_size: int, output_size: int, *, sigma: float) -> None:
        """Initialise noise weights with `sigma / sqrt(input_size)` (the paper's section 3.2)."""
        super().__init__(input_size, output_size)
        first = sigma / math.sqrt(input_size)
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, first))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, first))
        self.noise_size = input_size + output_size

    def forward(self, rows: Float[Tensor, "*N I"], noise: Noise = None) -> Float[Tensor, "*N O"]:
        """Apply the layer; without noise, its mean weights."""
        mean = functional.linear(rows, self.weight, self.bias)
        if noise is None:
            return mean
        of_inputs, of_outputs = squash(noise).split([self.in_features, self.out_features], dim=-1)
        perturbed = functional.linear(of_inputs * rows, self.weight_sigma, self.bias_sigma)
        return mean + of_outputs * perturbed

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


def _shares(noise: Any, sizes: Sequence[int]) -> list[Any]:
    """Split a tensor or an array `[*N, sum(sizes)]` of noise; None for each without noise."""
    if noise is None:
        return [None] * len(sizes)
    ends = zip(sizes, accumulate(sizes), strict=True)
    return [noise[..., end - size : end] for size, end in ends]


class NoisyLayers(ValueLayers):
    """The layers of a plain head, all of them noisy."""

    def __init__(
        self, input_size: int, output_size: int, options: BlocksOptions, *, sigma: float
    ) -> None:
        """Build the layers; `gain` is the output layer's, hidden layers use sqrt(2)."""
        super().__init__()
        sizes = [input_size, *options.hidden_sizes, output_size]
        layers = [NoisyLinear(*pair, sigma=sigma) for pair in pairwise(sizes)]
        for layer in layers:
            gain = options.gain if layer is layers[-1] else HIDDEN_GAIN
            initialize(layer, initialization=options.initialization, gain=gain)
        self.hidden, self.output = nn.ModuleList(layers[:-1]), layers[-1]
        self.activation = ACTIVATION_MODULES[options.activation]()
        self.output_shape = (output_size,)
        self._noise_sizes = [layer.noise_size for layer in layers]
        self.noise_size = sum(self._noise_sizes)

    def forward(self, summary: Summary, noise: Noise) -> Float[Tensor, "*N O"]:
        """Apply all layers, each with its share of the noise."""
        *shares, last = _shares(noise, self._noise_sizes)
        for layer, share in zip(self.hidden, shares, strict=True):
            summary = self.activation(layer(summary, share))
        return self.output(summary, last)

    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Project the mean exactly, and noise scales as if neighbours had equal ones.

        A sum with weights w of independent noise of equal scale has that scale times
        `sqrt(sum w^2)`.
        """
        output, spread = self.output, weights.square().sum(-1).sqrt()
        project_linear(output.weight, output.bias, weights, bias)
        shares = weights * spread[:, None]
        project_linear(output.weight_sigma, output.bias_sigma, shares, torch.zeros_like(bias))

    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `forward`; None if numpy lacks the activation."""
        function = layers_mirror(self.activation)
        if function is None:
            return None
        *hidden, output = (layer.mirror() for layer in (*self.hidden, self.output))
        sizes = self._noise_sizes

        def apply(summary: Array, noise: Array | None) -> Array:
            *shares, last = _shares(noise, sizes)
            for layer, share in zip(hidden, shares, strict=True):
                summary = function(layer(summary, share))
            return output(summary, last)

        return apply


class ActionLayers(ValueLayers):
    """K outputs for each summary and action.

    Dueling layers have a state stream and an action stream with separate hidden layers, combined
    elementwise:

        q(s, a) = v(s) + u(s, a) - mean_a' u(s, a')

    Source: Wang et al. (2016), arXiv:1511.06581, eq. 9; for distributions, on logits, Hessel et al.
    (2018), arXiv:1710.02298, section 4.
    """

    def __init__(
        self,
        input_size: int,
        width: int,
        *,
        options: BlocksOptions,
        num_actions: int,
        dueling: bool,
        noisy: bool,
        noisy_sigma: float,
    ) -> None:
        """Build the layers.

        Args:
            width: outputs per value, K.
            noisy: whether all linear layers are noisy.
            noisy_sigma: initial noise scale, in units of `1 / sqrt(inputs)`.
        """
        super().__init__()

        def stream(output_size: int) -> ValueLayers:
            if noisy:
                return NoisyLayers(input_size, output_size, options, sigma=noisy_sigma)
            return StateLayers(input_size, output_size, options)

        self.actions = stream(num_actions * width)
        self.state = stream(width) if dueling else None
        self._table = (num_actions, width)
        self.output_shape = self._table if width > 1 else (num_actions,)
        self._noise_sizes = [each.noise_size for each in (self.actions, self.state) if each]
        self.noise_size = sum(self._noise_sizes)

    @property
    def stages(self) -> list[nn.Module] | None:
        """The action stream; None if there is also noise or a state stream."""
        return None if self.noise_size or self.state is not None else [self.actions]

    def forward(self, summary: Summary, noise: Noise) -> Float[Tensor, "*N A K"]:
        """Return the outputs of each action."""
        own, *common = _shares(noise, self._noise_sizes)
        output: Tensor = self.actions(summary, own).unflatten(-1, self._table)
        if self.state is None:
            return output
        value: Tensor = self.state(summary, *common)
        return value[..., None, :] + output - output.mean(-2, keepdim=True)

    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Project both streams; the mean over actions cancels the action stream's bias."""
        self.actions.project(weights, bias)
        if self.state is not None:
            self.state.project(weights, bias)

    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `forward`."""
        actions, state = self.actions.mirror(), self.state and self.state.mirror()
        table, sizes = self._table, self._noise_sizes
        if actions is None:
            return None

        def apply(summary: Array, noise: Array | None) -> Array:
            own, *common = _shares(noise, sizes)
            output = actions(summary, own).reshape(-1, *table)
            if state is not None:
                output -= output.mean(-2, keepdims=True)
                output += state(summary, *common)[:, None]
            return output

        return apply
