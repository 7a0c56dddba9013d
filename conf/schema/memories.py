"""The keys of memories: conf/memory/*.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from conf.schema.types import Count, Initialization, Positive, PositiveCount


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


MEMORIES: dict[str, type[MemoryOptions]] = {
    "networks.memory.NoMemory": NoMemoryOptions,
    "networks.memory.RNN": RNNOptions,
    "networks.memory.GRU": GatedMemoryOptions,
    "networks.memory.LSTM": GatedMemoryOptions,
}


def remembers(memory: Mapping[str, Any]) -> bool:
    """Tell whether a memory has a state; a user's own memory has one."""
    return MEMORIES.get(memory["_target_"], MemoryOptions).remembers
