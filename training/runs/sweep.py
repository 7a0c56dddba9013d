"""Jobs of a sweep, each in its own process: one that fails does not affect the others.

Imports no torch: the sweep's process only waits.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from conf.composing.sweeps import OF_ONE_JOB, key_of
from conf.schema.layout import command
from training.process.signals import received
from training.saving.files import has_checkpoint

_REPORTS = "NEURL_SWEEP_REPORTS"
"""Environment variable with the file to which jobs report their ends, from any process."""
_INTERRUPTED = {128 + signal.SIGINT, 128 + signal.SIGTERM}


class Outcome(NamedTuple):
    """How a job of a sweep ended.

    Attributes:
        words: its command line as a single run.
        problem: why it failed, and the remedy; "" if it did not.
    """

    run: str
    words: list[str]
    score: float
    problem: str


@contextmanager
def outcomes() -> Iterator[list[Outcome]]:
    """Collect how the jobs of a sweep ended, in that order."""
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ended"
        os.environ[_REPORTS] = str(path)
        try:
            yield found
        finally:
            del os.environ[_REPORTS]
            lines = path.read_text().splitlines() if path.exists() else []
            found += [Outcome(*json.loads(line)) for line in lines]


def table(found: Sequence[Outcome]) -> str:
    """Write what differs between the jobs, their scores and directories, the best first."""
    common = set[str].intersection(*(set(outcome.words) for outcome in found))
    ranked = sorted(found, key=lambda each: (math.isnan(each.score), -each.score))
    own = [" ".join(word for word in each.words if word not in common) for each in ranked]
    rows = [("score", "overrides", "run")]
    rows += [(f"{o.score:.2f}", words, o.run) for o, words in zip(ranked, own, strict=True)]
    width = max(len(words) for _, words, _ in rows)
    return "\n".join(f"{score:>11}  {words:<{width}}  {run}" for score, words, run in rows)


def run_job(script: Path, words: Sequence[str], run: Path, *, trust: Sequence[str]) -> float:
    """Run one job to its end; return its score, or nan if it failed, which is reported.

    Args:
        words: the job's command line.
        trust: the override that commands need to open the run.

    Raises:
        KeyboardInterrupt: the user stopped the job, and so the sweep.
    """
    code = _ended([sys.executable, str(script), *words])
    if code in _INTERRUPTED:
        raise KeyboardInterrupt
    score, problem = math.nan, ""
    if code:
        problem = f"{run}: {_reason(code)}; {_remedy(run, words, trust)}"
    else:
        summary = json.loads((run / "summary.json").read_bytes())
        score = float((summary["evaluation"] or {}).get("return_mean", math.nan))
    _report(Outcome(str(run), _own(words), score, problem))
    return score


def _ended(command: Sequence[str]) -> int:
    """Wait for a process, with time to save if stopped; return its exit code.

    SIGTERM is forwarded: stopping a sweep stops its jobs.
    """
    with subprocess.Popen(command) as process, received(process.send_signal, signal.SIGTERM):
        try:
            return process.wait()
        except KeyboardInterrupt:  # a terminal sends it to the job too
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.kill()
                raise


def _reason(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _remedy(run_directory: Path, words: Sequence[str], trust: Sequence[str]) -> str:
    if has_checkpoint(run_directory / "checkpoints" / "last"):
        return command("train", f"resume={run_directory}", *trust)
    return command("train", *_own(words))


def _own(words: Sequence[str]) -> list[str]:
    """Leave out what only places a job."""
    return [word for word in words if key_of(word) not in OF_ONE_JOB]


def _report(outcome: Outcome) -> None:
    path = os.environ.get(_REPORTS)
    if path is not None:
        with open(path, "a", encoding="utf-8") as file:  # one short write: jobs may end together
            file.write(f"{json.dumps(outcome)}\n")
    elif outcome.problem:  # a launcher that runs jobs elsewhere: it reports by itself
        raise RuntimeError(outcome.problem)
