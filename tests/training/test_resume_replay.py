"""Runs that learn from a replay go on bit for bit, whatever of it is on the disk."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import neurl
from tests.training.endings import Killed, assert_same
from training.checkpoint import load_checkpoint, open_checkpoint, part_of
from training.refusal import Refusal
from training.restore import load_agent

RUN = [
    "agent=dqn",
    "total_env_steps=320",
    "tracking.interval=1",
    "evaluation.interval=150",
    "checkpoint.interval=64",
    "optimizer.learning_rate=0.01",
    "optimizer.schedule=linear",
    "agent.target_update_interval=7",
]
LSTM = ["memory=lstm", "memory.hidden_size=4", "memory.sequence_length=6", "agent.batch_size=4"]
CASES = {
    "uniform": ["agent.double_q=true", "agent.polyak_rate=0.3", "agent.replay_ratio=0.3"],
    "prioritised": ["agent.prioritized=true", "agent.n_step=3", "agent.dueling=true"],
    "prioritised lstm": [*LSTM, "agent.prioritized=true", "agent.burn_in=2", "agent.n_step=2"],
    "stacks, normalised": [
        "env.frame_stack=3",
        "agent.noisy=true",
        "normalize_observations=true",
        "normalize_rewards=true",
        "value_head=hl_gauss",
    ],
}
ROWS = 96 // 2
"""Steps of each environment that are held; a run has 160 of them."""


@pytest.fixture(autouse=True, scope="module")
def fast() -> Iterator[None]:
    """No power fails here: what a disk must have seen, and when, is another test's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


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


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_died_twice_is_the_run_that_did_not(
    case, undisturbed, train, go_on, kill, tmp_path
) -> None:
    """Once while the ring fills, once after it went round."""
    directory = tmp_path / "run"
    kill(12)
    with pytest.raises(Killed):
        train(*RUN, *CASES[case], directory=directory)
    assert 40 < held(directory)["state"]["cursor"] * 2 < 96
    kill(20)
    with pytest.raises(Killed):
        go_on(directory)
    assert held(directory)["state"]["cursor"] > 2 * ROWS - 4
    kill(0)
    assert_same(go_on(directory), undisturbed(case))


def test_a_run_that_goes_on_has_the_same_replay_on_the_disk(
    undisturbed, train, go_on, kill, tmp_path
) -> None:
    kill(30)
    with pytest.raises(Killed):
        train(*RUN, *CASES["prioritised lstm"], directory=tmp_path / "run")
    kill(0)
    go_on(tmp_path / "run")
    ours, theirs = held(tmp_path / "run"), held(undisturbed("prioritised lstm").directory)
    assert ours["state"] == theirs["state"]
    assert ours["tensors"].keys() == theirs["tensors"].keys()
    for name in part_of(theirs["tensors"], "experience"):
        name = f"experience.{name}"
        assert torch.equal(ours["tensors"][name], theirs["tensors"][name]), name
    rows = [
        {
            int(row): tensor
            for chunk in each["chunks"].values()
            for row, tensor in zip(
                range(int(chunk["row"]), int(chunk["row"]) + len(chunk["rewards"])),
                chunk["rewards"],
                strict=True,
            )
        }
        for each in (ours, theirs)
    ]
    common = rows[0].keys() & rows[1].keys()
    assert len(common) > ROWS
    assert all(torch.equal(rows[0][row], rows[1][row]) for row in common)


def test_going_on_writes_nothing_again(undisturbed, go_on, tmp_path, monkeypatch) -> None:
    shutil.copytree(undisturbed("uniform").directory, tmp_path / "run")
    before = {p.name: p.stat().st_mtime_ns for p in last(tmp_path / "run").glob("chunk-steps*")}
    assert len(before) > 5
    go_on(tmp_path / "run", "total_env_steps=360")
    after = {p.name: p.stat().st_mtime_ns for p in last(tmp_path / "run").glob("chunk-steps*")}
    stayed = before.keys() & after.keys()
    assert len(stayed) > len(before) // 2
    assert all(after[name] == before[name] for name in stayed)
    assert not [name for name in after if name.count("-") > 3]  # no second version of any


def test_damaged_experience_falls_back_or_is_told(
    undisturbed, train, go_on, kill, tmp_path
) -> None:
    kill(36)
    with pytest.raises(Killed):
        train(*RUN, *CASES["prioritised"], directory=tmp_path / "run")
    kill(0)
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    manifests = [json.loads(path.read_text()) for path in last(tmp_path / "run").glob("manifest*")]
    newest, older = sorted(manifests, key=lambda manifest: -manifest["step"])
    own = newest["chunks"].keys() - older["chunks"].keys()
    shared = newest["chunks"].keys() & older["chunks"].keys()
    (last(tmp_path / "run") / newest["chunks"][min(own)]["file"]).write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="the one before it is used"):
        run = go_on(tmp_path / "run")
    assert_same(run, undisturbed("prioritised"))

    (last(tmp_path / "other") / newest["chunks"][min(shared)]["file"]).unlink()
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
    words = [f"init_from={directory}", "total_env_steps=40"]
    started = train("agent=dqn", *CASES["uniform"], *words)
    assert started.summary["status"] == "finished"


def test_what_more_steps_do_to_exploration_is_said(undisturbed, go_on, tmp_path, capsys) -> None:
    shutil.copytree(undisturbed("prioritised").directory, tmp_path / "run")
    go_on(tmp_path / "run", "total_env_steps=328")
    said = "agent.epsilon, agent.importance_exponent, optimizer.schedule"
    assert f"schedules end there now: {said}" in capsys.readouterr().out
