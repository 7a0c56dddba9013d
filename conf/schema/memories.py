"""The keys of memories: conf/memory/*.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from conf.schema.types import Count, Initialization, NonNegative, Positive, PositiveCount, Range

Span = Annotated[float, Range(above=2)]
"""Steps; the shortest time constant is 2."""


@dataclass
class MemoryOptions:
    """Keys of every memory, a user's own included."""

    remembers: ClassVar[bool] = True

    sequence_length: Count


@dataclass
class NoMemoryOptions(MemoryOptions):
    """conf/memory/none.yaml."""

    remembers: ClassVar[bool] = False


@dataclass
class GatedMemoryOptions(MemoryOptions):
    """conf/memory/gru.yaml and lstm.yaml."""

    hidden_size: PositiveCount
    num_layers: PositiveCount
    initialization: Initialization
    gain: Positive


@dataclass
class RNNOptions(GatedMemoryOptions):
    """conf/memory/rnn.yaml."""

    nonlinearity: Literal["tanh", "relu"]


@dataclass
class LinearMemoryOptions(GatedMemoryOptions):
    """conf/memory/mingru.yaml, and what lru.yaml and mlstm.yaml share."""

    span: Span


@dataclass
class LRUOptions(LinearMemoryOptions):
    """conf/memory/lru.yaml."""

    complex_size: PositiveCount
    max_phase: NonNegative


@dataclass
class MLSTMOptions(LinearMemoryOptions):
    """conf/memory/mlstm.yaml."""

    num_heads: PositiveCount
    head_size: PositiveCount


@dataclass
class GTrXLOptions(GatedMemoryOptions):
    """conf/memory/gtrxl.yaml."""

    num_heads: PositiveCount
    head_size: PositiveCount
    window: PositiveCount


MEMORIES: dict[str, type[MemoryOptions]] = {
    "networks.memory.NoMemory": NoMemoryOptions,
    "networks.memory.RNN": RNNOptions,
    "networks.memory.GRU": GatedMemoryOptions,
    "networks.memory.LSTM": GatedMemoryOptions,
    "networks.memory.MinGRU": LinearMemoryOptions,
    "networks.memory.LRU": LRUOptions,
    "networks.memory.MLSTM": MLSTMOptions,
    "networks.memory.GTrXL": GTrXLOptions,
}


def remembers(memory: Mapping[str, Any]) -> bool:
    """Tell whether a memory has a state; a user's own memory has one."""
    return MEMORIES.get(memory["_target_"], MemoryOptions).remembers
