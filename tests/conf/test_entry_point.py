"""An entry point checks first, then Hydra runs it; a stand-in writes down what it was given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conf.composing.command_line import launch, load
from tests import commands

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """
import json
import sys
from pathlib import Path

from omegaconf import OmegaConf

from conf.composing.command_line import launch


def train(config):
    heavy = [name for name in ("torch", "gymnasium", "numpy") if name in sys.modules]
    record = {"config": OmegaConf.to_container(config), "heavy": heavy}
    Path(config.run_dir, "record.json").write_text(json.dumps(record))
    return 1.0


def evaluate(config):
    print(config.run)


if __name__ == "__main__":
    if sys.argv[1] == "evaluate":
        del sys.argv[1]
        launch(evaluate, "evaluate")
    else:
        launch(train)
"""
# A user's package: a network of their own, and the configuration that chooses it.
USER_NETWORK = """
# @package extractor
_target_: my_package.networks.Net
width: 7
"""


@pytest.fixture
def start(tmp_path: Path) -> "Starter":
    (tmp_path / "train.py").write_text(STAND_IN)
    return Starter(tmp_path)


class Starter:
    """Runs the stand-in in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *argv: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.directory)]),
        }
        finished = commands.run(
            self.directory / "train.py",
            argv,
            directory=self.directory,
            environment=environment,
            timeout=60,
            packages=commands.CHECKING,
        )
        assert finished.returncode == code, finished.stderr
        return finished

    def records(self) -> list[tuple[Path, dict]]:
        files = sorted((self.directory / "runs").rglob("record.json"))
        return [(file.parent, json.loads(file.read_text())) for file in files]


def test_task_gets_what_compose_says(start: "Starter") -> None:
    argv = ["total_env_steps=1e4", "memory=gru", "pomdp=mask_velocity", "+env.kwargs.a=1"]
    start(*argv)
    ((run_dir, record),) = start.records()
    expected = OmegaConf.to_container(load(argv))
    assert record["config"].pop("run_dir") == str(run_dir.relative_to(start.directory))
    expected.pop("run_dir")
    assert record["config"] == expected
    assert type(record["config"]["total_env_steps"]) is int
    assert record["heavy"] == []
    assert OmegaConf.load(run_dir / ".hydra" / "overrides.yaml") == argv
    assert {path.name for path in run_dir.iterdir()} == {".hydra", "record.json"}


def test_jobs_of_a_sweep_never_share_a_directory(start: "Starter") -> None:
    start("agent.clip_range=0.1,0.2", "-m", "memory=none,lstm")  # flags may stand anywhere
    records = start.records()
    assert len(records) == 4
    for run_dir, record in records:
        assert record["config"]["run_dir"] == str(run_dir.relative_to(start.directory))
        assert run_dir.parent.parent == start.directory / "runs" / "CartPole-v1"
    seen = {
        (r["config"]["agent"]["clip_range"], r["config"]["memory"]["_target_"]) for _, r in records
    }
    assert len(seen) == 4


def test_refusal_leaves_nothing(start: "Starter") -> None:
    for argv in (["agent.clip_rang=1"], ["-m", "seed=0,x"], ["--cfg", "job", "seed=x"]):
        finished = start(*argv, code=2)
        assert finished.stdout == ""
        assert len(finished.stderr.splitlines()) == 1
        assert "Traceback" not in finished.stderr
    assert not (start.directory / "runs").exists()


def test_showing_leaves_nothing(start: "Starter") -> None:
    assert "rollout_length: 64" in start("--cfg", "job", "agent.rollout_length=64").stdout
    resolved = start("--cfg", "job", "--resolve", "--package", "run_dir").stdout
    assert resolved.startswith("runs/CartPole-v1/ppo-mlp-none/")
    help_text = start("--help").stdout
    assert "memory: gru, gtrxl, lru, lstm, mingru, mlstm, none, rnn" in help_text
    assert "experiment=cartpole_no_velocity" in help_text
    assert "cartpole" in start("--info", "defaults").stdout
    assert {path.name for path in start.directory.iterdir()} == {"train.py"}


def test_evaluating_leaves_nothing(start: "Starter") -> None:
    assert start("evaluate", "run=runs/x").stdout == "runs/x\n"
    assert "run: missing" in start("evaluate", code=2).stderr
    assert {path.name for path in start.directory.iterdir()} == {"train.py"}


@pytest.mark.parametrize("where", ["hydra.searchpath", "package", "--config-dir"])
def test_users_package_brings_its_own_options(start: "Starter", where: str) -> None:
    package = start.directory / "my_package"
    (package / "conf" / "extractor").mkdir(parents=True)
    for folder in (package, package / "conf"):
        (folder / "__init__.py").write_text("")
    (package / "conf" / "extractor" / "mine.yaml").write_text(USER_NETWORK)
    places = {
        "hydra.searchpath": ["hydra.searchpath=[file://my_package/conf]"],
        "package": ["hydra.searchpath=[pkg://my_package.conf]"],
        "--config-dir": ["--config-dir", "my_package/conf"],
    }
    argv = [*places[where], "trusted_packages=[my_package]"]
    start(*argv, "extractor=mine", "extractor.width=9")
    ((run_dir, record),) = start.records()
    assert record["config"]["extractor"] == {"_target_": "my_package.networks.Net", "width": 9}
    assert run_dir.parent.name == "ppo-mine-none"
    assert "did you mean mine?" in start(*argv, "extractor=mien", code=2).stderr
    untrusted = start(*places[where], "extractor=mine", code=2)
    assert "trusted_packages=[my_package]" in untrusted.stderr


def test_checking_imports_nothing_heavy() -> None:
    program = (
        "import sys, conf.composing.command_line as door; door.check(['memory=lstm']);"
        "print([m for m in ('torch', 'gymnasium', 'numpy', 'tensorboard') if m in sys.modules])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "[]\n"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_training_has_ranks(rank, monkeypatch, capsys) -> None:
    for name, value in {"RANK": rank, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        launch(print, "compare")
    told = "torchrun: ranks train one run, by python train.py; start this one alone\n"
    assert end.value.code == 2
    assert capsys.readouterr().err == (told if rank == "0" else "")
