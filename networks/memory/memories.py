"""Memories: none, RNN, GRU, LSTM and user-defined cells.

A memory's state is one tensor `[B, S]`. Only the memory clears states at episode starts, so that
acting, learning and evaluation agree. A feed-forward network has a memory with `S = 0`. Nothing
outside this package depends on hidden and cell states.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from conf.schema.memories import GatedMemoryOptions, RNNOptions, SpanOptions
from networks.memory.fused import (
    Features,
    FusedLayer,
    GRULayer,
    LSTMLayer,
    NullSteps,
    Outputs,
    RNNLayer,
    State,
)
from networks.mirror import Array
from networks.observations import Observations

IsFirst = Bool[Tensor, "T B"]
"""Whether an episode begins with the step."""
MemoryMirror = Callable[[Array, Array, Array], tuple[Array, Array]]
"""`features [B, F], state [B, S], is_first [B] -> output [B, H], state [B, S]`."""
States = Float[Tensor, "W B S"]
"""The state before each of W windows of steps."""
ChosenSteps = Int[Tensor, "L B"] | slice
"""L steps of each environment, in any order; a slice selects the same steps of all."""
FeaturesOf = Callable[[Observations], Tensor]
"""`observations [T, B, *O] -> features [T, B, F]`."""


def pick_steps(rows: Any, steps: ChosenSteps) -> Any:
    """Select steps of each environment, `[T, B, *X] -> [L, B, *X]`, of one or several tensors."""
    if isinstance(rows, dict):
        return {name: pick_steps(part, steps) for name, part in rows.items()}
    if isinstance(steps, slice):
        return rows[steps]
    return rows[steps, torch.arange(rows.shape[1], device=rows.device)]


class Memory(nn.Module, ABC):
    """Summarises past observations; clears an environment's state before a first observation."""

    output_size: int
    state_size: int
    """Size of the state per environment; 0 without memory."""
    compilable = False
    """Whether `torch.compile` may trace `forward` (fused kernels and plain loops gain nothing)."""
    saturates = False
    """Whether `state` in `split` lies in [-1, 1] and may saturate."""

    def initial_state(self, batch_size: int) -> State:
        """Return the state before any observation: zeros, on the CPU."""
        return torch.zeros(batch_size, self.state_size)

    @abstractmethod
    def forward(self, features: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps; return every step's output and the state after the last."""

    def at(
        self,
        features: FeaturesOf,
        observations: Observations,
        state: State,
        is_first: IsFirst,
        steps: ChosenSteps,
    ) -> Float[Tensor, "L B H"]:
        """Process T steps; return the outputs at chosen steps of each environment."""
        outputs, _ = self(features(observations), state, is_first)
        return pick_steps(outputs, steps)

    def split(self, state: Float[Tensor, "*N S"]) -> dict[str, Float[Tensor, "*N _"]]:
        """Split states by name for metrics: `state`, and further components."""
        return {"state": state}

    def unroll(
        self, features: Features, state: State, is_first: IsFirst, *, sequence_length: int
    ) -> tuple[Outputs, States, State]:
        """Process T steps; also return the state before each window of `sequence_length` steps."""
        outputs, states = [], []
        for chunk, first in zip(
            features.split(sequence_length), is_first.split(sequence_length), strict=True
        ):
            states.append(state)
            output, state = self(chunk, state, first)
            outputs.append(output)
        return torch.cat(outputs), torch.stack(states), state


class NoMemory(Memory):
    """No memory: outputs are the features, the state is empty."""

    state_size = 0
    compilable = True

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, features: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Return the features."""
        return features, state

    def unroll(
        self, features: Features, state: State, is_first: IsFirst, *, sequence_length: int
    ) -> tuple[Outputs, States, State]:
        """Return the features, without a loop over windows."""
        windows = features.shape[0] // sequence_length
        return features, state.new_zeros(windows, *state.shape), state

    def at(
        self,
        features: FeaturesOf,
        observations: Observations,
        state: State,
        is_first: IsFirst,
        steps: ChosenSteps,
    ) -> Float[Tensor, "L B F"]:
        """Return the features of the chosen steps only."""
        return features(pick_steps(observations, steps))

    def mirror(self) -> MemoryMirror:
        """Numpy form of `forward` at T = 1."""
        return lambda features, state, is_first: (features, state)


class CellMemory(Memory):
    """Base class of user-defined memories: adds resets and unrolling to a single-step cell.

    Implement `step(inputs [B, F], state [B, S]) -> (output [B, H], state [B, S])`, set
    `output_size` and `state_size`, and optionally override `initial_state`. The loop over time is
    plain Python.
    """

    @abstractmethod
    def step(
        self, inputs: Float[Tensor, "B F"], state: State
    ) -> tuple[Float[Tensor, "B H"], State]:
        """Process one observation per environment."""

    def forward(self, features: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps; episodes start from `initial_state`."""
        initial = self.initial_state(features.shape[1]).to(features)
        outputs = []
        for inputs, first in zip(features, is_first, strict=True):
            state = torch.where(first[:, None], initial, state)
            output, state = self.step(inputs, state)
            outputs.append(output)
        return torch.stack(outputs), state


class LayeredMemory(Memory):
    """A stack of fused recurrent layers; the state concatenates those of the layers."""

    layer: ClassVar[Callable[..., FusedLayer]]
    """Makes a layer from its input size and the options."""
    layers: Any

    def __init__(self, input_size: int, options: GatedMemoryOptions) -> None:
        super().__init__()
        sizes = [input_size] + [options.hidden_size] * (options.num_layers - 1)
        layers = [self.layer(size, options) for size in sizes]
        self.layers = nn.ModuleList(layers)
        self.output_size = layers[-1].output_size
        self.state_size = sum(layer.state_size for layer in layers)

    def split(self, state: Float[Tensor, "*N S"]) -> dict[str, Float[Tensor, "*N _"]]:
        """Split into the layers' outputs, `state`, and an LSTM's cell states."""
        blocks = state.unflatten(-1, (len(self.layers), -1))
        parts = {"state": blocks[..., : self.output_size], "cell": blocks[..., self.output_size :]}
        return {name: part.flatten(-2) for name, part in parts.items() if part.shape[-1]}

    def forward(self, features: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps in one fused call per layer (T = 1 uses single steps)."""
        states = state.masked_fill(is_first[0][:, None], 0.0).chunk(len(self.layers), dim=-1)
        if len(features) == 1:
            return self._step(features[0], states)
        plan = NullSteps.plan(is_first, self.layers[0].null_steps)
        after = []
        for layer, before in zip(self.layers, states, strict=True):
            features, layer_state = layer(features, before, plan)
            after.append(layer_state)
        return features, torch.cat(after, dim=-1)

    def _step(
        self, inputs: Float[Tensor, "B F"], states: Sequence[Tensor]
    ) -> tuple[Outputs, State]:
        after = []
        for layer, before in zip(self.layers, states, strict=True):
            after.append(layer.step(inputs, before))
            inputs = after[-1][:, : self.output_size]
        return inputs[None], torch.cat(after, dim=-1)

    def mirror(self) -> MemoryMirror:
        """Numpy form of `forward` at T = 1."""
        cells = [layer.mirror() for layer in self.layers]
        size, width = self.output_size, self.state_size // len(cells)

        def apply(features: Array, state: Array, is_first: Array) -> tuple[Array, Array]:
            after = np.where(is_first[:, None], np.float32(0.0), state)
            for index, cell in enumerate(cells):
                block = after[:, index * width : (index + 1) * width]
                block[...] = cell(features, block)
                features = block[:, :size]
            return features, after

        return apply


class RNN(LayeredMemory):
    """Vanilla recurrent network (Elman 1990) of `num_layers` layers, f = tanh or ReLU."""

    Options = RNNOptions
    layer = RNNLayer

    def __init__(self, input_size: int, options: RNNOptions) -> None:
        self.saturates = options.nonlinearity == "tanh"
        super().__init__(input_size, options)


class GRU(LayeredMemory):
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078) in `num_layers` layers."""

    Options = SpanOptions
    layer = GRULayer
    saturates = True


class LSTM(LayeredMemory):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) in `num_layers` layers."""

    Options = SpanOptions
    layer = LSTMLayer
    saturates = True
