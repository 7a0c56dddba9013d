"""One display for all jobs of a study: a line that changes, or a line for each job that ended."""

import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from statistics import fmean

from analysis.studies.study import Job, is_finished, summary_of
from training.stream.episodes import shown_return

_INTERVAL = 1.0
_CLEAR = "\r\x1b[K"


class GridProgress:
    """Counts jobs, estimates the time left by environment steps, and shows each arm's scores."""

    def __init__(self, jobs: Sequence[Job], metric: str) -> None:
        """Begin with the jobs that are finished.

        Args:
            metric: `best` shows the best evaluations, anything else the final ones.
        """
        self._jobs, self._evaluation = jobs, "best" if metric == "best" else "evaluation"
        self._is_terminal = sys.stderr.isatty()
        self._failed: set[Job] = set()
        self._finished = {job for job in jobs if is_finished(job)}
        self._started, self._shown = time.monotonic(), 0.0
        self._steps_before = sum(map(_steps_of, jobs))
        if self._finished:
            self.say(f"{len(self._finished)} of {len(jobs)} jobs are finished already")

    def finish(self, job: Job) -> None:
        """Count a job that finished."""
        self._finished.add(job)
        if not self._is_terminal:
            score = "".join(f"   {shown_return(each)}" for each in self._score(job))
            self.say(f"[{len(self._finished)}/{len(self._jobs)}] {job.name}{score}")

    def fail(self, job: Job, reason: str) -> None:
        """Count a job that failed, and say why."""
        self._failed.add(job)
        self.say(f"failed: {reason}")

    def end(self) -> None:
        """Replace the changing line by the result."""
        self.say(f"{self.counts()} in {_clock(time.monotonic() - self._started)}")

    def say(self, line: str) -> None:
        """Print a line above the changing one."""
        print(f"{_CLEAR if self._is_terminal else ''}{line}", file=sys.stderr, flush=True)

    def update(self, running: Iterable[Job]) -> None:
        """Renew the changing line, about once a second."""
        if self._is_terminal and time.monotonic() >= self._shown + _INTERVAL:
            self._shown = time.monotonic()
            line = self.line(list(running))[: shutil.get_terminal_size().columns - 1]
            print(f"{_CLEAR}{line}", end="", file=sys.stderr, flush=True)

    def line(self, running: Sequence[Job]) -> str:
        """Write counts, time left and each arm's mean score so far, the best first."""
        steps = {job: _steps_of(job) for job in self._jobs}
        missing = sum(job.env_steps - steps[job] for job in {*self._jobs} - self._failed)
        begun = sum(steps.values()) - self._steps_before
        seconds = time.monotonic() - self._started
        left = _clock(seconds * missing / begun) if begun > 0 else "?"
        scores = defaultdict[str, list[float]](list)
        has_tasks = len({job.task for job in self._jobs}) > 1
        for job in self._finished:
            scores[f"{job.task} {job.arm}" if has_tasks else job.arm] += self._score(job)
        means = sorted(((fmean(s), len(s), arm) for arm, s in scores.items() if s), reverse=True)
        arms = "".join(f"   {arm} {shown_return(mean)} ({count})" for mean, count, arm in means)
        return f"{self.counts()}, {len(running)} running, {left} left{arms}"

    def counts(self) -> str:
        """Write how many jobs are finished and have failed."""
        failed = f", {len(self._failed)} failed" if self._failed else ""
        return f"{len(self._finished)} of {len(self._jobs)} jobs done{failed}"

    def _score(self, job: Job) -> list[float]:
        """Return a job's score; nothing before there is one."""
        score = (summary_of(job).get(self._evaluation) or {}).get("return_mean")
        return [] if score is None else [score]


def _steps_of(job: Job) -> int:
    """Return the environment steps of a run, as of its last summary."""
    return min(summary_of(job).get("env_steps", 0), job.env_steps)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
