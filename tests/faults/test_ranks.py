"""Two ranks, of which one is killed or told to stop: both end, and the run resumes as one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.training.test_ranks import PPO, SMALL, contents

pytestmark = pytest.mark.faults
LONG = [*(word for word in SMALL if "total" not in word), *PPO, "total_env_steps=3000"]
WITHIN = 30.0
"""Seconds in which both have ended."""


def start(*words: str) -> list[subprocess.Popen[str]]:
    """Start both ranks of a run, without torchrun, which would end them itself."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = str(place.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "train.py", *words],
            cwd=ROOT,
            env={**os.environ, **meeting, "RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without a fault."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert [code for code, _ in ended(start(*LONG, f"run_dir={run}"), within=120)] == [0, 0]
    return run


def ended(processes: list[subprocess.Popen[str]], *, within: float) -> list[tuple[int, str]]:
    """Wait for all of them; return exit codes and what they said."""
    until = time.monotonic() + within
    said = [each.communicate(timeout=until - time.monotonic())[1] for each in processes]
    return [(each.returncode, text) for each, text in zip(processes, said, strict=True)]


def wait_for_checkpoint(run: Path, *, after: int) -> None:
    """Wait until both parts of a run have a checkpoint of some steps."""
    places = [run / part / "checkpoints/last" for part in ("", "ranks/1")]
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = [place.glob("tensors-*") for place in places]
        if all(any(int(p.name.split("-")[1]) > after for p in paths) for paths in found):
            return
        time.sleep(0.01)
    raise TimeoutError(run)


@pytest.mark.parametrize(
    ("rank", "number"),
    [(0, signal.SIGKILL), (1, signal.SIGKILL), (0, signal.SIGTERM), (1, signal.SIGINT)],
)
def test_one_rank_ends_all_and_they_resume(
    rank: int, number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    processes = start(*LONG, f"run_dir={broken}")
    wait_for_checkpoint(broken, after=500)
    processes[rank].send_signal(number)
    results = ended(processes, within=WITHIN)
    if number == signal.SIGKILL:
        code, text = results[1 - rank]
        assert code == 1
        assert "another rank has ended, or does not answer" in text
        assert "Traceback" not in text
        assert results[rank][0] == -signal.SIGKILL
    else:
        assert [code for code, _ in results] == [128 + number, 0]
        assert "interrupted; saved at" in results[0][1]
    assert [code for code, _ in ended(start(f"resume={broken}"), within=120)] == [0, 0]
    assert contents(broken) == contents(whole)
