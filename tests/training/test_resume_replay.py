"""Runs that learn from a replay go on bit for bit, whatever of it is on the disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import neurl
from tests.doors import MASKED
from tests.training.endings import Killed, assert_same
from training.evaluation.restore import load_agent
from training.runs.refusal import Refusal
from training.saving.checkpoint import load_checkpoint, open_checkpoint

RUN = [
    "total_env_steps=240",
    "tracking.interval=1",
    "evaluation.interval=100",
    "checkpoint.interval=48",
    "optimizer.learning_rate=0.01",
    "optimizer.schedule=linear",
    "agent.buffer_size=72",
]
LSTM = ["memory=lstm", "memory.hidden_size=4", "memory.sequence_length=6", "agent.batch_size=4"]
CASES = {
    "uniform": [
        "agent=dqn",
        "agent.double_q=true",
        "agent.polyak_rate=0.3",
        "agent.replay_ratio=0.3",
    ],
    "prioritised lstm": [
        "agent=dqn",
        *LSTM,
        "agent.target_update_interval=28",
        "agent.prioritized=true",
        "agent.burn_in=2",
        "agent.n_step=2",
    ],
    "uniform gtrxl": [
        "agent=dqn",
        "memory=gtrxl",
        "memory.hidden_size=4",
        "memory.window=3",
        "memory.sequence_length=6",
        "agent.batch_size=4",
    ],
    "td3": [
        "agent=td3",
        "agent.replay_ratio=0.25",
        "env.id=Pendulum-v1",
        "env.time_limit=9",
        "agent.policy_delay=3",
        "agent.learning_starts=70",
        "extractor=mlp",
        "value_head=hl_gauss",
    ],
    "sac lstm": [
        *LSTM,
        "agent=sac",
        "agent.replay_ratio=0.25",
        "env.id=Pendulum-v1",
        "env.time_limit=9",
        "agent.burn_in=2",
        "agent.learning_starts=70",
        "extractor=mlp",
        "policy_head.hidden_sizes=[4]",
        "value_head.hidden_sizes=[4]",
    ],
    "sac without target networks": [
        "agent=sac",
        "agent.replay_ratio=0.25",
        "env.id=Pendulum-v1",
        "env.time_limit=9",
        "agent.learning_starts=70",
        "agent.target_networks=false",
        "extractor=mlp",
        "agent.policy_delay=2",
        "agent.num_critics=3",
        "agent.critic_subset=2",
        "policy_head.hidden_sizes=[4]",
        "policy_head.normalization=batch_renorm",
        "value_head.hidden_sizes=[4]",
        "value_head.normalization=batch_renorm",
        "policy_head.dropout=0.1",
    ],
    "prioritised stacks": [
        "agent=dqn",
        "agent.target_update_interval=28",
        "env.frame_stack=3",
        "agent.prioritized=true",
        "agent.n_step=3",
        "agent.dueling=true",
        "agent.noisy=true",
        "normalize_observations=true",
        "normalize_rewards=true",
        "value_head=hl_gauss",
    ],
    "masked stacks": [*MASKED, "agent=dqn", "env.frame_stack=2", "agent.double_q=true"],
}
ROWS = 72 // 2
"""Steps of each environment that are held; a run has 120 of them."""


@pytest.fixture(scope="module")
def undisturbed(train) -> Callable[[str], Any]:
    known: dict[str, Any] = {}

    def look_up(case: str) -> Any:
        if case not in known:
            known[case] = train(*RUN, *CASES[case])
        return known[case]

    return look_up


def last(run: Path) -> Path:
    return run / "checkpoints" / "last"


def held(run: Path) -> dict[str, Any]:
    """Every number of the replay that a run has on the disk, in one."""
    opened = open_checkpoint(last(run))
    chunks = {name: opened.chunks[name] for name in opened.chunks}
    return {"state": opened.state["experience"], "chunks": chunks, "tensors": opened.tensors}


def rewards(replay: dict[str, Any]) -> dict[int, torch.Tensor]:
    """Of each step that is on the disk, whatever the chunks are that it lies in."""
    found = {}
    for chunk in replay["chunks"].values():
        first = int(chunk["row"])
        found |= {first + ahead: row for ahead, row in enumerate(chunk["rewards"])}
    return found


@pytest.mark.parametrize(
    "case",
    [
        "prioritised lstm",
        "sac lstm",
        "sac without target networks",
        "uniform gtrxl",
        pytest.param("td3", marks=pytest.mark.slow),
        pytest.param("uniform", marks=pytest.mark.slow),
        pytest.param("prioritised stacks", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_died_twice_is_the_run_that_did_not(
    case, undisturbed, train, go_on, kill, tmp_path
) -> None:
    """Once while the ring fills, once after it went round."""
    directory = tmp_path / "run"
    kill(8)
    with pytest.raises(Killed):
        train(*RUN, *CASES[case], directory=directory)
    assert 40 < held(directory)["state"]["cursor"] * 2 < 72
    kill(14)
    with pytest.raises(Killed):
        go_on(directory)
    assert held(directory)["state"]["cursor"] > 2 * ROWS
    kill(0)
    assert_same(go_on(directory), undisturbed(case))
    ours, theirs = held(directory), held(undisturbed(case).directory)
    assert ours["state"] == theirs["state"]
    cursor = ours["state"]["cursor"]
    assert rewards(ours).keys() >= set(range(cursor - ROWS, cursor))
    for row, reward in rewards(ours).items():
        assert torch.equal(reward, rewards(theirs).get(row, reward)), row


def test_going_on_writes_nothing_again(undisturbed, go_on, tmp_path, monkeypatch) -> None:
    shutil.copytree(undisturbed("uniform").directory, tmp_path / "run")
    before = {p.name: p.stat().st_mtime_ns for p in last(tmp_path / "run").glob("chunk-steps*")}
    assert len(before) > 5
    go_on(tmp_path / "run", "total_env_steps=264")
    after = {p.name: p.stat().st_mtime_ns for p in last(tmp_path / "run").glob("chunk-steps*")}
    stayed = before.keys() & after.keys()
    assert len(stayed) > len(before) // 2
    assert all(after[name] == before[name] for name in stayed)
    assert len({name.rpartition("-")[0] for name in after}) == len(after)  # no second version


def test_damaged_experience_falls_back_or_is_told(undisturbed, go_on, tmp_path) -> None:
    for name in ("run", "other"):
        shutil.copytree(undisturbed("uniform").directory, tmp_path / name)
    manifests = [json.loads(path.read_text()) for path in last(tmp_path / "run").glob("manifest*")]
    newest, older = sorted(manifests, key=lambda manifest: -manifest["step"])
    own = newest["chunks"].keys() - older["chunks"].keys()
    shared = newest["chunks"].keys() & older["chunks"].keys()
    (last(tmp_path / "run") / newest["chunks"][min(own)][0]).write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="the one before it is used"):
        run = go_on(tmp_path / "run")
    assert_same(run, undisturbed("uniform"))

    (last(tmp_path / "other") / newest["chunks"][min(shared)][0]).unlink()
    with pytest.raises(Refusal, match=r"none of the 2 checkpoints there is whole.*init_from=") as e:
        go_on(tmp_path / "other")
    assert e.value.exit_code == 2


def test_weights_need_no_experience(undisturbed, train, tmp_path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(undisturbed("uniform").directory, directory)
    assert not list((directory / "checkpoints" / "best").glob("chunk-*"))
    _, best = load_checkpoint(directory / "checkpoints" / "best")
    assert "experience" not in best
    for path in last(directory).glob("chunk-*"):
        path.unlink()
    neurl.load(directory).predict(torch.zeros(4).numpy())
    _, agent = load_agent(directory, checkpoint="last", device="cpu", trusted_packages=[])
    assert agent.experience().num_steps == 0
    words = [f"init_from={directory}", "total_env_steps=56"]
    started = train(*CASES["uniform"], *words)
    assert started.summary["status"] == "finished"


def test_what_more_steps_do_to_exploration_is_said(undisturbed, go_on, tmp_path, capsys) -> None:
    shutil.copytree(undisturbed("prioritised lstm").directory, tmp_path / "run")
    go_on(tmp_path / "run", "total_env_steps=248")
    said = "agent.epsilon, agent.importance_exponent, optimizer.schedule"
    assert f"schedules end there now: {said}" in capsys.readouterr().out
