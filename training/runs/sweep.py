"""Jobs of a sweep, each in its own process: one that fails does not affect the others.

Imports no torch: the sweep's process only waits.
"""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conf.composing.sweeps import OF_ONE_JOB, key_of
from training.process.signals import received
from training.saving.files import has_checkpoint

_REPORTS = "NEURL_SWEEP_REPORTS"
"""Environment variable with the file to which jobs report failures, from any process."""
_INTERRUPTED = {128 + signal.SIGINT, 128 + signal.SIGTERM}


@contextmanager
def failures() -> Iterator[list[str]]:
    """Collect the failures that jobs of a sweep report, one line each, at the end."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "failed"
        os.environ[_REPORTS] = str(path)
        try:
            yield lines
        finally:
            del os.environ[_REPORTS]
            lines += path.read_text().splitlines() if path.exists() else []


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
    if code:
        _report(f"{run}: {_reason(code)}; {_remedy(run, words, trust)}")
        return math.nan
    summary = json.loads((run / "summary.json").read_bytes())
    return float((summary["evaluation"] or {}).get("return_mean", math.nan))


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
        return shlex.join(["python", "train.py", f"resume={run_directory}", *trust])
    own = [word for word in words if key_of(word) not in OF_ONE_JOB]
    return f"python train.py {shlex.join(own)}"


def _report(line: str) -> None:
    path = os.environ.get(_REPORTS)
    if path is None:  # a launcher that runs jobs elsewhere: it reports by itself
        raise RuntimeError(line)
    with open(path, "a", encoding="utf-8") as file:  # one short write: jobs may end together
        file.write(f"{line}\n")
