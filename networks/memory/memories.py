"""Memories: none, RNN, GRU, LSTM and user-defined cells.

A memory's state is one tensor `[B, S]`. Only the memory clears states at episode starts, so that
acting, learning and evaluation agree. A feed-forward network has a memory with `S = 0`. Nothing
outside this package depends on hidden and cell states.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from conf.schema.memories import GatedMemoryOptions, RNNOptions, SpanOptions
from networks.memory.fused import (
    Features,
    GRULayer,
    IsFirst,
    LSTMLayer,
    NullSteps,
    Outputs,
    RNNLayer,
    State,
)
from networks.mirror import Array, layers_mirror, mirror_of

MemoryMirror = Callable[[Array, Array, Array], tuple[Array, Array]]
"""`features [B, F], state [B, S], is_first [B] -> output [B, H], state [B, S]`."""
States = Float[Tensor, "W B S"]
"""The state before each of W windows of steps."""
ChosenSteps = Int[Tensor, "L B"] | slice
"""L steps of each environment, in any order; a slice selects the same steps of all."""
FeaturesOf = Callable[[ChosenSteps], Tensor]
"""Extracts the features `[L, B, F]` of chosen steps."""


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
        self, features: FeaturesOf, state: State, is_first: IsFirst, steps: ChosenSteps
    ) -> Float[Tensor, "L B H"]:
        """Process T steps; return the outputs at chosen steps of each environment.

        Without a state, only these steps are extracted.
        """
        if self.state_size:
            return pick_steps(self(features(slice(None)), state, is_first)[0], steps)
        return self(features(steps), state, pick_steps(is_first, steps))[0]

    def split(self, state: Float[Tensor, "*N S"]) -> dict[str, Float[Tensor, "*N _"]]:
        """Split states by name for metrics: `state`, and further components."""
        return {"state": state}

    def unroll(
        self, features: Features, state: State, is_first: IsFirst, *, sequence_length: int
    ) -> tuple[Outputs, States, State]:
        """Process T steps; also return the state before each window of `sequence_length` steps."""
        if not self.state_size:  # windows tell nothing to one another
            outputs, state = self(features, state, is_first)
            return outputs, state.new_zeros(len(features) // sequence_length, *state.shape), state
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


class StackedMemory(Memory):
    """A stack of layers; the state concatenates those of the layers.

    Attributes:
        project: maps features to what the first layer reads.
        sizes: of the layers' states.
    """

    layer: ClassVar[Callable[..., nn.Module]]
    """Makes a layer, which maps inputs `[T, B, H]`, its state and the resets as a memory does."""
    layers: Any

    def __init__(self, input_size: int, options: GatedMemoryOptions) -> None:
        super().__init__()
        self.output_size = options.hidden_size
        self.project: Any = nn.Identity()
        self.layers = nn.ModuleList(self._stack(input_size, options))
        self.sizes = [layer.state_size for layer in self.layers]
        self.state_size = sum(self.sizes)

    def _stack(self, input_size: int, options: Any) -> Iterator[nn.Module]:
        """Make the layers, the first one first."""
        for index in range(options.num_layers):
            yield self.layer(self.output_size if index else input_size, options)

    def forward(self, features: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps, layer after layer."""
        return self._layered(features, state, is_first)

    def _layered(self, features: Features, state: State, resets: Any) -> tuple[Outputs, State]:
        """Apply the layers; each gets its part of the state, and the resets."""
        outputs, after = self.project(features), []
        for layer, before in zip(self.layers, state.split(self.sizes, -1), strict=True):
            outputs, layer_state = layer(outputs, before, resets)
            after.append(layer_state)
        return outputs, after[0] if len(after) == 1 else torch.cat(after, dim=-1)

    def mirror(self) -> MemoryMirror | None:
        """Numpy form of `forward` at T = 1; None if a layer has none."""
        project: Any = layers_mirror(self.project)
        layers: list[Any] = [mirror_of(layer) for layer in self.layers]
        if None in layers:
            return None
        ends = np.cumsum(self.sizes)
        blocks = [slice(end - size, end) for size, end in zip(self.sizes, ends, strict=True)]

        def apply(features: Array, state: Array, is_first: Array) -> tuple[Array, Array]:
            outputs, after = project(features), np.where(is_first[:, None], np.float32(0.0), state)
            for layer, block in zip(layers, blocks, strict=True):
                outputs, after[:, block] = layer(outputs, after[:, block])
            return outputs, after

        return apply


class FusedMemory(StackedMemory):
    """Recurrent layers of fused kernels, which share one plan of the resets."""

    def __init__(self, input_size: int, options: GatedMemoryOptions) -> None:
        super().__init__(input_size, options)
        self._null_steps = self.layers[0].null_steps

    def forward(self, features: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps, layer after layer."""
        state = state.masked_fill(is_first[0][:, None], 0.0)
        plan = NullSteps.plan(is_first, self._null_steps)
        return self._layered(features, state, plan)


class RNN(FusedMemory):
    """Vanilla recurrent network (Elman 1990) of `num_layers` layers, f = tanh or ReLU."""

    Options = RNNOptions
    layer = RNNLayer

    def __init__(self, input_size: int, options: RNNOptions) -> None:
        self.saturates = options.nonlinearity == "tanh"
        super().__init__(input_size, options)


class GRU(FusedMemory):
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078) in `num_layers` layers."""

    Options = SpanOptions
    layer = GRULayer
    saturates = True


class LSTM(FusedMemory):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) in `num_layers` layers."""

    Options = SpanOptions
    layer = LSTMLayer
    saturates = True

    def split(self, state: Float[Tensor, "*N S"]) -> dict[str, Float[Tensor, "*N _"]]:
        """Split into the layers' outputs, `state`, and their cell states."""
        outputs, cells = state.unflatten(-1, (len(self.layers), 2, -1)).unbind(-2)
        return {"state": outputs.flatten(-2), "cell": cells.flatten(-2)}
