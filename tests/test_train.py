"""The commands as they are typed: what they print, leave, refuse and return."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import neurl
import train
from conf.composing.command_line import load
from envs.seeding import environment_seeds, episode_seed
from tests import commands

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "device=cpu",
    "extractor.hidden_sizes=[8]",
    "agent.rollout_length=32",
    "agent.num_epochs=1",
    "evaluation.num_envs=2",
    "evaluation.final_episodes=4",
]
USERS_NETWORKS = '''
import torch
from torch import nn

from networks.memory.memories import CellMemory


class Net(nn.Module):
    """An extractor of the user's own."""

    def __init__(self, input_shape, *, width):
        super().__init__()
        self.layer = nn.Linear(input_shape[0], width)
        self.output_size = width

    def forward(self, rows):
        return self.layer(rows).sin()


class Leaky(CellMemory):
    """A memory of the user's own: ten lines."""

    def __init__(self, input_size, *, size):
        super().__init__()
        self.output_size = self.state_size = size
        self.inner = nn.Linear(input_size, size)

    def step(self, inputs, state):
        state = 0.5 * state + torch.tanh(self.inner(inputs))
        return state, state
'''
USERS_ENVIRONMENTS = '''
import gymnasium
import numpy as np
from gymnasium.envs.registration import register


class Tiny(gymnasium.Env):
    """Spaces to choose, episodes of 5 steps; pays nan at step `broken_at`, counted over them."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, *, kind="vector", broken_at=0):
        box, text = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Text(9)
        self.observation_space = {
            "vector": box,
            "image": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8),
            "dictionary": gymnasium.spaces.Dict(goal=gymnasium.spaces.Dict(text=text)),
        }[kind]
        self.broken_at = broken_at
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        reward = np.nan if self.steps == self.broken_at else 1.0
        return self.observation_space.sample(), reward, self.steps % 5 == 0, False, {}


register("mine/Tiny-v0", entry_point=Tiny)
'''
USERS_CONFIGURATION = {
    "extractor/mine.yaml": {"_target_": "my_package.networks.Net", "width": 6},
    "memory/leaky.yaml": {"_target_": "my_package.networks.Leaky", "size": 5, "sequence_length": 0},
    "env/tiny.yaml": {
        "defaults": ["gymnasium", "_self_"],
        "id": "mine/Tiny-v0",
        "packages": ["my_package.environments"],
    },
}


class Shell:
    """Types commands in a directory of its own, beside which the user's package lies."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "runs").mkdir()  # a run that is refused late leaves it
        package = directory / "my_package"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "networks.py").write_text(USERS_NETWORKS)
        (package / "environments.py").write_text(USERS_ENVIRONMENTS)
        for name, content in USERS_CONFIGURATION.items():
            path = directory / "my_conf" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(content))

    def environment(self, **variables: str) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), str(self.directory)])
        return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", **variables}

    def __call__(
        self, script: str, *words: str, code: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        environment = self.environment(**variables)
        if "PYTHONHASHSEED" not in variables:  # which is read when Python starts
            place = {"directory": self.directory, "environment": environment}
            finished = commands.run(ROOT / script, words, **place, timeout=60)
        else:
            finished = subprocess.run(
                [sys.executable, str(ROOT / script), *words],
                cwd=self.directory,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert finished.returncode == code, finished.stdout + finished.stderr
        return finished

    def refused(self, script: str, *words: str, problems: int = 1, **variables: str) -> str:
        """Runs what must be refused; returns what was said, one line for each problem."""
        before = sorted(self.directory.rglob("*"))
        finished = self(script, *words, code=2, **variables)
        assert "Traceback" not in finished.stderr
        assert len(finished.stderr.splitlines()) == problems
        assert finished.stdout == ""
        assert sorted(self.directory.rglob("*")) == before
        return finished.stderr


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Shell:
    return Shell(tmp_path_factory.mktemp("shell"))


@pytest.fixture(scope="module")
def run(shell) -> subprocess.CompletedProcess[str]:
    """A run like a newcomer's, only smaller; it is `runs/first`."""
    words = ["total_env_steps=2000", "run_dir=runs/first", "evaluation.interval=1000"]
    return shell("train.py", *SMALL, *words, PYTHONHASHSEED="1")


@pytest.fixture
def first(run, shell) -> Path:
    return shell.directory / "runs" / "first"


def summary_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "summary.json").read_text())


