"""Makes the slots of a vector environment, and checks that they belong together."""

import multiprocessing
import time
from collections.abc import Sequence
from typing import Any

from envs.vector.batch import observation_bytes
from envs.vector.remote import START_METHOD, RemoteSlot
from envs.vector.slot import Description, Make, Slot, check_same_spaces

_TRIED = 100
_MOST_SECONDS = 300.0
"""Time for making all environments, judged by the first `_TRIED` or more."""


def make_slots(makers: Sequence[Make], slots: list[Slot | RemoteSlot]) -> Description:
    """Makes a slot for each maker, unless workers are started; returns their description.

    Args:
        slots: workers, or else filled one by one, so that the caller can close them if one cannot
            be made.

    Raises:
        ValueError: an environment cannot be made, one is in two slots, or all together would take
            too long.
        RuntimeError: a worker cannot make its environment, or spaces differ.
    """
    descriptions: list[Description] = []
    begun, count = time.monotonic(), len(makers)
    for index, make in enumerate(makers):
        try:
            if index == len(slots):
                slots.append(Slot(make))
            descriptions.append(slots[index].describe())
        except ValueError as error:
            if not descriptions:
                raise
            raise ValueError(
                f"{error}, after {index} of {count} copies, which get the same "
                "arguments, unless env.copy_argument names one that is numbered"
            ) from error
        found = f"environment {index}"
        check_same_spaces(descriptions[0], descriptions[-1], found, "the first one has")
        seconds = (time.monotonic() - begun) * count / len(descriptions)
        if seconds > _MOST_SECONDS and len(descriptions) >= _TRIED:
            raise ValueError(
                f"env.num_envs: {count:,} environments would take {seconds / 60:,.0f} minutes "
                "to make; choose fewer, or env.vectorization=native"
            )
    own = [id(slot.environment.unwrapped) for slot in slots if isinstance(slot, Slot)]
    if len(set(own)) < len(own):
        raise ValueError("env: expected a new environment from each call, got the same one again")
    return descriptions[0]


def start_workers(
    makers: Sequence[Make], step_timeout: float | None, slots: list[Slot | RemoteSlot]
) -> dict[str, Any]:
    """Starts a process per environment; returns the memory of observations, shared with them.

    It is anonymous, always freed, and must exist before they start: a temporary process tells its
    size, because no environment ever runs in this one.

    Args:
        slots: is filled one by one, so that the caller can end them if one cannot be started.
    """
    first = RemoteSlot(makers[0], 0, step_timeout)
    try:
        space = first.describe().observation_space
    finally:
        first.send("close")
        first.close()
    context = multiprocessing.get_context(START_METHOD)
    buffers: dict[str, Any] = {
        name: context.RawArray("b", size)
        for name, size in observation_bytes(space, len(makers)).items()
    }
    for index, make in enumerate(makers):
        place = (space, len(makers), buffers)
        slots.append(RemoteSlot(make, index, step_timeout, place))
    return buffers
