"""Memories: none, RNN, GRU, LSTM, linear recurrences, a gated transformer, user-defined cells."""

from networks.memory.attention import GTrXL
from networks.memory.linear import LRU, MinGRU
from networks.memory.memories import GRU, LSTM, RNN, CellMemory, Memory, NoMemory
from networks.memory.mlstm import MLSTM

__all__ = [
    "GRU", "LRU", "LSTM", "MLSTM", "RNN", "CellMemory", "GTrXL", "Memory", "MinGRU", "NoMemory",
]  # fmt: skip
