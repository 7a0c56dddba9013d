"""Replay buffer: stores trajectories and samples windows of consecutive steps."""