def weights_of(directory: Path, name: str = "last") -> bytes:
    manifest = json.loads((directory / "checkpoints" / name / "manifest.json").read_text())
    file, _ = manifest["files"]["tensors"]
    return (directory / "checkpoints" / name / file).read_bytes()


def test_a_run_leaves_what_is_promised(first: Path) -> None:
    names = {path.name.partition(".tfevents")[0] for path in first.iterdir()}
    assert names == {".hydra", "config.yaml", "summary.json", "checkpoints", "events.out"}
    assert {path.name for path in (first / "checkpoints").iterdir()} == {"last", "best"}
    overrides = yaml.safe_load((first / ".hydra" / "overrides.yaml").read_text())
    assert "total_env_steps=2000" in overrides
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert config["total_env_steps"] == 2000
    assert config["run_dir"] == "runs/first"
    (events,) = first.glob("events.out.tfevents.*")
    tags = {
        value.tag for event in EventFileLoader(str(events)).Load() for value in event.summary.value
    }
    assert {
        "episode/return",
        "evaluation/return",
        "loss/policy",
        "gradient_norm/policy_head",
    } <= tags


def test_summary_is_the_contract(first: Path) -> None:
    summary = summary_of(first)
    assert summary["status"] == "finished"
    assert 2000 <= summary["env_steps"] < 2000 + 8 * 32
    assert summary["updates"] > 0
    assert summary["wall_seconds"] > 0
    assert summary["steps_per_second"] > 0
    assert summary["evaluation"].keys() == {
        "return_mean",
        "return_std",
        "length_mean",
        "episodes",
        "unfinished",
        "returns",
    }
    assert len(summary["evaluation"]["returns"]) == summary["evaluation"]["episodes"] == 4
    assert summary["best"].keys() == {*summary["evaluation"], "env_steps"}
    assert summary["train_return_mean"] > 0
    assert summary["parameters"]["total"] > 0
    assert summary["versions"].keys() >= {"python", "torch", "gymnasium", "numpy", "neurl"}
    assert summary["seed"] == 0


def test_the_last_lines_tell_score_and_places(run, first: Path) -> None:
    assert run.stderr == ""
    table = dict(line.split(maxsplit=1) for line in run.stdout.splitlines()[-7:])
    summary = summary_of(first)
    assert table["status"].startswith(f"finished after {summary['env_steps']:,} steps")
    assert f"{summary['evaluation']['return_mean']:.2f}" in table["evaluation"]
    assert table["run"] == "runs/first"
    assert table["curves"] == "tensorboard --logdir runs"  # which names the run "first"
    assert table["evaluate"] == "python evaluate.py run=runs/first"
    assert "steps/s" in table["training"]


def test_evaluating_agrees_with_a_loop_of_ones_own(shell, first: Path) -> None:
    words = ["run=runs/first", "evaluation.episodes=6", "evaluation.num_envs=3"]
    before = sorted(shell.directory.rglob("*"))
    line, spread = shell("evaluate.py", *words).stdout.splitlines()
    assert sorted(shell.directory.rglob("*")) == before
    policy = neurl.load(first)
    returns: list[float] = []
    for seed in environment_seeds(0, 3, purpose="evaluation", index=0):
        (environment,) = policy.environments(num_envs=1).envs
        for episode in range(2):
            observation, _ = environment.reset(seed=episode_seed(seed, episode))
            policy.reset()
            total, ended = 0.0, False
            while not ended:
                observation, reward, terminated, truncated, _ = environment.step(
                    policy.predict(observation)
                )
                total, ended = total + float(reward), terminated or truncated
            returns.append(total)
        environment.close()
    assert line.startswith(f"{sum(returns) / 6:.2f} +- ")
    assert line.endswith("over 6 episodes")
    assert spread == (
        f"median {median(returns):.2f}, from {min(returns):.2f} to {max(returns):.2f}; "
        f"{sum(returns) / 6:.1f} steps per episode"
    )


