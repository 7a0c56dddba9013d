"""Runs the jobs of a study: keeps an engine filled, survives failing jobs, stops so that runs save.

One driver at a time works in a study's directory. Whatever becomes of it, the same command goes on:
finished runs stay, interrupted ones are resumed exactly.
"""

import errno
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from analysis.studies.engines.engine import ROOT, Command, Engine, Handle
from analysis.studies.progress import GridProgress
from analysis.studies.study import Job, is_finished
from training.process.locking import Locked, is_locked, locked
from training.process.signals import StopRequest, stop_requests
from training.runs.refusal import Refusal

SCRIPT = ROOT / "train.py"
_PAUSE = 0.2
_SIGNALLED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of a run that somebody told to stop."""


@dataclass(frozen=True)
class Ended:
    """A job that ended, with the exit code of its process."""

    job: Job
    code: int
    log: Path

    def __str__(self) -> str:
        """Say in one line why it failed: its signal, and the last line that it printed.

        Its log begins each session with `$ command`.
        """
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        printed = f"\n{text}".rpartition("\n$ ")[2].splitlines()[1:]
        reasons = [line.strip() for line in printed if line.strip()][-1:]
        if self.code < 0:
            reasons.insert(0, f"killed by {signal.Signals(-self.code).name}")
        return f"{self.job.name}: {'; '.join(reasons) or f'exit code {self.code}'} ({self.log})"


class Pool:
    """Jobs that wait, and jobs that an engine runs; it is built when it is needed first.

    A job whose process was killed is resumed once.

    Attributes:
        running: the engine's handle of each job.
        logs: the directory of what jobs print.
    """

    def __init__(self, build: Callable[[], Engine], directory: Path) -> None:
        """Take what builds the engine; logs go into the directory."""
        self._build, self.logs = build, directory / "logs"
        self._waiting, self._retried = deque[Job](), set[Job]()
        self.running: dict[Job, Handle] = {}

    @cached_property
    def _engine(self) -> Engine:
        return self._build()

    def __enter__(self) -> "Pool":
        """Close the engine in the end, if there is one."""
        return self

    def __exit__(self, *_: object) -> None:
        """Tell what still runs to save and stop, without waiting for it."""
        if "_engine" in vars(self):
            self.cancel(self.running)
            self._engine.close()

    def __bool__(self) -> bool:
        """Tell whether anything is left to do."""
        return bool(self._waiting or self.running)

    @property
    def has_room(self) -> bool:
        """Tell whether the engine would take another job at once."""
        return len(self._waiting) + len(self.running) < self._engine.capacity

    def add(self, jobs: Iterable[Job]) -> None:
        """Queue jobs."""
        self._waiting.extend(jobs)

    def step(self) -> list[Ended]:
        """Collect the jobs that ended, and hand over others."""
        ended = []
        for job, handle in list(self.running.items()):
            code = self._engine.poll(handle)
            if code is None:
                continue
            del self.running[job]
            if (code < 0 or code in _SIGNALLED) and job not in self._retried:
                self._retried.add(job)
                self._waiting.appendleft(job)
            else:
                ended.append(Ended(job, code, self._log(job)))
        self._fill()
        return ended

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Tell jobs to save and stop, or drop them from the queue; they are not retried."""
        for job in jobs:
            self._retried.add(job)
            if job in self.running:
                self._engine.cancel(self.running[job])
            elif job in self._waiting:
                self._waiting.remove(job)

    def stop(self) -> None:
        """Let every run save and end; wait for that."""
        self._waiting.clear()
        self.cancel(self.running)
        while self.running:
            time.sleep(_PAUSE)
            self.step()

    def pause(self, stop: StopRequest, told: Callable[[], str]) -> None:
        """Wait a little.

        Raises:
            Refusal: a signal asked to stop; every run saved.
        """
        if stop:
            print("stopping: every run saves", file=sys.stderr)
            self.stop()
            raise Refusal(f"{told()}; the same command resumes", 128 + (stop.number or 0))
        time.sleep(_PAUSE)

    def _fill(self) -> None:
        """Hand over as many jobs as the engine takes; a run that is in use waits."""
        room = min(len(self._waiting), self._engine.capacity - len(self.running))
        is_free = (job for job in self._waiting if not is_locked(job.directory))
        free = list(islice(is_free, int(room)))
        for job in free:
            self._waiting.remove(job)
        if free:
            where = Path.cwd(), SCRIPT
            commands = [Command(job.words, job.directory, self._log(job), *where) for job in free]
            self.running |= dict(zip(free, self._engine.submit(commands), strict=True))

    def _log(self, job: Job) -> Path:
        """Return the file of what a job prints."""
        return self.logs / f"{job.name}.txt"


@contextmanager
def driving(directory: Path) -> Iterator[StopRequest]:
    """Own the directory of a study; the first SIGINT or SIGTERM becomes a request to stop.

    Raises:
        Refusal: another driver owns it, or it cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise Refusal(f"directory: cannot write to {directory}: {error.strerror}", 2) from error
    try:
        with locked(directory), stop_requests() as stop:
            yield stop
    except Locked as error:
        raise Refusal(f"{error}: wait for it, or name another directory=...", 2) from error


def run_missing(jobs: Sequence[Job], pool: Pool, stop: StopRequest, metric: str) -> list[Ended]:
    """Run what is missing of the jobs; return those that failed.

    Raises:
        Refusal: the engine is not installed, or a signal stopped it all.
    """
    missing = [job for job in jobs if not is_finished(job)]
    if not missing:
        return []
    progress, failed = GridProgress(jobs, metric), list[Ended]()
    pool.add(missing)
    while pool:
        for ended in pool.step():
            if ended.code == 0:
                progress.finish(ended.job)
            else:
                failed.append(ended)
                progress.fail(ended.job, str(ended))
        progress.update(pool.running)
        if stop:
            progress.close()
        pool.pause(stop, progress.counts)
    progress.end()
    return failed
