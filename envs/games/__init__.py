"""Atari and MinAtar, registered with Gymnasium."""
