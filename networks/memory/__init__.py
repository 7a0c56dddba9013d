"""Memories: none, RNN, GRU, LSTM, and cells of a user's own."""

from networks.memory.memories import GRU, LSTM, RNN, CellMemory, Memory, NoMemory

__all__ = ["GRU", "LSTM", "RNN", "CellMemory", "Memory", "NoMemory"]
