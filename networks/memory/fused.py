"""Recurrent layers with exact resets within a sequence, one fused kernel call per layer.

PyTorch's recurrent kernels have no resets. Here *null steps* are inserted before every first
observation. Their features are zero, and an extra input, whose weight column is appended at call
time, forces the gates so that the state becomes exactly zero and no gradient passes. The time per
step is that of the plain kernel, for any number of environments and resets. A layer's state is one
tensor whose first H numbers are its output. `networks.memory.memories` stacks layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.memories import GatedMemoryOptions, RNNOptions, SpanOptions
from networks.initialization import initialize_recurrent, spread_timescales
from networks.memory.gru_loop import gru_loop
from networks.mirror import Array, RowFunction, affine_mirror, sigmoid

Features = Float[Tensor, "T B F"]
Outputs = Float[Tensor, "T B H"]
State = Float[Tensor, "B S"]
IsFirst = Bool[Tensor, "T B"]
"""Whether an episode begins with the step."""


@dataclass(frozen=True)
class NullSteps:
    """Positions of real steps and null steps in the stretched batch.

    Every column (environment) of `[T, B]` is stretched to `length = T + n * R` steps, where R is
    the largest number of resets in a column: n null steps before each first observation, and
    padding at the end of columns with fewer resets.
    """

    length: int
    rows: Int[Tensor, " TB"]  # row of each real step in the flattened [length * B]
    flags: Float[Tensor, "L B N"]  # one column per null step of a reset, the last marks padding

    @staticmethod
    def plan(is_first: IsFirst, null_steps: int) -> "NullSteps | None":
        """Plan the stretched batch; None if no episode starts after the first step."""
        if len(is_first) == 1:
            return None
        inner = is_first[1:]
        resets = functional.pad(inner.long().cumsum(0), (0, 0, 1, 0))  # [T, B]
        most = int(resets[-1].max())
        if most == 0:
            return None
        steps, batch = is_first.shape
        length = steps + null_steps * most
        times = torch.arange(steps, device=is_first.device)[:, None] + null_steps * resets
        rows = times * batch + torch.arange(batch, device=is_first.device)
        flags = torch.zeros(length * batch, null_steps + 1, device=is_first.device)
        openings = rows[1:][inner]
        for index in range(null_steps):
            flags[openings - (null_steps - index) * batch, index] = 1.0
        flags = flags.view(length, batch, -1)
        ends = steps + null_steps * resets[-1]
        flags[:, :, -1] = torch.arange(length, device=is_first.device)[:, None] >= ends
        return NullSteps(length, rows.reshape(-1), flags)

    def stretch(self, steps: Float[Tensor, "T B F"]) -> Float[Tensor, "L B FN"]:
        """Place real steps in the stretched batch and append the flags as inputs."""
        _, batch, size = steps.shape
        spread = steps.new_zeros(self.length * batch, size)
        spread = spread.index_copy(0, self.rows, steps.reshape(-1, size))
        return torch.cat([spread.view(self.length, batch, size), self.flags.to(steps)], dim=-1)

    def gather(self, outputs: Float[Tensor, "L B H"], steps: int) -> Float[Tensor, "T B H"]:
        """Select the outputs of real steps."""
        size = outputs.shape[-1]
        return outputs.reshape(-1, size).index_select(0, self.rows).view(steps, -1, size)


StepMirror = Callable[[Array, Array], tuple[Array, Array]]
"""`inputs [B, F], state [B, S] -> outputs [B, H], state [B, S]`."""

_FORCE = 1e4
"""Pre-activation that saturates every gate: sigmoid(-1e4) is exactly 0 and tanh(1e4) exactly 1."""
_BEYOND = 1e30


class FusedLayer(nn.Module, ABC):
    """A recurrent layer: a fused call over time with resets, a single step, and a mirror."""

    kernel: nn.RNNBase
    null_steps = 1
    """Null steps needed to clear the state."""
    state_size: int
    _fused: Callable[..., Any]
    _cell: Callable[..., Any]
    """PyTorch's functions of T steps and of a single one."""

    def __init__(self, kernel: nn.RNNBase, options: GatedMemoryOptions) -> None:
        """Initialise the parameters of a PyTorch layer."""
        super().__init__()
        self.kernel = kernel
        self.output_size = self.state_size = kernel.hidden_size
        initialize_recurrent(kernel, initialization=options.initialization, gain=options.gain)

    @torch.no_grad()
    def _spread(self, span: float | None, *, keep: int, write: int | None = None) -> None:
        """Shift the biases so that gates keep `1 - 1 / tau` of the state and write `1 / tau`.

        tau is spread from 2 steps to `span` over the units; None: no shift. Source: Tallec &
        Ollivier (2018), arXiv:1804.11188, equation 16.
        """
        if span is not None:
            biases = self.weights[2].split(self.output_size)
            shift = torch.log(spread_timescales(self.output_size, span) - 1)
            biases[keep].add_(shift)
            if write is not None:
                biases[write].sub_(shift)

    @property
    def weights(self) -> list[Tensor]:
        """Input weights, recurrent weights and their biases: `[G, F], [G, H], [G], [G]`."""
        return list(self.kernel.all_weights[0])

    @abstractmethod
    def _columns(self) -> Float[Tensor, "G N"]:
        """Weight columns of the extra inputs: one per null step of a reset, then the padding's."""

    def _run(self, inputs: Features, state: State, weights: list[Tensor]) -> tuple[Outputs, State]:
        """Call the fused kernel; return the outputs and the state after the last step.

        cuDNN needs contiguous states, and has gradients in training mode only.
        """
        parts = [part[None].contiguous() for part in state.split(self.output_size, dim=-1)]
        before = parts if len(parts) > 1 else parts[0]
        training = torch.is_grad_enabled()
        outputs, *after = self._fused(inputs, before, weights, True, 1, 0.0, training, False, False)
        return outputs, torch.cat([part[0] for part in after], dim=-1)

    def step(self, inputs: Float[Tensor, "B F"], state: State) -> State:
        """Advance the state by one step, without reset."""
        return self._cell(inputs, state, *self.weights)

    @abstractmethod
    def mirror(self) -> StepMirror:
        """Numpy form of `step`."""

    def forward(
        self, features: Features, state: State, plan: NullSteps | None
    ) -> tuple[Outputs, State]:
        """Process T steps.

        Args:
            state: cleared where the first step opens an episode.
            plan: of the null steps that clear it before later first observations; None for none.
        """
        if len(features) == 1:
            state = self.step(features[0], state)
            return state[None, :, : self.output_size], state
        weights = self.weights
        if plan is None:
            return self._run(features, state, weights)
        # Columns are not detached: those that cancel a bias must carry its gradient.
        weights[0] = torch.cat([weights[0], self._columns()], dim=1)
        outputs, after = self._run(plan.stretch(features), state, weights)
        outputs = plan.gather(outputs, len(features))
        # Padding preserves the state besides the output; the output is the last real step's.
        return outputs, torch.cat([outputs[-1], after[:, self.output_size :]], dim=-1)

    def _gate_column(self, *gates: float) -> Float[Tensor, " G"]:
        """Weight column that adds a constant to all units of each gate."""
        values = self.weights[0].new_tensor(gates)
        return values.repeat_interleave(self.output_size)

    def _affine_mirrors(self) -> tuple[RowFunction, RowFunction]:
        """Mirrors of `W_x x + b_x` and `W_h h + b_h`."""
        weight_x, weight_h, bias_x, bias_h = self.weights
        return affine_mirror(weight_x, bias_x), affine_mirror(weight_h, bias_h)


