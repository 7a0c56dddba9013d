"""Memories whose recurrence is linear in their state, and therefore parallel in time.

Gates are computed from the inputs alone, for all steps at once; `networks.memory.scan` does the
rest. Layers are stacked with pre-normalisation and residual connections, `x + layer(norm(x))`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.memories import GatedMemoryOptions, LinearMemoryOptions, LRUOptions
from networks.initialization import initialize
from networks.memory.fused import Features, Outputs, State
from networks.memory.memories import IsFirst, Memory, MemoryMirror
from networks.memory.scan import scan
from networks.mirror import Array, array_of, layer_norm_mirror, linear_mirror, sigmoid, unchanged


class StackedMemory(Memory):
    """Layers of one width, each with its own state; features of another width are projected."""

    layer: ClassVar[Callable[..., nn.Module]]
    """Makes a layer, which maps inputs `[T, B, H]`, state and `is_first` as a memory does."""
    layers: Any

    def __init__(self, input_size: int, options: GatedMemoryOptions) -> None:
        super().__init__()
        self.output_size = width = options.hidden_size
        self.project: Any = nn.Identity() if input_size == width else nn.Linear(input_size, width)
        initialize(self.project, initialization=options.initialization, gain=options.gain)
        self.layers = nn.ModuleList(self.layer(options) for _ in range(options.num_layers))
        self.state_size = sum(layer.state_size for layer in self.layers)

    def forward(self, features: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps, layer after layer."""
        outputs, after = self.project(features), []
        for layer, before in zip(self.layers, state.chunk(len(self.layers), -1), strict=True):
            outputs, layer_state = layer(outputs, before, is_first)
            after.append(layer_state)
        return outputs, torch.cat(after, dim=-1)


def spread_timescales(count: int, longest: float) -> Float[Tensor, " {count}"]:
    """Return time constants in steps, evenly spread on a logarithmic scale from 2."""
    return torch.logspace(math.log10(2.0), math.log10(longest), count)


class LinearLayer(nn.Module, ABC):
    """`x + mix(norm(x))` with a linear recurrence inside `mix`."""

    state_size: int

    def __init__(self, options: LinearMemoryOptions) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(options.hidden_size)

    def forward(self, inputs: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps."""
        outputs, after = self.mix(self.norm(inputs), state, is_first)
        return inputs + outputs, after

    @abstractmethod
    def mix(self, inputs: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps; the state is cleared before every first observation."""

    @abstractmethod
    def mirror(self) -> Callable[[Array, Array], tuple[Array, Array]]:
        """Numpy form of `mix` at T = 1 without reset: `inputs, state -> outputs, state`."""


class LinearMemory(StackedMemory):
    """A stack of linear recurrences."""

    def mirror(self) -> MemoryMirror:
        """Numpy form of `forward` at T = 1."""
        is_same = isinstance(self.project, nn.Identity)
        project = unchanged if is_same else linear_mirror(self.project)
        layers = [(layer_norm_mirror(layer.norm), layer.mirror()) for layer in self.layers]
        size = self.state_size // len(layers)

        def apply(features: Array, state: Array, is_first: Array) -> tuple[Array, Array]:
            outputs, after = project(features), state * ~is_first[:, None]
            for index, (norm, mix) in enumerate(layers):
                block = after[:, index * size : (index + 1) * size]
                mixed, block[...] = mix(norm(outputs), block)
                outputs = outputs + mixed
            return outputs, after

        return apply


class MinGRULayer(LinearLayer):
    """`z = sigmoid(W_z x + b_z);  h' = (1 - z) h + z (W_h x + b_h)`; the output is `h'`."""

    def __init__(self, options: LinearMemoryOptions) -> None:
        super().__init__(options)
        self.state_size = size = options.hidden_size
        self.gates = nn.Linear(size, 2 * size)  # of 1 - z, and the candidate
        initialize(self.gates, initialization=options.initialization, gain=options.gain)
        with torch.no_grad():  # 1 - z = 1 - 1 / tau
            self.gates.bias[:size] = torch.log(spread_timescales(size, options.span) - 1)

    def mix(self, inputs: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps."""
        keep, new = self.gates(inputs).chunk(2, dim=-1)
        keep = keep.sigmoid()
        states = scan(keep.masked_fill(is_first[..., None], 0.0), new - keep * new, state)
        return states, states[-1]

    def mirror(self) -> Callable[[Array, Array], tuple[Array, Array]]:
        """Numpy form of `mix` at T = 1 without reset."""
        affine, size = linear_mirror(self.gates), self.state_size

        def mix(inputs: Array, state: Array) -> tuple[Array, Array]:
            gates = affine(inputs)
            keep, new = sigmoid(gates[:, :size]), gates[:, size:]
            after = new + keep * (state - new)
            return after, after

        return mix


class LRULayer(LinearLayer):
    """Linear recurrent unit of N complex numbers, read by a gated linear unit.

        h' = lambda h + sqrt(1 - |lambda|^2) B x;  y = (C [Re h', Im h'] + c) * sigmoid(...)

    with `lambda = exp(-exp(log_rate) + i phase)`, so that |lambda| < 1.
    """

    def __init__(self, options: LRUOptions) -> None:
        super().__init__(options)
        width, size = options.hidden_size, options.complex_size
        self.state_size = 2 * size
        self.write = nn.Linear(width, 2 * size, bias=False)
        self.read = nn.Linear(2 * size, 2 * width)
        initialize(self, initialization=options.initialization, gain=options.gain)
        self.log_rate = nn.Parameter(-torch.log(spread_timescales(size, options.span)))
        self.phase = nn.Parameter(nn.init.uniform_(torch.empty(size), 0.0, options.max_phase))

    def mix(self, inputs: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps."""
        rate = self.log_rate.exp()
        decays = torch.polar(torch.exp(-rate), self.phase)
        scale = torch.sqrt(-torch.expm1(-2 * rate)).repeat_interleave(2)
        increments = functional.linear(inputs, self.write.weight * scale[:, None])
        decays = decays * ~is_first[..., None]
        states = scan(decays, _complex(increments), _complex(state))
        numbers = torch.view_as_real(states).flatten(-2)
        return functional.glu(self.read(numbers)), numbers[-1]

    def mirror(self) -> Callable[[Array, Array], tuple[Array, Array]]:
        """Numpy form of `mix` at T = 1 without reset."""
        log_rate, phase = array_of(self.log_rate), array_of(self.phase)
        weight, read = array_of(self.write.weight).T, linear_mirror(self.read)

        def mix(inputs: Array, state: Array) -> tuple[Array, Array]:
            rate = np.exp(log_rate)
            increments = np.dot(inputs, weight).view(np.complex64)
            increments *= np.sqrt(-np.expm1(-2 * rate))
            increments += np.exp(1j * phase - rate) * np.ascontiguousarray(state).view(np.complex64)
            after = increments.view(np.float32)
            output, gate = np.split(read(after), 2, axis=1)
            return output * sigmoid(gate), after

        return mix


def _complex(numbers: Float[Tensor, "*N M"]) -> Tensor:
    """View pairs of numbers as complex ones."""
    return torch.view_as_complex(numbers.unflatten(-1, (-1, 2)))


class MinGRU(LinearMemory):
    """Minimal gated recurrent units (Feng et al. 2024, arXiv:2410.01201)."""

    Options = LinearMemoryOptions
    layer = MinGRULayer


class LRU(LinearMemory):
    """Linear recurrent units (Orvieto et al. 2023, arXiv:2303.06349)."""

    Options = LRUOptions
    layer = LRULayer
