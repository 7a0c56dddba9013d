"""Agents: the stream's data structure, the mathematics of returns and losses, and one file per algorithm."""