class RNNLayer(FusedLayer):
    """`h_t = f(W_x x_t + b_x + W_h h_{t-1} + b_h)`, f = tanh or ReLU.

    A null step zeroes a ReLU unit at once. tanh needs two: one drives h to 1, the next adds
    `-(b_x + b_h + W_h 1)`, which leaves 0 up to rounding (1e-7).
    """

    def __init__(self, input_size: int, options: RNNOptions) -> None:
        self._is_tanh = options.nonlinearity == "tanh"
        kernel = nn.RNN(input_size, options.hidden_size, nonlinearity=options.nonlinearity)
        super().__init__(kernel, options)
        self.null_steps = 2 if self._is_tanh else 1
        self._fused = torch.rnn_tanh if self._is_tanh else torch.rnn_relu
        self._cell = torch.rnn_tanh_cell if self._is_tanh else torch.rnn_relu_cell

    def _columns(self) -> Float[Tensor, "G N"]:
        nothing = self._gate_column(0.0)
        if not self._is_tanh:
            # A ReLU state is unbounded: the forced value must exceed any sum of its inputs.
            return torch.stack([self._gate_column(-_BEYOND), nothing], dim=1)
        _, recurrent, bias_x, bias_h = self.weights
        cancel = -(bias_x + bias_h + recurrent.sum(1))
        return torch.stack([self._gate_column(_FORCE), cancel, nothing], dim=1)

    def mirror(self) -> StepMirror:
        """Numpy form of `step`."""
        from_input, from_state = self._affine_mirrors()
        is_tanh = self._is_tanh

        def cell(inputs: Array, state: Array) -> tuple[Array, Array]:
            total = from_input(inputs) + from_state(state)
            after = np.tanh(total) if is_tanh else np.maximum(total, 0.0)
            return after, after

        return cell


