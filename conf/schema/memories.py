"""The keys of memories: conf/memory/*.yaml."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from conf.schema.parts import Part
from conf.schema.types import Count, Initialization, NonNegative, Positive, PositiveCount, Range

Span = Annotated[float, Range("> 2")]
"""Steps; the shortest time constant is 2."""


class MemoryOptions(Part, group="memory"):
    """Keys of every memory, a user's own included."""

    remembers: ClassVar[bool] = True

    sequence_length: Count


class NoMemoryOptions(MemoryOptions, of="networks.memory.NoMemory"):
    """conf/memory/none.yaml."""

    remembers: ClassVar[bool] = False


class GatedMemoryOptions(MemoryOptions):
    """What memories of layers share."""

    hidden_size: PositiveCount
    num_layers: PositiveCount
    initialization: Initialization
    gain: Positive


class RNNOptions(GatedMemoryOptions, of="networks.memory.RNN"):
    """conf/memory/rnn.yaml."""

    nonlinearity: Literal["tanh", "relu"]


class SpanOptions(GatedMemoryOptions, of="networks.memory.GRU networks.memory.LSTM"):
    """conf/memory/gru.yaml and lstm.yaml."""

    span: Span | None = None


class LinearMemoryOptions(GatedMemoryOptions, of="networks.memory.MinGRU"):
    """conf/memory/mingru.yaml, and what lru.yaml and mlstm.yaml share."""

    span: Span
    conv_width: PositiveCount = 1


class LRUOptions(LinearMemoryOptions, of="networks.memory.LRU"):
    """conf/memory/lru.yaml."""

    complex_size: PositiveCount
    max_phase: NonNegative


class MLSTMOptions(LinearMemoryOptions, of="networks.memory.MLSTM"):
    """conf/memory/mlstm.yaml."""

    num_heads: PositiveCount
    head_size: PositiveCount


class GTrXLOptions(GatedMemoryOptions, of="networks.memory.GTrXL"):
    """conf/memory/gtrxl.yaml."""

    num_heads: PositiveCount
    head_size: PositiveCount
    window: PositiveCount


def remembers(memory: Mapping[str, Any]) -> bool:
    """Tell whether a memory has a state; a user's own memory has one."""
    return getattr(Part.targets["memory"].get(memory["_target_"]), "remembers", True)
