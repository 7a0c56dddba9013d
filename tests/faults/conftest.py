"""Runs in processes of their own, killed at any moment and gone on with."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DYING = Path(__file__).with_name("dying.py")


class Training:
    """Trains with given words; `python train.py` in a process group of its own."""

    def __init__(self, words: Sequence[str], directory: Path) -> None:
        self.words, self.directory = [*words, "tracking.progress=false"], directory

    def start(self, *, script: Sequence[str] = ("train.py",)) -> subprocess.Popen[str]:
        """Begin, or go on if the run has begun."""
        has_begun = (self.directory / "config.yaml").exists()
        words = [f"resume={self.directory}"] if has_begun else self.words
        where = [] if has_begun else [f"run_dir={self.directory}"]
        return subprocess.Popen(
            [sys.executable, *script, *words, *where],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> str:
        """Run to the end; return what was printed."""
        process = self.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def kill_after(self, seconds: float) -> bool:
        """Run for a while, then kill the process; tell whether it was still running."""
        process = self.start()
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        assert process.returncode == 0
        return False

    def die_at(self, call: int) -> bool:
        """Run until the process kills itself at one of its calls to the disk; False at the end."""
        process = self.start(script=(str(DYING), str(call)))
        output, _ = process.communicate(timeout=300)
        assert process.returncode in (0, -signal.SIGKILL), output
        return process.returncode != 0


def seconds_of(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


@pytest.fixture(scope="session")
def training() -> type[Training]:
    return Training


@pytest.fixture(scope="session")
def duration() -> Callable[[Callable[[], object]], float]:
    return seconds_of


@pytest.fixture(scope="session")
def same_run(finished_run) -> Callable[[Path, Path], None]:
    """Asserts that two runs left the same weights, states, curves and scores."""

    def same(one: Path, other: Path) -> None:
        ours, theirs = finished_run(one), finished_run(other)
        weights, expected = theirs.weights(), ours.weights()
        assert weights.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(weights[name].numpy(), tensor.numpy(), err_msg=name)
        curves, expected_curves = theirs.scalars(), ours.scalars()
        assert curves.keys() == expected_curves.keys()
        for tag, points in expected_curves.items():
            if not tag.startswith("time/"):
                assert curves[tag] == points, tag
            else:
                assert [step for step, _ in curves[tag]] == [step for step, _ in points], tag
        for key in ("evaluation", "best", "train_return_mean", "updates", "env_steps", "status"):
            assert theirs.summary[key] == ours.summary[key], key
        leftovers = [path for path in other.rglob("*.new")]
        assert not leftovers

    return same
