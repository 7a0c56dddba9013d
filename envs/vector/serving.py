"""Worker process: one slot, whose methods the training process calls over a pipe.

A call is its number, the method's name and its arguments; an answer is the call's number, the
result and an error, if any. Observations are written to shared memory. Imports neither torch nor
hydra, unless the environment does.
"""

import contextlib
import dataclasses
import os
import signal
import struct
import sys
import threading
import traceback
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from gymnasium import Space

from envs.seeding import seed_global_generators
from envs.vector.batch import ObservationBatch
from envs.vector.failures import in_one_line
from envs.vector.slot import Description, Make, Outcome, Slot

# Calls and answers are pickled, but for steps and their outcomes without an info: that would take
# longer than the step of a small environment.
PACKED = 0  # their first byte, which no pickle starts with
STEP = struct.Struct("<BQ")  # and the call's number; the action's bytes follow
OUTCOME = struct.Struct("<BQd??")  # and the call's number, the reward, terminated, truncated

Place = tuple[Space[Any], int, dict[str, Any]]  # arguments of ObservationBatch


def serve(connection: Connection, make: Make, index: int, place: Place | None) -> None:
    """Makes an environment, describes it in answer 0, and answers calls until it is closed.

    Args:
        place: where observations are written; None for a slot that is only described.
    """
    _belong_to_parent()
    slot = None
    with contextlib.suppress(EOFError, OSError):  # the training process has ended
        try:
            slot = _ServedSlot(make)
            if place is not None:
                slot.join(ObservationBatch(*place), index)
            _use_one_thread()
            description = slot.describe()
        except BaseException as error:
            connection.send((0, None, _told(error)))
            return
        connection.send((0, description, None))
        while (call := _received(connection))[1] != "close":
            number, method, arguments = call
            result = failure = None
            try:
                result = getattr(slot, method)(*arguments)
            except BaseException as error:
                failure = _told(error)
            if method == "step_packed" and result is not None and not result[3]:
                connection.send_bytes(OUTCOME.pack(PACKED, number, *result[:3]))
            else:
                connection.send((number, result, failure))
    if slot is not None:
        slot.close()


def _received(connection: Connection) -> tuple[int, str, tuple[Any, ...]]:
    """Returns a call: its number, the method's name and its arguments."""
    message = connection.recv_bytes()
    if message[0] != PACKED:
        call: tuple[int, str, tuple[Any, ...]] = ForkingPickler.loads(message)
        return call
    _, number = STEP.unpack_from(message)
    return number, "step_packed", (message[STEP.size :],)


def _told(error: BaseException) -> tuple[str, str]:
    return in_one_line(error), f"\n{traceback.format_exc()}"


class _ServedSlot(Slot):
    """A slot whose infos and metadata reach the training process if they are plain data."""

    def describe(self) -> Description:
        description = super().describe()
        return dataclasses.replace(description, metadata=_plain(description.metadata))

    def begin(self, seed: int | None, *how: Any) -> dict[str, Any]:
        if seed is not None:  # of environments that draw from global generators
            seed_global_generators(seed)
        return _plain(super().begin(seed, *how))

    def step_packed(self, packed: bytes) -> Outcome:
        """Steps with the bytes of an action."""
        action = np.frombuffer(packed, self._action_dtype).reshape(self._action_shape).copy()[()]
        reward, terminated, truncated, info = self.step(action)
        return reward, terminated, truncated, _plain(info)


def _plain(told: Any) -> dict[str, Any]:
    """Keeps what any process can read: text, numbers, arrays, and lists and mappings of them."""
    if not isinstance(told, dict):
        return {}
    return {key: value for key, value in told.items() if type(key) is str and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "O"
    if type(value) is dict:
        return len(_plain(value)) == len(value)
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, np.generic)


def _use_one_thread() -> None:
    """Limits the process to one thread, as there may be one worker per core."""
    if os.environ.get("OMP_NUM_THREADS") != "1":  # a fork server that was started elsewhere
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _belong_to_parent() -> None:
    """Ignores signals, and ends the worker when the training process ends.

    A worker that waits for questions notices that end by itself; one in a step does not.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole process group
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # a group of its own, which ends with it: its simulators
    parent = parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        # The kernel sends SIGIO, which kills the process, when the other end of the pipe closes.
        # This works even if the environment never returns to Python.
        import fcntl

        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpid())  # and what it started
        flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
