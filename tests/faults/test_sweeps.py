"""A sweep goes on whatever becomes of one of its jobs, and says which failed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = """
import os, signal
import gymnasium
import numpy as np

class Fatal(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, way):
        self.way = way

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        reward = 1.0
        if self.np_random.random() < 0.01:
            reward = np.nan if self.way == "senseless" else 1.0
            if self.way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.way == "raises":
                raise ValueError("the environment is broken")
        return np.zeros(2, np.float32), reward, bool(self.np_random.random() < 0.1), False, {}

gymnasium.register("Fatal-v0", entry_point=Fatal)
"""
WORDS = [
    "env.packages=[fatal]",
    "env.id=Fatal-v0",
    "env.num_envs=2",
    "total_env_steps=2000",
    "evaluation.interval=0",
    "evaluation.final_episodes=2",
    "tracking=none",
]


@pytest.mark.faults
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_other_jobs_complete(launcher: str, tmp_path: Path) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "fatal.py").write_text(PACKAGE)
    finished = subprocess.run(
        [
            sys.executable,
            str(ROOT / "train.py"),
            "-m",
            *WORDS,
            "+env.kwargs.way=killed,none,raises,senseless",
            f"hydra/launcher={launcher}",
            "run_dir=runs/${env.kwargs.way}",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    report = finished.stderr[finished.stderr.index("3 of the jobs failed:") :].splitlines()[1:]
    assert any("killed: killed by SIGKILL" in line for line in report)
    assert any("raises: exit code 1" in line for line in report)
    assert any("senseless: exit code 1" in line for line in report)
    summary = json.loads((tmp_path / "runs" / "none" / "summary.json").read_text())
    assert summary["status"] == "finished"


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_a_sweep_lets_its_job_save(number: int, tmp_path: Path) -> None:
    """SIGTERM reaches the sweep alone, Ctrl-C the whole group of the terminal."""
    words = [
        "total_env_steps=1e8",
        "evaluation.interval=0",
        "tracking=none",
        "run_dir=runs/${seed}",
    ]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", "seed=1,2", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as sweep:
        manifest = tmp_path / "runs" / "1" / "checkpoints" / "last" / "manifest.json"
        deadline = time.monotonic() + 60
        while not (manifest.exists() and json.loads(manifest.read_text())["step"]):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        if number == signal.SIGINT:
            os.killpg(sweep.pid, number)
        else:
            sweep.send_signal(number)
        sweep.communicate(timeout=30)
    assert sweep.returncode != 0
    summary = json.loads((tmp_path / "runs" / "1" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert json.loads(manifest.read_text())["step"] == summary["env_steps"]
    assert not (tmp_path / "runs" / "2").exists()
