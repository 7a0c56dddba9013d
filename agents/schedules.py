"""Schedules: numbers that move with the run's progress."""

from collections.abc import Callable

Schedule = Callable[[float], float]
"""Progress in [0, 1], the share of `total_env_steps` taken, to a value."""


def schedule(kind: str, start: float, end: float) -> Schedule:
    """Return `start` for ever (`constant`) or `start + progress * (end - start)` (`linear`)."""
    if kind == "constant":
        return lambda progress: start
    if kind == "linear":
        return lambda progress: start + min(max(progress, 0.0), 1.0) * (end - start)
    raise ValueError(f"unknown schedule {kind!r}; use 'constant' or 'linear'")
