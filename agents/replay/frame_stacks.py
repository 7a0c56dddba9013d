"""Stacks of frames in a replay: only their newest frame is stored, the rest is rebuilt."""

from collections.abc import Mapping

import numpy as np

from agents.replay.ring import Ring
from networks.mirror import Array


def mark_cuts(ring: Ring, newest: int, is_first: Array, *, first_step: int) -> Array:
    """Make it true that every first observation t + 1 has an end at step t - 1.

    Where an environment began anew in place of the newest observation (a resume that was not
    exact), the step before led to what nobody has seen: it becomes the one that resets, ends
    nothing, and the one before it is truncated. Where it began anew in the step that comes (a
    failure), the step before is truncated.

    Args:
        newest: the ring's newest row, in whose place comes what the trajectory begins with.
        is_first: the trajectory's, `[T + 1, B]`.
        first_step: the first row of all that is a step.

    Returns:
        Environments `[N]` whose step before `newest` became one that resets.
    """
    here, last, before = ((newest - back) % ring.num_rows for back in range(3))
    terminated, truncated = ring.fields["terminated"], ring.fields["truncated"]
    began = is_first[0] & ~ring.fields["is_first"][here]
    if newest == first_step:  # nothing has been added yet but this observation
        return np.empty(0, np.int64)
    terminated[last] &= ~began
    truncated[last] &= ~began
    if newest - 1 > first_step:
        truncated[before] |= began & ~terminated[before]
    truncated[last] |= is_first[1] & ~terminated[last]
    return np.flatnonzero(began)


class FrameStacks:
    """Takes stacks apart and rebuilds them exactly as the environment emitted them.

    A stack `[size, *frame]`, oldest first, either goes on from the one before it or is filled with
    its newest frame. Which one it is the stacks themselves tell, and a bit beside them keeps:
    episodes may begin without a new stack, as after a lost life.

    Attributes:
        history: rows before an observation that it may be made of.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        """Take the size of each part that is a stack."""
        self.sizes = dict(sizes)
        self.history = max(self.sizes.values(), default=1) - 1

    def newest(self, parts: Mapping[str, Array]) -> dict[str, Array]:
        """Replace stacks `[T, B, size, *frame]` by their newest frames `[T, B, *frame]`."""
        return {
            name: rows[:, :, -1] if name in self.sizes else rows for name, rows in parts.items()
        }

    def begin(self, ring: Ring, step: int, parts: Mapping[str, Array]) -> None:
        """Write the frames that the stacks at `step`, the first of all, are made of."""
        if not self.sizes:
            return
        before = slice(step - self.history, step + 1)
        for array in (*ring.fields.values(), *ring.frames.values()):
            array[before] = 0
        for name, size in self.sizes.items():
            for back in range(size):
                ring.frames[name][step - back] = parts[name][0, :, size - 1 - back]

    def refilled(self, ring: Ring, step: int, parts: Mapping[str, Array]) -> Array | None:
        """Tell where stacks are filled with their newest frame, `[T + 1, B]`; None without stacks.

        Args:
            step: of the first of the stacks `[T + 1, B, size, *frame]`, which the ring holds as the
                newest row.

        Raises:
            ValueError: they are no stacks.
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
        if refills.any():
            self._check(refills, parts)
        refills[0] |= ring.fields["refilled"][step % ring.num_rows]
        return refills

    def _check(self, refills: Array, parts: Mapping[str, Array]) -> None:
        for name, size in self.sizes.items():
            stacks = parts[name][refills]  # [M, size, *frame]
            if not (stacks == stacks[:, -1:]).all():
                what = f"the observation's part {name!r}" if name else "the observation"
                raise ValueError(
                    f"{what} is said to be a stack of {size} frames, but is neither the one before "
                    "it with a new frame nor a frame repeated; a wrapper that changes a stack must "
                    "have an observation_space of its own"
                )

    def rebuild(self, ring: Ring, rows: Array) -> dict[str, Array]:
        """Read the stacked parts `[W, N, size, *frame]` of rows `step * B + environment`, `[W, N]`.

        The rows of the `history` steps before them must be in the ring.
        """
        if not self.sizes:
            return {}
        # How many rows each frame of a stack lies back: one more each, down to the filled stack.
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
    """Tell which stacks `[T, B, ...]` are equal, `[T, B]`; bit for bit, NaN included."""
    is_same = (stacks == others) | ((stacks != stacks) & (others != others))
    alike: Array = is_same.reshape(*stacks.shape[:2], -1).all(-1)
    return alike
