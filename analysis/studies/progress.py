"""One display for all jobs of a study: a bar on a terminal, and a line for each job that ended."""

import sys
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta
from statistics import fmean
from typing import Any

from tqdm import tqdm

from analysis.studies.study import Job, is_finished, summary_of
from training.stream.episodes import shown_return

_INTERVAL = 1.0
"""Seconds between looks at all runs."""


class GridProgress:
    """Counts jobs; a bar of environment steps shows the time left and each arm's scores."""

    def __init__(self, jobs: Sequence[Job], metric: str) -> None:
        """Begin with the jobs that are finished.

        Args:
            metric: `best` shows the best evaluations, anything else the final ones.
        """
        self._jobs, self._evaluation = jobs, "best" if metric == "best" else "evaluation"
        self._failed, self._finished = set[Job](), {job for job in jobs if is_finished(job)}
        self._started, self._shown = time.monotonic(), 0.0
        self._bar: Any = tqdm(
            total=sum(job.env_steps for job in jobs),
            initial=sum(map(_steps_of, jobs)),
            unit=" steps",
            unit_scale=True,
            disable=None,
            leave=False,
        )
        if self._finished:
            self.say(f"{len(self._finished)} of {len(jobs)} jobs are finished already")

    def finish(self, job: Job) -> None:
        """Count a job that finished."""
        self._finished.add(job)
        score = "".join(f"   {shown_return(each)}" for each in self._score(job))
        self.say(f"[{len(self._finished)}/{len(self._jobs)}] {job.name}{score}")

    def fail(self, job: Job, reason: str) -> None:
        """Count a job that failed, and say why."""
        self._failed.add(job)
        self._bar.total -= job.env_steps - _steps_of(job)  # nothing waits for them
        self.say(f"failed: {reason}")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def end(self) -> None:
        """Replace the bar by the result."""
        self.close()
        self.say(f"{self.counts()} in {timedelta(seconds=int(time.monotonic() - self._started))}")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=sys.stderr)

    def update(self, running: Collection[Job]) -> None:
        """Renew the bar, about once a second."""
        if not self._bar.disable and time.monotonic() >= self._shown + _INTERVAL:
            self._shown = time.monotonic()
            self._bar.set_postfix_str(self.line(running), refresh=False)
            self._bar.update(sum(map(_steps_of, self._jobs)) - self._bar.n)
            self._bar.refresh()  # counts change without steps too

    def line(self, running: Collection[Job]) -> str:
        """Write counts, and each arm's mean score so far, the best first."""
        scores = defaultdict[str, list[float]](list)
        has_tasks = len({job.task for job in self._jobs}) > 1
        for job in self._finished:
            scores[f"{job.task} {job.arm}" if has_tasks else job.arm] += self._score(job)
        means = sorted(((fmean(s), len(s), arm) for arm, s in scores.items() if s), reverse=True)
        arms = "".join(f"   {arm} {shown_return(mean)} ({count})" for mean, count, arm in means)
        return f"{self.counts()}, {len(running)} running{arms}"

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
