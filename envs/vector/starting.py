"""Makes the slots of a vector environment, and checks that they belong together."""

import itertools
import time
from collections.abc import Sequence

from envs.vector.remote import RemoteSlot
from envs.vector.slot import Description, Make, Slot, check_same_spaces

_TRIED = 100
_MOST_SECONDS = 300.0
"""Time for making all environments, judged by the first `_TRIED` or more."""


def make_slots(
    makers: Sequence[Make], workers: Sequence[RemoteSlot], slots: list[Slot | RemoteSlot]
) -> Description:
    """Makes a slot for each maker, unless there is a worker for it; returns their description.

    Args:
        slots: is filled one by one, so that the caller can close them if one cannot be made.

    Raises:
        ValueError: an environment cannot be made, or all together would take too long.
        RuntimeError: a worker cannot make its environment, or spaces differ.
    """
    descriptions: list[Description] = []
    begun, count = time.monotonic(), len(makers)
    for worker, make in itertools.zip_longest(workers, makers):
        try:
            slots.append(worker or Slot(make))
            descriptions.append(slots[-1].describe())
        except ValueError as error:
            if not descriptions:
                raise
            raise ValueError(
                f"{error}, after {len(descriptions)} of {count} copies, which get the same "
                "arguments, unless env.copy_argument names one that is numbered"
            ) from error
        found = f"environment {len(slots) - 1}"
        check_same_spaces(descriptions[0], descriptions[-1], found, "the first one has")
        seconds = (time.monotonic() - begun) * count / len(descriptions)
        if seconds > _MOST_SECONDS and len(descriptions) >= _TRIED:
            raise ValueError(
                f"env.num_envs: {count:,} environments would take {seconds / 60:,.0f} minutes "
                "to make; choose fewer, or env.vectorization=native"
            )
    return descriptions[0]
