"""Starts worker processes and communicates with them, with timeouts."""

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

from envs.vector.serving import CLOSE, DONE, FAILED, TOKEN
from envs.vector.slot import RemoteFailure, RemoteTraceback

START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""Never fork: the copy of a process with torch threads can deadlock."""

# Read when numpy is imported, so they are set while a worker (or the fork server) starts.
_ONE_THREAD = {
    f"{library}_THREADS": "1"
    for library in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMEXPR_NUM", "VECLIB_MAXIMUM")
}


class WorkerLost(RuntimeError):
    """A worker process died, or was killed because it did not answer in time."""


class Deadline:
    """A deadline some seconds from now; None for no deadline."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Returns the seconds left, at least 0."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Worker:
    """The training process's handle of a worker process.

    Attributes:
        pid: process id.
        is_lost: whether the process is dead.
    """

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...], index: int) -> None:
        """Starts the process, which answers question 0 once its environment is made.

        Args:
            target: runs in the process, with its end of the pipe, the index and the arguments.
        """
        context: Any = multiprocessing.get_context(START_METHOD)
        self.is_lost = False
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=target, args=(theirs, index, *arguments), name=f"environment-{index}"
        )
        try:
            with _starting(needs_main=not is_importable(arguments[:2])):
                self._process.start()
        except (EOFError, OSError, AssertionError) as error:
            self._connection.close()
            raise RuntimeError(f"a worker process cannot be started: {error}") from error
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._poller: Any = None
        if hasattr(select, "poll"):  # ten times as fast as Connection.poll
            self._poller = select.poll()
            self._poller.register(self._connection.fileno(), select.POLLIN)

    def ask(self, token: bytes, argument: Any) -> None:
        """Sends a question and, unless it is None, its argument.

        Errors are reported when the answer is read.
        """
        with contextlib.suppress(OSError):
            self._connection.send_bytes(token)
            if argument is not None:
                self._connection.send(argument)

    def answer(self, number: int, deadline: Deadline) -> Any:
        """Reads the answer to a question.

        Raises:
            RemoteFailure: the environment raised.
            WorkerLost: no answer.
        """
        try:
            kind, told = self._read(number, deadline)
        except (EOFError, OSError, WorkerLost) as error:
            fate = str(error) if isinstance(error, WorkerLost) else self._fate()
            self.kill()
            raise WorkerLost(fate) from error
        if kind == FAILED:
            text, trace = told
            raise RemoteFailure(text) from RemoteTraceback(trace)
        return told

    def _read(self, number: int, deadline: Deadline) -> tuple[int, Any]:
        while True:
            if self.is_lost:
                raise WorkerLost("its process is dead")
            left = deadline.left()
            if left is not None and not self._has_answer(left):
                raise WorkerLost(f"no answer within {deadline.seconds:g} s (env.step_timeout)")
            kind, answered = TOKEN.unpack(self._connection.recv_bytes())
            told = None if kind == DONE else self._told()
            if answered == number:  # skips stale answers, as after Ctrl-C
                return kind, told

    def _has_answer(self, seconds: float) -> bool:
        if self._poller is not None:
            return bool(self._poller.poll(seconds * 1000.0))
        return bool(self._connection.poll(seconds))

    def _told(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise
        except Exception:  # an object that cannot be unpickled here
            return None

    def _fate(self) -> str:
        self._process.join(1.0)
        code = self._process.exitcode
        if code is None:
            return "its process does not answer any more"
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"its process was killed ({names.get(-code, -code)})"
        return f"its process ended with exit code {code}"

    def ask_to_close(self) -> None:
        """Tells the process to end; there is no answer."""
        self.ask(TOKEN.pack(CLOSE, 0), None)

    def end(self, deadline: Deadline) -> None:
        """Waits for the process to end; kills it after the deadline."""
        if not self.is_lost:
            self._process.join(deadline.left())
        self.kill()

    def kill(self) -> None:
        """Kills the process; its remaining answers are not read."""
        self.is_lost = True
        if self._connection.closed:
            return
        self._connection.close()
        self._process.kill()
        self._process.join(1.0)
        with contextlib.suppress(ValueError):  # the process still exists
            self._process.close()


def is_importable(*values: Any) -> bool:
    """Whether a worker can import these values without the user's main script."""
    return b"__main__" not in bytes(ForkingPickler.dumps(values))


@contextlib.contextmanager
def _starting(*, needs_main: bool) -> Iterator[None]:
    """Sets what a new process inherits: one thread, Ctrl-C ignored, no main script.

    By default, Python runs the main script again in every worker, for definitions in it. If none
    are needed, that costs seconds, and a script without `if __name__ == "__main__"` runs twice.
    """
    multiprocessing.get_context(START_METHOD).set_forkserver_preload(["envs.vector.serving"])
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
