"""Schedules of coefficients and exploration."""

from collections.abc import Callable

Schedule = Callable[[float], float]
"""Maps progress in [0, 1], `env_steps / total_env_steps`, to a value."""


def schedule(kind: str, start: float, end: float) -> Schedule:
    """Return `start` (`constant`) or `start + progress * (end - start)` (`linear`)."""
    if kind == "constant":
        return lambda progress: start
    if kind == "linear":
        return lambda progress: start + min(max(progress, 0.0), 1.0) * (end - start)
    raise ValueError(f"unknown schedule {kind!r}; use 'constant' or 'linear'")


def exploration_schedule(start: float, end: float, fraction: float) -> Schedule:
    """Decay linearly from `start` to `end` over the first `fraction` of the run, then constant.

        epsilon(progress) = start + min(progress / fraction, 1) * (end - start)

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning", methods.
    """
    if fraction <= 0:
        return lambda progress: end
    return lambda progress: start + min(max(progress, 0.0) / fraction, 1.0) * (end - start)
