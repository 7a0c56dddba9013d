"""Agents: the stream's data, the mathematics of returns and losses, and one file per algorithm."""
