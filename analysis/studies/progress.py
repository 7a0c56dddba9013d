"""One display for all jobs of a study: a line that changes, or a line for each job that ended."""

import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from analysis.studies.study import Job, is_finished, summary_of

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
        self._has_tasks = len({job.task for job in jobs}) > 1
        self._failed: set[Job] = set()
        self._finished: set[Job] = set()
        self._scores: dict[str, list[float]] = defaultdict(list)
        self._steps = {job: _steps_of(job) for job in jobs}
        for job in jobs:
            if is_finished(job):
                self._note(job)
        self._started, self._shown = time.monotonic(), 0.0
        self._steps_before = sum(self._steps.values())
        if self._finished:
            self.say(f"{len(self._finished)} of {len(jobs)} jobs are finished already")

    def finish(self, job: Job) -> None:
        """Count a job that finished."""
        score = self._note(job)
        if not self._is_terminal:
            written = "" if score is None else f"   {score:.2f}"
            self.say(f"[{len(self._finished)}/{len(self._jobs)}] {job.name}{written}")

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
        if not self._is_terminal or time.monotonic() < self._shown + _INTERVAL:
            return
        self._shown = time.monotonic()
        line = self.line(list(running))
        width = shutil.get_terminal_size().columns - 1
        print(f"{_CLEAR}{line[:width]}", end="", file=sys.stderr, flush=True)

    def line(self, running: Sequence[Job]) -> str:
        """Write counts, time left and each arm's mean score so far, the best first."""
        self._steps |= {job: _steps_of(job) for job in running}
        means = sorted(((fmean(s), len(s), arm) for arm, s in self._scores.items()), reverse=True)
        arms = "".join(f"   {arm} {mean:.2f} ({count})" for mean, count, arm in means)
        return f"{self.counts()}, {len(running)} running, {self._left()} left{arms}"

    def counts(self) -> str:
        """Write how many jobs are finished and have failed."""
        failed = f", {len(self._failed)} failed" if self._failed else ""
        return f"{len(self._finished)} of {len(self._jobs)} jobs done{failed}"

    def _note(self, job: Job) -> float | None:
        self._finished.add(job)
        self._steps[job] = job.env_steps
        evaluation = summary_of(job).get(self._evaluation) or {}
        score: float | None = evaluation.get("return_mean")
        if score is not None:
            self._scores[f"{job.task} {job.arm}" if self._has_tasks else job.arm].append(score)
        return score

    def _left(self) -> str:
        """Estimate the time left from the environment steps of this session."""
        left = sum(j.env_steps - steps for j, steps in self._steps.items() if j not in self._failed)
        begun = sum(self._steps.values()) - self._steps_before
        if begun <= 0:
            return "?"
        return _clock((time.monotonic() - self._started) * left / begun)


def _steps_of(job: Job) -> int:
    """Return the environment steps of a run, as of its last summary."""
    steps: int = summary_of(job).get("env_steps", 0)
    return min(steps, job.env_steps)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
