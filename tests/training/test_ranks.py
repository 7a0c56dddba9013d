"""Two ranks are one run: the same gradients, statistics, counters and, resumed, the same end."""

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import neurl
from conf.checking.refusals import InvalidConfiguration
from conf.composing.command_line import load
from envs.seeding import environment_seeds
from networks import ranks
from tests import commands
from tests.training import two_ranks
from training.building.build import build_agent_for
from training.building.environments import build_environments
from training.runs.ranks import begin, meet, one_of_several
from training.runs.refusal import Refusal
from training.runs.session import train_run
from training.saving.checkpoint import (
    files_of,
    load_checkpoint,
    older_manifests,
    read_manifest,
    roll_back,
)
from training.stream.collect import own_seeds

SCRIPT = Path(two_ranks.__file__)
Train = Callable[..., CompletedProcess[str]]
PPO = ["agent.rollout_length=16", "agent.num_minibatches=2", "agent.num_epochs=2"]
REPLAY = [
    "agent.train_frequency=4",
    "agent.learning_starts=64",
    "agent.batch_size=8",
    "agent.buffer_size=256",
    "agent.prioritized=true",
]
SMALL = [
    "device=cpu",
    "env.num_envs=4",
    "total_env_steps=512",
    "evaluation.interval=256",
    "evaluation.episodes=1",
    "evaluation.num_envs=1",
    "evaluation.final_episodes=1",
    "checkpoint.interval=128",
    "tracking.progress=false",
    "normalize_observations=true",
    "normalize_rewards=true",
]


@pytest.fixture
def two(tmp_path: Path) -> Train:
    """Run two ranks; with words they train."""

    def run(*words: str, code: int = 0) -> CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(commands.ROOT)}
        given = {"directory": tmp_path, "environment": environment, "timeout": 120.0}
        result = commands.run(SCRIPT, words, **given)
        assert result.returncode == code, result.stdout + result.stderr
        return result

    return run


def test_two_ranks_take_the_steps_of_one(two: Train) -> None:
    lines = [json.loads(line) for line in two().stdout.splitlines()]
    assert sorted(line["rank"]["is"] for line in lines) == [0, 1]
    for found in lines:
        assert found["rank"]["sum"] == 3
        assert found["text"]["is_shared"]
        assert found["statistics"]["distance"] < 1e-12
        for name in two_ranks.CASES:
            told = found[name]
            assert told["is_shared"], name
            assert told["distance"] < 1e-5, name
            assert told["tags"] > 5
            assert told["metrics"] < 1e-4, name


