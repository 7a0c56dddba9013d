"""Worker process: one slot that answers questions of the training process over a pipe.

Numbers are in shared memory. Questions and answers are a token, a number and sometimes an object.
Imports neither torch nor hydra, unless the environment does.
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

import gymnasium
import numpy as np

from envs.vector.batch import Layout, ObservationBatch, array_kind, arrays_in
from envs.vector.inspection import can_be_restored
from envs.vector.slot import (
    FAILURES,
    Make,
    Slot,
    Spaces,
    check_same_spaces,
    describe,
    in_one_line,
    spaces_of,
)
from envs.vector.snapshot import Clock

TOKEN = struct.Struct("<BQ")  # question or kind of answer, and number of the question
MAKE, STEP, BEGIN, REMAKE, SNAPSHOT, RESTORE, TRY, RAW_EPISODE, CLOSE = range(9)  # 0 is unused
WITH_ARGUMENT = {BEGIN, RESTORE}
DONE, TOLD, FAILED = range(3)  # an object follows TOLD and FAILED


def exchange_layout(action_space: gymnasium.Space[Any], num_envs: int) -> Layout:
    """Returns the layout of shared memory apart from observations."""
    shape, dtype = array_kind(action_space)
    return {
        "actions": ((num_envs, *shape), dtype),
        "rewards": ((num_envs,), np.dtype(np.float64)),
        "terminated": ((num_envs,), np.dtype(np.bool_)),
        "truncated": ((num_envs,), np.dtype(np.bool_)),
    }


def serve(
    connection: Connection,
    index: int,
    make: Make,
    spaces: Spaces,
    buffers: tuple[Any, Any],
    num_envs: int,
) -> None:
    """Makes an environment and answers questions until it is closed.

    Args:
        spaces: the expected spaces.
        buffers: shared memory of observations, and of everything else.
    """
    _belong_to_parent()
    worker = _Worker(connection, index)
    try:
        worker.make(make, spaces, buffers, num_envs)
        _use_one_thread()
    except FAILURES as error:
        worker.answer_failure(0, error)
        return
    worker.answer(0, None)
    with contextlib.suppress(EOFError, OSError):  # the training process has ended
        worker.serve()
    worker.slot.close()


def scout(connection: Connection, index: int, make: Make) -> None:
    """Describes an environment, so that shared memory can be allocated before workers start."""
    _belong_to_parent()
    worker = _Worker(connection, index)
    try:
        environment = make()
        description = describe(environment)
    except FAILURES as error:
        worker.answer_failure(0, error)
        return
    metadata = _that_travels(description.metadata)
    worker.answer(0, dataclasses.replace(description, metadata=metadata))
    environment.close()


class _Worker:
    """A slot, its shared memory, and the pipe."""

    def __init__(self, connection: Connection, index: int) -> None:
        self._connection = connection
        self._index = index

    def make(self, make: Make, spaces: Spaces, buffers: tuple[Any, Any], num_envs: int) -> None:
        self._make, self._clock = make, Clock()
        self.slot = Slot(make)
        check_same_spaces(spaces, spaces_of(self.slot.environment), self._index)
        batch = ObservationBatch(spaces[0], num_envs, buffers[0])
        self.slot.join(batch, self._index, self._clock)
        shared = arrays_in(buffers[1], exchange_layout(spaces[1], num_envs))
        self._actions = shared["actions"][self._index : self._index + 1]
        self._rewards = shared["rewards"]
        self._terminated, self._truncated = shared["terminated"], shared["truncated"]

    def serve(self) -> None:
        """Answers questions until it is closed."""
        while True:
            question, number = TOKEN.unpack(self._connection.recv_bytes())
            if question == CLOSE:
                return
            argument = self._connection.recv() if question in WITH_ARGUMENT else None
            try:
                told = self._step() if question == STEP else self._do(question, argument)
            except FAILURES as error:
                self.answer_failure(number, error)
            else:
                self.answer(number, told)

    def _step(self) -> dict[str, Any] | None:
        self._clock.steps += 1
        (action,) = self._actions.copy()  # a copy that the environment may keep or modify
        index = self._index
        (
            self._rewards[index],
            self._terminated[index],
            self._truncated[index],
            info,
        ) = self.slot.step(action)
        return _that_travels(info) if info else None

    def _do(self, question: int, argument: Any) -> Any:
        if question == SNAPSHOT:
            return self.slot.snapshot()
        if question == RAW_EPISODE:
            return self.slot.raw_episode()
        if question == RESTORE:
            snapshot, actions = argument
            return self.slot.restore(snapshot, actions)
        if question == TRY:
            return can_be_restored(self._make)
        if question == REMAKE:
            self.slot.remake()
            return None
        (seed,) = argument
        return _that_travels(self.slot.begin(seed)) or None

    def answer(self, number: int, told: Any) -> None:
        """Sends that a question is done, with an object if there is one."""
        self._connection.send_bytes(TOKEN.pack(DONE if told is None else TOLD, number))
        if told is not None:
            self._connection.send(told)

    def answer_failure(self, number: int, error: BaseException) -> None:
        """Sends an error."""
        self._connection.send_bytes(TOKEN.pack(FAILED, number))
        self._connection.send((in_one_line(error), f"\n{traceback.format_exc()}"))


def _that_travels(info: Any) -> Any:
    """Drops entries of an info that cannot be sent to another process."""
    try:
        ForkingPickler.dumps(info)
    except Exception:
        if not isinstance(info, dict):
            return None
        return {key: value for key, value in info.items() if _travels(key, value)}
    return info


def _travels(*values: Any) -> bool:
    try:
        ForkingPickler.dumps(values)
    except Exception:
        return False
    return True


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
    parent = parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        # The kernel sends SIGIO, which kills the process, when the other end of the pipe closes.
        # This works even if the environment never returns to Python.
        import fcntl

        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
