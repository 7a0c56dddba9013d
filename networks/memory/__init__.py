"""Memories: none, RNN, GRU, LSTM and user-defined cells."""

from networks.memory.memories import GRU, LSTM, RNN, CellMemory, Memory, NoMemory

__all__ = ["GRU", "LSTM", "RNN", "CellMemory", "Memory", "NoMemory"]