def test_a_video_of_a_run_is_where_it_is_said_to_be(shell, first: Path) -> None:
    pytest.importorskip("pygame")
    words = ["run=runs/first", "evaluation.episodes=1", "video=true"]
    finished = shell("evaluate.py", *words)
    *_, line = finished.stdout.splitlines()
    path, _, seen = line.partition(" ")
    assert path == f"runs/first/videos/last-{summary_of(first)['env_steps']}.gif"
    assert (shell.directory / path).read_bytes()[:6] == b"GIF89a"
    assert seen.startswith("(return ")
    assert finished.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is a display")
def test_a_window_without_a_display_is_refused_in_one_line(shell, first: Path) -> None:
    displays = dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"), "")
    line = shell.refused("evaluate.py", "run=runs/first", "render_mode=human", **displays)
    assert line.startswith("render_mode=human: there is no display")


def test_the_same_seed_gives_the_same_bits_in_another_process(shell, first: Path) -> None:
    again = shell.directory / "ein Ort, é" / "again"  # an odd place is none to worry about
    words = ["total_env_steps=2000", f"run_dir='{again}'", "evaluation.interval=1000"]
    shell("train.py", *SMALL, *words, PYTHONHASHSEED="2")
    for name in ("evaluation", "best", "env_steps", "updates", "train_return_mean"):
        assert summary_of(again)[name] == summary_of(first)[name]
    for name in ("last", "best"):
        assert weights_of(again, name) == weights_of(first, name)


REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "unknown environment": (["env.id=CartPool-v1"], ["env.id=CartPool-v1", "CartPole-v1"]),
    "unknown argument": (["+env.kwargs.gravity=1"], ["env.kwargs.gravity", "CartPole-v1"]),
    "missing package": (["env.packages=[not_there]"], ["env.packages", "not_there"]),
    "image": (
        [
            "env.id=mine/Tiny-v0",
            "env.packages=[my_package.environments]",
            "+env.kwargs.kind=image",
            "extractor=nature_cnn",
        ],
        ["extractor.layers[1]", "kernel of 4x4", "input of 1x1", "images of 8x8", "extractor=cnn"],
    ),
    "dictionary": (
        [
            "env.id=mine/Tiny-v0",
            "env.packages=[my_package.environments]",
            "+env.kwargs.kind=dictionary",
        ],
        ["env.id=mine/Tiny-v0", "goal/text", "Text"],
    ),
    "device": (["device=cuda:63"], ["device=cuda:63", "device=cpu"]),
    "wrapper": (
        ["env.wrappers=[{_target_: gymnasium.wrappers.FlattenObservations}]"],
        ["env.wrappers", "FlattenObservations"],
    ),
    "argument of a wrapper": (
        ["env.wrappers=[{_target_: gymnasium.wrappers.TimeLimit, max_steps: 3}]"],
        ["env.wrappers[0]", "max_steps"],
    ),
    "argument of a network": (
        [
            "--config-dir=my_conf",
            "trusted_packages=[my_package]",
            "extractor=mine",
            "+extractor.x=1",
        ],
        ["my_package.networks.Net", "x"],
    ),
    "missing class": (
        ["trusted_packages=[my_package]", "extractor._target_=my_package.networks.Nett"],
        ["my_package.networks.Nett"],
    ),
    "untrusted": (
        ["--config-dir=my_conf", "extractor=mine"],
        ["my_package.networks.Net", "trusted_packages=[my_package]"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_in_one_line(shell, case: str) -> None:
    words, expected = REFUSED[case]
    line = shell.refused("train.py", f"run_dir=runs/{case.replace(' ', '-')}", *words)
    for word in expected:
        assert word in line


def test_a_sweep_gives_each_job_a_directory(shell) -> None:
    words = ["total_env_steps=100", "-m", "seed=0,1", "evaluation.final_episodes=2"]
    printed = shell("train.py", *words, *(word for word in SMALL if "final" not in word)).stdout
    runs = sorted((shell.directory / "runs" / "CartPole-v1").rglob("summary.json"))
    assert [summary_of(path.parent)["seed"] for path in runs] == [0, 1]
    assert {path.parent.parent.name for path in runs} == {"ppo-mlp-none"}
    title, *rows = (line.split() for line in printed.partition("2 jobs:\n")[2].splitlines())
    assert title == ["score", "overrides", "run"]
    scores = [
        summary_of(Path(shell.directory, row[-1]))["evaluation"]["return_mean"] for row in rows
    ]
    assert scores == sorted(scores, reverse=True)
    assert [row[0] for row in rows] == [f"{score:.2f}" for score in scores]
    assert {row[1] for row in rows} == {"seed=0", "seed=1"}


def test_a_job_that_breaks_does_not_harm_the_others(shell) -> None:
    words = [word for word in SMALL if "env.id" not in word]
    sweep = ["-m", "env.id=Nope-v1,Acrobot-v1", "total_env_steps=50"]
    finished = shell("train.py", *words, *sweep, code=1)
    assert "env.id=Nope-v1: no such environment" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert list((shell.directory / "runs" / "Acrobot-v1").rglob("summary.json"))
    assert not list((shell.directory / "runs" / "Nope-v1").rglob("*seed*"))


def test_interrupting_saves_and_says_so(shell) -> None:
    words = ["total_env_steps=1e8", "run_dir=runs/interrupted", "evaluation.interval=1000"]
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "train.py"), *SMALL, *words],
        cwd=shell.directory,
        env=shell.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if "steps/s" in line:  # it trains
                break
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    summary = summary_of(shell.directory / "runs" / "interrupted")
    assert summary["status"] == "interrupted"
    assert errors == f"interrupted; saved at {summary['env_steps']:,} steps\n"
    assert "python train.py resume=runs/interrupted" in printed
    assert "evaluate.py run=runs/interrupted" in printed
    assert neurl.load(shell.directory / "runs" / "interrupted") is not None


def test_a_users_own_parts_work_from_end_to_end(shell, monkeypatch) -> None:
    words = [
        "--config-dir=my_conf",
        "trusted_packages=[my_package]",
        "extractor=mine",
        "memory=leaky",
        "env=tiny",
        "total_env_steps=300",
        "run_dir=runs/mine",
    ]
    shell("train.py", *words, *(word for word in SMALL if "hidden_sizes" not in word))
    run = shell.directory / "runs" / "mine"
    parameters = summary_of(run)["parameters"]
    assert parameters["actor.memory"] == parameters["critic.memory"] == 6 * 5 + 5
    evaluated = ["run=runs/mine", "evaluation.episodes=2"]
    shell("evaluate.py", *evaluated, "trusted_packages=[my_package]")
    lines = shell.refused("evaluate.py", *evaluated, problems=2)
    assert lines.count("trusted_packages=[my_package]") == 2  # extractor and memory
    monkeypatch.syspath_prepend(str(shell.directory))
    policy = neurl.load(run, trusted_packages=["my_package"])
    assert policy.agent.initial_state(3).shape == (3, 5)
    with pytest.raises(ValueError, match="trusted_packages"):
        neurl.load(run)


