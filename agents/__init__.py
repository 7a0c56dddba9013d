"""Agents: trajectories, returns and losses, learning, replay, and one file per algorithm."""