def contents(run: Path) -> list[list[str]]:
    """Name the tensors and chunks of both parts of a run's last checkpoint, by their content."""
    found = []
    for part in (run, run / "ranks/1"):
        manifest = read_manifest(part / "checkpoints/last/manifest.json")
        found.append([name for name in files_of(manifest) if not name.startswith("state")])
    return found


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([*PPO, "memory=gru", "memory.hidden_size=8"], id="ppo"),
        pytest.param(["agent=dqn", *REPLAY], id="dqn", marks=pytest.mark.slow),
        pytest.param(["agent=sac", *REPLAY], id="sac", marks=pytest.mark.slow),
    ],
)
def test_a_run_of_two_ranks_resumes_exactly(
    two: Train, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    two(*SMALL, *words, f"run_dir={whole}")
    shutil.copytree(whole, killed)
    # After the other rank had saved its part of the last checkpoint, and before the first one did.
    place = killed / "checkpoints/last"
    assert roll_back(place, older_manifests(place, before=10**6)[1]["step"])
    (killed / "summary.json").unlink()
    two(f"resume={killed}")
    assert contents(killed) == contents(whole)

    summary = json.loads((whole / "summary.json").read_text())
    assert (summary["status"], summary["resumes"]) == ("finished", 0)
    assert summary["env_steps"] >= 512
    assert summary["updates"] > 0
    parts = whole, whole / "ranks/1"
    (own, state), (other, its) = (load_checkpoint(part / "checkpoints/last") for part in parts)
    assert state["generator"] != its["generator"]
    assert state["collector"]["environments"] != its["collector"]["environments"]
    of_each = ("agent.learner.", "collector.", "experience.")
    shared = [name for name in own if not name.startswith(of_each)]
    assert not [name for name in shared if not own[name].equal(other[name])]

    config = load([f"resume={whole}", "total_env_steps=1024"])
    with pytest.raises(Refusal, match=r"the run has 2 ranks .*, here are 1: torchrun starts them"):
        train_run(config, build_environments(config, num_envs=4))
    (whole / "ranks" / ".DS_Store").touch()  # is no rank's
    with monkeypatch.context() as patch:  # its four environments are no multiple of three either
        patch.setattr(ranks, "_place", [0, 3])
        with pytest.raises(InvalidConfiguration, match="the run has 2 ranks, here are 3"):
            begin(config)
    assert neurl.load(whole).predict([0.0, 0.0, 0.0, 0.0]) in (0, 1)
    assert [path.name for path in (whole / "ranks/1").iterdir()] == ["checkpoints"]


def test_a_sweep_is_refused_and_nothing_hangs(two: Train) -> None:
    told = two(*SMALL, *PPO, "seed=0,1", "-m", code=1).stderr
    assert "several ranks train one run; start torchrun once for each" in told
    assert "rollout_length" in two("--cfg", "job").stdout


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the first of two ranks, for what comes before they meet."""
    monkeypatch.setattr(ranks, "_place", [0, 2])


@pytest.mark.parametrize(
    ("address", "why"),
    [(None, "MASTER_ADDR expected"), ("taken", "EADDRINUSE"), ("alone", "1/2 clients joined")],
)
def test_ranks_that_cannot_meet_say_why(
    address: str | None,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setattr(ranks, "_MEETING", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        if address == "alone":  # the port is free, and nobody comes
            other.close()
        meeting = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
        for name, value in (meeting | ({"MASTER_ADDR": "127.0.0.1"} if address else {})).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            one_of_several(lambda: None)
    assert ended.value.code == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("the ranks cannot meet; torchrun starts them: ")
    assert why in told


REFUSED = {
    "env.num_envs=5": "env.num_envs: expected a multiple of 2, the number of ranks, got 5",
    "compile=true": "compile: expected false, because ranks average gradients",
    "extractor=autoencoder": "extractor.pretrain.frames: one process pre-trains; train",
    "agent.num_minibatches=16": "agent.num_minibatches: 16 does not divide 8 sequences",
}


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize("word", REFUSED)
def test_what_ranks_cannot_do_is_refused(word: str) -> None:
    pretrained = ["extractor.pretrain.frames=512"] if "autoencoder" in word else []
    rollout = ["agent.rollout_length=4"] if "minibatches" in word else []
    own = [] if "num_envs" in word else ["env.num_envs=4"]
    with pytest.raises(InvalidConfiguration, match=re.escape(REFUSED[word])):
        begin(load([*own, *rollout, *pretrained, word]))


@pytest.mark.usefixtures("pair")
def test_networks_with_statistics_of_minibatches_are_refused() -> None:
    words = ["agent=sac", "env=pendulum", "env.num_envs=2", "agent.target_networks=false"]
    config = load([*words, "value_head.normalization=batch_renorm"])
    environments = build_environments(config, num_envs=1)
    with pytest.raises(ValueError, match=r"BatchRenorm normalises by a minibatch, of which each"):
        meet(build_agent_for(config, environments), None)
    environments.close()


@pytest.mark.usefixtures("pair")
def test_environments_of_ranks_have_seeds_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = own_seeds(5, 3, purpose="train", index=0)
    monkeypatch.setattr(ranks, "_place", [1, 2])
    seeds += own_seeds(5, 3, purpose="train", index=0)
    assert seeds == environment_seeds(5, 6, purpose="train")
    assert len(set(seeds)) == 6
