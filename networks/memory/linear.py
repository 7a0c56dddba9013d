"""Memories whose recurrence is linear in their state, and therefore parallel in time.

Gates are computed from the inputs alone, for all steps at once; `networks.memory.scan` does the
rest. Layers are stacked with pre-normalisation and residual connections, `x + layer(norm(x))`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.memories import LinearMemoryOptions, LRUOptions
from networks.initialization import initialize, spread_timescales
from networks.memory.fused import Features, IsFirst, Outputs, State, StepMirror
from networks.memory.memories import StackedMemory
from networks.memory.scan import scan
from networks.mirror import Array, array_of, layer_norm_mirror, linear_mirror, sigmoid


class ResidualMemory(StackedMemory):
    """Layers of one width, `x + layer(norm(x))`; features of another width are projected.

    Linear recurrences have a short convolution before each, if one is configured.
    """

    def _stack(self, input_size: int, options: Any) -> Iterator[nn.Module]:
        if input_size != self.output_size:
            self.project = nn.Linear(input_size, self.output_size)
            initialize(self.project, initialization=options.initialization, gain=options.gain)
        for _ in range(options.num_layers):
            if isinstance(options, LinearMemoryOptions) and options.conv_width > 1:
                yield ShortConvolution(options)
            yield self.layer(options)


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
    def mix_mirror(self) -> StepMirror:
        """Numpy form of `mix` at T = 1 without reset."""

    def mirror(self) -> StepMirror:
        """Numpy form of `forward` at T = 1 without reset."""
        norm, mix = layer_norm_mirror(self.norm), self.mix_mirror()

        def apply(inputs: Array, state: Array) -> tuple[Array, Array]:
            mixed, after = mix(norm(inputs), state)
            return inputs + mixed, after

        return apply


class ShortConvolution(nn.Module):
    """`y_t = x_t + sum_d w_d x_{t-d}` over the last W inputs of the episode, unit by unit.

    The gates after it see W steps, not the newest alone. The state is the W - 1 inputs before the
    next step, oldest first; those of earlier episodes are zero.
    """

    def __init__(self, options: LinearMemoryOptions) -> None:
        super().__init__()
        width, size = options.conv_width, options.hidden_size
        self.state_size = (width - 1) * size
        bound = width**-0.5  # as PyTorch's convolutions
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(width, size), -bound, bound))

    def forward(self, inputs: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps."""
        steps, back = len(inputs), len(self.weight) - 1
        stream = torch.cat([state.unflatten(-1, (back, -1)).transpose(0, 1), inputs])
        episode = functional.pad(is_first.cumsum(0), (0, 0, back, 0))
        taps = [inputs]
        for start, weight in enumerate(self.weight):
            read = slice(start, start + steps)
            is_other = episode[read] != episode[back:]
            taps.append(weight * stream[read].masked_fill(is_other[..., None], 0.0))
        is_other = episode[steps:] != episode[-1]
        window = stream[steps:].masked_fill(is_other[..., None], 0.0)
        return torch.stack(taps).sum(0), window.transpose(0, 1).flatten(1)

    def mirror(self) -> StepMirror:
        """Numpy form of `forward` at T = 1 without reset."""
        weight = array_of(self.weight)

        def apply(inputs: Array, state: Array) -> tuple[Array, Array]:
            stream = np.concatenate([state, inputs], axis=1)
            taps = stream.reshape(len(inputs), *weight.shape) * weight
            return inputs + taps.sum(1), stream[:, inputs.shape[1] :]

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

    def mix_mirror(self) -> StepMirror:
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

    def mix_mirror(self) -> StepMirror:
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


class MinGRU(ResidualMemory):
    """Minimal gated recurrent units (Feng et al. 2024, arXiv:2410.01201)."""

    Options = LinearMemoryOptions
    layer = MinGRULayer


class LRU(ResidualMemory):
    """Linear recurrent units (Orvieto et al. 2023, arXiv:2303.06349)."""

    Options = LRUOptions
    layer = LRULayer