def test_a_bad_number_ends_the_run_in_one_line(shell) -> None:
    words = ["--config-dir=my_conf", "trusted_packages=[my_package]", "env=tiny"]
    finished = shell(
        "train.py", *SMALL, *words, "+env.kwargs.broken_at=20", "run_dir=runs/nan", code=1
    )
    (line,) = finished.stderr.splitlines()
    assert "the reward is not finite (nan)" in line
    assert "runs/nan" in line
    assert summary_of(shell.directory / "runs" / "nan")["status"] == "failed"


def test_evaluating_executes_nothing_that_a_run_directory_holds(shell, first: Path) -> None:
    forged = shell.directory / "runs" / "forged"
    forged.mkdir()
    (forged / "checkpoints").symlink_to(first / "checkpoints")
    config = yaml.safe_load((first / "config.yaml").read_text())
    config["extractor"] = {"_target_": "os.system", "command": "touch canary"}
    config["env"]["wrappers"] = [{"_target_": "subprocess.run", "args": ["touch", "canary"]}]
    config["trusted_packages"] = ["os", "subprocess"]
    (forged / "config.yaml").write_text(yaml.safe_dump(config))
    finished = shell("evaluate.py", "run=runs/forged", code=2)
    assert "os.system" in finished.stderr
    assert "Traceback" not in finished.stderr
    with pytest.raises(ValueError, match=r"os\.system"):
        neurl.load(forged)
    assert not list(shell.directory.rglob("canary"))


def test_a_directory_with_a_checkpoint_is_not_trained_over(shell, first: Path) -> None:
    before = weights_of(first), (first / "config.yaml").read_bytes()
    line = shell.refused("train.py", *SMALL, "total_env_steps=100", "run_dir=runs/first")
    assert "runs/first" in line
    assert (weights_of(first), (first / "config.yaml").read_bytes()) == before


def test_a_place_that_cannot_be_written_is_refused_in_one_line(shell) -> None:
    (shell.directory / "file").write_text("")
    line = shell.refused("train.py", *SMALL, "total_env_steps=100", "run_dir=file/run")
    assert "file/run" in line
    if Path("/proc/self").exists():  # root may write there, says its mode
        assert shell.refused("train.py", *SMALL, "run_dir=/proc/x").startswith("run_dir: /proc/x")


ONE_OF_A_KIND = """
import gymnasium

class Engine(gymnasium.Env):
    living = 0
    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))

    def __init__(self):
        if Engine.living:
            raise OSError("port in use")
        Engine.living = 1

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        import threading, time
        if self.__dict__.setdefault("simulator", None) is None:  # never ends
            self.simulator = threading.Thread(target=time.sleep, args=(3600,))
            self.simulator.start()
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 5, False, {}

    def close(self):
        Engine.living = 0

gymnasium.register("Engine-v0", Engine)
"""


def test_an_environment_of_which_there_is_one_trains_though_its_threads_go_on(shell) -> None:
    (shell.directory / "engines.py").write_text(ONE_OF_A_KIND)
    words = ["env.packages=[engines]", "env.id=Engine-v0", "total_env_steps=64"]
    one = ["run_dir=engine", "env.num_envs=1", "agent.num_minibatches=1", "agent.rollout_length=32"]
    line = shell.refused("train.py", *words, *one, "evaluation.num_envs=1")
    assert "evaluation.interval=0" in line
    ended = shell("train.py", *words, *one, "evaluation.num_envs=1", "evaluation.interval=0")
    assert ended.returncode == 0
    assert "5.00 +- 0.00" in ended.stdout
    assert "1 of the environment's threads" in ended.stderr


def test_train_returns_the_score_to_sweepers(tmp_path: Path, capsys) -> None:
    words = [*SMALL, "total_env_steps=64", f"run_dir={tmp_path}", "tracking=none"]
    assert train.train(load(words)) == summary_of(tmp_path)["evaluation"]["return_mean"]
    assert "evaluate.py" in capsys.readouterr().out
