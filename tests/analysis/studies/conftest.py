"""Studies whose jobs are a small script: it leaves the files of a run, as words choose."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.studies.engines.engine import Command
from analysis.studies.study import Job

FAKE = """
import fcntl, json, os, signal, sys, time
from pathlib import Path

words = dict(word.split("=", 1) for word in sys.argv[1:])
has_begun = "resume" in words
directory = Path((words.get("resume") or words["run_dir"]).strip("'"))
directory.mkdir(parents=True, exist_ok=True)
lock = os.open(directory, os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as training does
(directory / "config.yaml").write_text("total_env_steps: 100\\n")


def summary(status, steps):
    value = float(words.get("x", words.get("agent.discount", 0)))
    score = {"return_mean": float(words["seed"]) + 0.5 + value}
    text = json.dumps({"status": status, "env_steps": steps, "evaluation": score, "best": score})
    (directory / "summary.json.new").write_text(text)
    os.replace(directory / "summary.json.new", directory / "summary.json")


def save(number, frame):
    summary("interrupted", 50)
    sys.exit(128 + number)


signal.signal(signal.SIGTERM, save)
summary("running", 10)
with (directory / "sessions.txt").open("a") as file:
    file.write("resumed\\n" if has_begun else "begun\\n")
way = words.get("way", "ends")
if way == "fails" or words.get("agent.num_epochs") == "13":
    print("it is broken")
    sys.exit(1)
if way == "killed" or (way == "killed-once" and not has_begun):
    os.kill(os.getpid(), signal.SIGKILL)
if way == "evaluates":
    summary("running", 50)
    time.sleep(0.5)
if way == "waits" and not has_begun:
    print("waiting", flush=True)
    deadline = time.monotonic() + 300
    while not Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
summary("finished", 100)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where jobs are the small script."""
    script = tmp_path / "train.py"
    script.write_text(FAKE)
    monkeypatch.setattr("analysis.studies.execution.SCRIPT", script)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(place: Path) -> Callable[..., Job]:
    """Makes a job of a study in `place / "study"`."""

    def make(arm: str = "gru", seed: int = 0, words: Sequence[str] = ()) -> Job:
        directory = place / "study" / "task" / arm / f"seed{seed}"
        return Job("task", arm, seed, (f"seed={seed}", *words), directory, 100)

    return make


@pytest.fixture
def command(place: Path) -> Callable[[Job], Command]:
    """Makes the command of a job."""
    script = place / "train.py"
    return lambda job: Command(job.words, job.directory, place / f"{job.name}.txt", place, script)


def wait_until(is_true: Callable[[], Any], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for something to become true."""
    return wait_until


def read_sessions(job: Job) -> list[str]:
    return (job.directory / "sessions.txt").read_text().split()


@pytest.fixture
def sessions() -> Callable[[Job], list[str]]:
    """Reads how often the process of a job was started, and how."""
    return read_sessions
