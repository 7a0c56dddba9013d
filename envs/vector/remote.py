"""A slot in a worker process, called over a pipe, with timeouts."""

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

from envs.interface import Array
from envs.spaces import one_line
from envs.vector.failures import RemoteFailure, RemoteTraceback
from envs.vector.serving import OUTCOME, PACKED, STEP, Place, serve
from envs.vector.slot import Description, Make, Outcome, check_same_spaces

START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""Never fork: the copy of a process with torch threads can deadlock."""

_MAKE_SECONDS = 300.0  # for making an environment, if there is a step timeout
_CLOSE_SECONDS = 2.0  # for closing an environment, before its process is killed

# Read when numpy is imported, so they are set while a worker (or the fork server) starts.
_ONE_THREAD = {
    f"{library}_THREADS": "1"
    for library in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMEXPR_NUM", "VECLIB_MAXIMUM")
}


class WorkerLost(RuntimeError):
    """A worker process died, or was killed because it did not answer in time."""


class RemoteSlot:
    """The training process's handle of a `Slot` in a process of its own.

    A worker that dies is noticed at once, one that hangs after `step_timeout` seconds.

    Attributes:
        pid: process id.
        is_lost: whether the process is dead.
    """

    def __init__(
        self, make: Make, index: int, step_timeout: float | None, place: Place | None = None
    ) -> None:
        """Starts the process, which makes the environment.

        Args:
            make: importable in the process.
            step_timeout: most seconds of a step or a reset; None for no limit.
            place: where observations are written; None for a slot that is only described.

        Raises:
            ValueError: the environment cannot be sent to a process.
        """
        self._arguments = (make, index, place)
        self._index = index
        self._step_timeout = step_timeout
        self._described: Description | None = None
        self.is_lost = True
        self._start()

    def _start(self) -> None:
        make, _, place = self._arguments
        try:
            needed = bytes(ForkingPickler.dumps((make, place and place[0])))
        except Exception as error:
            raise ValueError(
                "env.vectorization=async: worker processes must be able to import what they need, "
                f"such as a class or function at the top level of a module ({one_line(error)}); "
                "use env.vectorization=sync"
            ) from error
        context: Any = multiprocessing.get_context(START_METHOD)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, *self._arguments), name=f"environment-{self._index}"
        )
        try:
            with _starting(needs_main=b"__main__" in needed):
                self._process.start()
        except (EOFError, OSError, AssertionError) as error:
            self._connection.close()
            raise RuntimeError(f"a worker process cannot be started: {error}") from error
        finally:
            theirs.close()
        self.pid = self._process.pid
        self.is_lost, self._fate = False, "its process is dead"
        self._poller: Any = None
        if hasattr(select, "poll"):  # ten times as fast as Connection.poll
            self._poller = select.poll()
            self._poller.register(self._connection.fileno(), select.POLLIN)
        self._number = 0  # of the latest call; the worker's description answers call 0
        self._allow("remake")

    def _allow(self, method: str, *arguments: Any) -> None:
        """Sets the time by which a call must be answered."""
        seconds = self._step_timeout
        if method == "close":
            seconds = _CLOSE_SECONDS
        elif seconds is not None and method in ("remake", "can_be_restored", "restore"):
            steps = arguments[0]["steps"] if method == "restore" else 0
            seconds = _MAKE_SECONDS + (1 + steps) * seconds
        self._seconds = seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def send(self, method: str, *arguments: Any) -> None:
        """Calls a method of the slot, whose result `receive` returns; errors are raised there."""
        self._number += 1
        self._allow(method, *arguments)
        with contextlib.suppress(OSError):
            self._connection.send((self._number, method, arguments))

    def send_step(self, action: Array) -> None:
        """Sends the action of a step, whose outcome `step` returns."""
        self._number += 1
        self._allow("step")
        with contextlib.suppress(OSError):
            self._connection.send_bytes(STEP.pack(PACKED, self._number) + action.tobytes())

    def receive(self) -> Any:
        """Waits for the result of the method that was sent.

        Raises:
            RemoteFailure: the environment raised.
            WorkerLost: no answer.
        """
        try:
            result, failure = self._answer()
        except (EOFError, OSError, WorkerLost) as error:
            self._fate = str(error) if isinstance(error, WorkerLost) else self._found_fate()
            self.kill()
            raise WorkerLost(self._fate) from error
        if failure is not None:
            text, trace = failure
            raise RemoteFailure(text) from RemoteTraceback(trace)
        return result

    def _answer(self) -> tuple[Any, Any]:
        while not self.is_lost:
            left = self._seconds_left()
            poll = self._poller.poll if self._poller else self._connection.poll
            if left is not None and not poll(1000 * left if self._poller else left):
                raise WorkerLost(f"no answer within {self._seconds:g} s (env.step_timeout)")
            message = self._connection.recv_bytes()
            if message[0] == PACKED:
                _, number, *outcome = OUTCOME.unpack(message)
                result, failure = (*outcome, {}), None
            else:
                number, result, failure = ForkingPickler.loads(message)
            if number == self._number:  # skips stale answers, as after Ctrl-C
                return result, failure
        raise WorkerLost(self._fate)  # as it was found, if only by another call

    def _found_fate(self) -> str:
        self._process.join(1.0)
        code = self._process.exitcode
        if code is None:
            return "its process does not answer any more"
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"its process was killed ({names.get(-code, -code)})"
        return f"its process ended with exit code {code}"

    def describe(self) -> Description:
        """Waits until the environment is made; returns its description.

        Raises:
            ValueError: the worker raised it.
            RuntimeError: the worker raised it or any other error.
        """
        try:
            description: Description = self.receive()
        except (RemoteFailure, WorkerLost) as error:
            kind, _, text = str(error).partition(": ")
            for known in (ValueError, RuntimeError):  # as if raised in this process
                if isinstance(error, RemoteFailure) and kind == known.__name__:
                    raise known(text) from error
            message = f"environment {self._index} cannot be made: {error}"
            raise RuntimeError(message) from error
        self._described = description
        return description

    def step(self, action: Any) -> Outcome:
        """Returns the outcome of a step whose action was sent."""
        outcome: Outcome = self.receive()
        return outcome

    def remake(self, changes: Mapping[str, Any]) -> None:
        """Makes the environment again, in a new process if the old one is dead.

        A new process knows of no changes before an episode begins.
        """
        if not self.is_lost:
            self.send("remake", changes)
            self.receive()
            return
        self._start()
        try:
            description = self.receive()
            if self._described is not None:
                check_same_spaces(self._described, description, "the environment", "it had")
        except Exception:
            self.kill()  # the process of an environment that cannot be made has ended
            raise

    def close(self) -> None:
        """Waits for the process to end after `send("close")`, and kills it after the deadline."""
        if not self.is_lost:
            self._process.join(self._seconds_left())
        self.kill()

    def kill(self) -> None:
        """Kills the process; its remaining answers are not read."""
        self.is_lost = True
        if self._connection.closed:
            return
        self._connection.close()
        if hasattr(os, "killpg") and self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # simulators that it started, too
        self._process.kill()
        self._process.join(1.0)
        with contextlib.suppress(ValueError):  # the process still exists
            self._process.close()


def kill(slots: Sequence[object]) -> None:
    """Kills the processes of slots that have one."""
    for slot in slots:
        if isinstance(slot, RemoteSlot):
            slot.kill()


@contextlib.contextmanager
def _starting(*, needs_main: bool) -> Iterator[None]:
    """Sets what a new process inherits: one thread, Ctrl-C ignored, no main script.

    By default, Python runs the main script again in every worker, for definitions in it. If none
    are needed, that costs seconds, and a script without `if __name__ == "__main__"` runs twice.
    """
    multiprocessing.get_context(START_METHOD).set_forkserver_preload([f"{__package__}.serving"])
    with contextlib.ExitStack() as stack:
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(_ONE_THREAD)
        stack.callback(_set_environment, before)
        if hasattr(signal, "pthread_sigmask"):
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
        if not needs_main:
            stack.callback(sys.modules.__setitem__, "__main__", sys.modules["__main__"])
            sys.modules["__main__"] = types.ModuleType("__main__")
        yield


def _set_environment(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
