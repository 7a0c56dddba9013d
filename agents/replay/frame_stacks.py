"""Frame stacks in a replay: only the newest frame is stored, stacks are rebuilt."""

from collections.abc import Mapping

import numpy as np

from agents.replay.ring import Ring
from networks.mirror import Array


def mark_cuts(ring: Ring, newest: int, is_first: Array, *, first_step: int) -> Array:
    """Truncate episodes whose end was never reported.

    Afterwards every first observation t + 1 has an episode end at step t - 1. There are two cases.
    If an environment restarted in place of the newest observation (a resume that was not exact),
    the observation after the previous step was never seen. That step becomes the reset step,
    without end flags, and the step before it is truncated. If the environment restarts in the
    coming step (a failure), the previous step is truncated.

    Args:
        newest: the ring's newest row, which the trajectory's first observation replaces.
        is_first: of the trajectory, `[T + 1, B]`.
        first_step: the first row ever that is a step.

    Returns:
        Environments `[N]` whose step before `newest` became a reset step.
    """
    here, last, before = ((newest - back) % ring.num_rows for back in range(3))
    terminated, truncated = ring.fields["terminated"], ring.fields["truncated"]
    began = is_first[0] & ~ring.fields["is_first"][here]
    if newest == first_step:  # the ring holds only this observation
        return np.empty(0, np.int64)
    terminated[last] &= ~began
    truncated[last] &= ~began
    if newest - 1 > first_step:
        truncated[before] |= began & ~terminated[before]
    truncated[last] |= is_first[1] & ~terminated[last]
    return np.flatnonzero(began)


class FrameStacks:
    """Splits frame stacks and rebuilds them exactly as the environment emitted them.

    A stack `[size, *frame]`, oldest first, either shifts the previous stack by one frame or repeats
    its newest frame. Which one is found by comparing stacks, and stored as one bit per step. It
    does not follow from `is_first`: an episode may start without a new stack, as after a lost life.

    Attributes:
        history: number of earlier rows that a stack may need.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        self.history = max(self.sizes.values(), default=1) - 1

    def newest(self, parts: Mapping[str, Array]) -> dict[str, Array]:
        """Replace stacks `[T, B, size, *frame]` with their newest frames `[T, B, *frame]`."""
        return {
            name: rows[:, :, -1] if name in self.sizes else rows for name, rows in parts.items()
        }

    def begin(self, ring: Ring, step: int, parts: Mapping[str, Array]) -> None:
        """Write the frames of the stacks at `step`, the first step ever."""
        if not self.sizes:
            return
        before = slice(step - self.history, step + 1)
        for array in (*ring.fields.values(), *ring.frames.values()):
            array[before] = 0
        for name, size in self.sizes.items():
            for back in range(size):
                ring.frames[name][step - back] = parts[name][0, :, size - 1 - back]

    def refilled(self, ring: Ring, step: int, parts: Mapping[str, Array]) -> Array | None:
        """Where stacks repeat their newest frame, `[T + 1, B]`; None without stacks.

        Args:
            step: of the first of the stacks `[T + 1, B, size, *frame]`, the ring's newest row.
        """
        if not self.sizes:
            return None
        rows = (np.arange(ring.num_envs) + step * ring.num_envs) % ring.size
        held = self.rebuild(ring, rows[None])
        refills = np.zeros(next(iter(parts.values())).shape[:2], np.bool_)
        for name in self.sizes:
            stacks = parts[name]
            refills[0] |= ~_alike(stacks[:1], held[name])[0]
            refills[1:] |= ~_alike(stacks[1:, :, :-1], stacks[:-1, :, 1:])
        refills[0] |= ring.fields["refilled"][step % ring.num_rows]
        return refills

    def rebuild(self, ring: Ring, rows: Array) -> dict[str, Array]:
        """Rebuild the stacks `[W, N, size, *frame]` of rows `step * B + environment`, `[W, N]`.

        The rows of the `history` steps before them must be in the ring.
        """
        # Row offset of each frame of a stack: one more per frame, up to the refilled stack.
        goes_on = np.ones(rows.shape, np.int64)
        back = [np.zeros(rows.shape, np.int64)]
        for _ in range(self.history):
            place = (rows - back[-1] * ring.num_envs) % ring.size
            goes_on &= ~ring.fields["refilled"][place // ring.num_envs, place % ring.num_envs]
            back.append(back[-1] + goes_on)
        places = (rows[..., None] - np.stack(back[::-1], -1) * ring.num_envs) % ring.size
        return {
            name: ring.frames_at(name, places[..., -size:]) for name, size in self.sizes.items()
        }


def _alike(stacks: Array, others: Array) -> Array:
    """Which stacks `[T, B, ...]` are equal, `[T, B]`; NaN equals NaN."""
    is_same = (stacks == others) | ((stacks != stacks) & (others != others))
    alike: Array = is_same.reshape(*stacks.shape[:2], -1).all(-1)
    return alike
