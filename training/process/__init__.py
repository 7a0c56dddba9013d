"""Threads, memory, signals and devices of this process."""
