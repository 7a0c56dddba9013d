"""How exploration fades over a run."""

from agents.schedules import Schedule


def exploration_schedule(start: float, end: float, fraction: float) -> Schedule:
    """Fall linearly from `start` to `end` over the first `fraction` of the run, and stay there.

        epsilon(progress) = start + min(progress / fraction, 1) * (end - start)

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning", methods.
    """
    if fraction <= 0:
        return lambda progress: end
    return lambda progress: start + min(max(progress, 0.0) / fraction, 1.0) * (end - start)