class GRULayer(FusedLayer):
    """Gated recurrent unit in PyTorch's form, where the reset gate scales `W_hn h + b_hn`.

        r, z = sigmoid(...);  n = tanh(W_n x + b_n + r * (W_hn h + b_hn));  h' = (1 - z) n + z h

    The null step closes r and z and cancels b_n, so n = 0 and h' = 0.
    """

    def __init__(self, input_size: int, options: SpanOptions) -> None:
        super().__init__(nn.GRU(input_size, options.hidden_size), options)
        self._spread(options.span, keep=1)
        self._fused, self._cell = torch.gru, torch.gru_cell

    def _run(self, inputs: Features, state: State, weights: list[Tensor]) -> tuple[Outputs, State]:
        if inputs.device.type != "cpu":
            return super()._run(inputs, state, weights)
        outputs = gru_loop(inputs, state, weights)
        return outputs, outputs[-1]

    def _columns(self) -> Float[Tensor, "G N"]:
        size = self.output_size
        shut = self._gate_column(-_FORCE, -_FORCE, 0.0)
        cancel = nn.functional.pad(-self.weights[2][2 * size :], (2 * size, 0))
        return torch.stack([shut + cancel, torch.zeros_like(shut)], dim=1)

    def mirror(self) -> StepMirror:
        """Numpy form of `step`."""
        from_input, from_state = self._affine_mirrors()
        size = self.output_size

        def cell(inputs: Array, state: Array) -> tuple[Array, Array]:
            entering, returning = from_input(inputs), from_state(state)
            gates = sigmoid(entering[:, : 2 * size] + returning[:, : 2 * size])
            reset, update = gates[:, :size], gates[:, size:]
            new = np.tanh(entering[:, 2 * size :] + reset * returning[:, 2 * size :])
            after = new + update * (state - new)
            return after, after

        return cell


class LSTMLayer(FusedLayer):
    """Long short-term memory; the state is `[h, c]`.

        i, f, o = sigmoid(...);  g = tanh(...);  c' = f c + i g;  h' = o tanh(c')

    The null step closes i, f and o: c' = 0 and h' = 0 exactly. Padding closes i and opens f, which
    preserves c.
    """

    def __init__(self, input_size: int, options: SpanOptions) -> None:
        super().__init__(nn.LSTM(input_size, options.hidden_size), options)
        self._spread(options.span, keep=1, write=0)
        self.state_size = 2 * options.hidden_size
        self._fused, self._cell = torch.lstm, torch.lstm_cell

    def _columns(self) -> Float[Tensor, "G N"]:
        reset = self._gate_column(-_FORCE, -_FORCE, 0.0, -_FORCE)
        hold = self._gate_column(-_FORCE, _FORCE, 0.0, 0.0)
        return torch.stack([reset, hold], dim=1)

    def step(self, inputs: Float[Tensor, "B F"], state: State) -> State:
        """Advance `[h, c]` by one step."""
        before = list(state.chunk(2, dim=-1))
        return torch.cat(self._cell(inputs, before, *self.weights), dim=-1)

    def mirror(self) -> StepMirror:
        """Numpy form of `step`."""
        from_input, from_state = self._affine_mirrors()
        size = self.output_size

        def cell(inputs: Array, state: Array) -> tuple[Array, Array]:
            total = from_input(inputs) + from_state(state[:, :size])
            new = np.tanh(total[:, 2 * size : 3 * size])
            gates = sigmoid(total)
            memory = gates[:, size : 2 * size] * state[:, size:] + gates[:, :size] * new
            output = gates[:, 3 * size :] * np.tanh(memory)
            return output, np.concatenate([output, memory], axis=1)

        return cell
