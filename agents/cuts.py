"""Episodes that nothing announced the end of: an environment began anew where the ring ends."""

import numpy as np

from agents.ring import Ring
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
    if not is_first[:2].any():  # as nearly always
        return np.empty(0, np.int64)
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
