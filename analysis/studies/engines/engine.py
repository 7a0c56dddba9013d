"""What an engine is, and the process that each of them starts for a job."""

import ctypes
import importlib
import os
import shlex
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.composing.presets import written
from conf.schema.layout import PREFIX, installing
from training.process.locking import is_locked
from training.runs.refusal import Refusal

ROOT = Path(__file__).resolve().parents[3]
Process = subprocess.Popen[bytes]
Handle = Any
"""What an engine returns for a job that it took."""
_PAUSE = 0.2
_OCCUPIED_SECONDS = 60.0
"""Time for the previous process of a run to save and end."""
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


@dataclass(frozen=True)
class Command:
    """A job as a process.

    Attributes:
        words: the command line after `train.py`, without the run directory.
        directory: of the run.
        log: the file that gets what the process prints.
        place: its working directory.
        script: `train.py`.
    """

    words: tuple[str, ...]
    directory: Path
    log: Path
    place: Path
    script: Path

    def line(self) -> list[str]:
        """Return the command that begins the run, or resumes it exactly: the same each time."""
        has_begun = (self.directory / "config.yaml").is_file()
        where = written("resume" if has_begun else "run_dir", str(self.directory))
        return [sys.executable, str(self.script), *self.words, where]


class Engine(ABC):
    """Runs jobs somewhere.

    Attributes:
        capacity: jobs that it takes at once; infinite if it queues them.
    """

    capacity: float

    @abstractmethod
    def submit(self, commands: Sequence[Command]) -> list[Handle]:
        """Take jobs."""

    @abstractmethod
    def poll(self, handle: Handle) -> int | None:
        """Return a job's exit code, negative if a signal or a lost node ended it; None before."""

    @abstractmethod
    def cancel(self, handle: Handle) -> None:
        """Tell a job to save and stop; it still ends with an exit code."""

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Release what it holds, once its jobs are cancelled."""


def start(command: Command) -> Process:
    """Start the process of a job; it is told to save and stop if its parent dies.

    While an earlier process works in its directory, this waits, for a while.
    """
    deadline = time.monotonic() + _OCCUPIED_SECONDS
    while is_locked(command.directory) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    line = command.line()
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("ab") as log:
        log.write(f"$ {shlex.join(line)}\n".encode())
        log.flush()
        return subprocess.Popen(
            line,
            cwd=command.place,
            env={"OMP_NUM_THREADS": "1", **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the driver alone, which tells each job once
            preexec_fn=die_with_parent if _LIBC is not None else None,
        )


def end(process: Process, is_stopped: Callable[[], bool] = lambda: False) -> int:
    """Wait for the end of a job, or stop it; return its exit code."""
    with suppress(KeyboardInterrupt):
        while process.poll() is None and not is_stopped():
            time.sleep(_PAUSE)
    process.terminate()  # nothing happens to one that ended
    return process.wait()


def import_path() -> str:
    """Return the PYTHONPATH of jobs, which import this checkout and what the driver imports."""
    own = [] if PREFIX else [str(ROOT)]  # a wheel is found without
    return os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])


def needed(package: str, extra: str) -> Any:
    """Import a package of an extra.

    Raises:
        Refusal: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise Refusal(f"{package} is not installed: {installing(extra)}", 2) from error


# Elsewhere orphans end by themselves.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Have this process told to save and stop if its parent dies; on Linux only."""
    if _LIBC is not None:
        _LIBC.prctl(_DEATH_SIGNAL, signal.SIGTERM)
