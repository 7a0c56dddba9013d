"""Schedules of coefficients and exploration."""

from collections.abc import Callable
from typing import Any

Schedule = Callable[[float], float]
"""Maps progress in [0, 1], `env_steps / total_env_steps`, to a value."""


def schedule(kind: str, start: float, end: float) -> Schedule:
    """Return `start` (`constant`) or `start + progress * (end - start)` (`linear`)."""
    if kind == "constant":
        return lambda progress: start
    if kind == "linear":
        return lambda progress: start + min(max(progress, 0.0), 1.0) * (end - start)
    raise ValueError(f"unknown schedule {kind!r}; use 'constant' or 'linear'")


def schedules_of(options: Any, *names: str) -> dict[str, Schedule]:
    """Return the schedules of coefficients, each from its value to 0 as `<name>_schedule` says."""
    return {
        name: schedule(getattr(options, f"{name}_schedule"), getattr(options, name), 0.0)
        for name in names
    }


def exploration_schedule(start: float, end: float, fraction: float) -> Schedule:
    """Decay linearly from `start` to `end` over the first `fraction` of the run, then constant.

        epsilon(progress) = start + min(progress / fraction, 1) * (end - start)

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning", methods.
    """
    if fraction <= 0:
        return lambda progress: end
    return lambda progress: start + min(max(progress, 0.0) / fraction, 1.0) * (end - start)
