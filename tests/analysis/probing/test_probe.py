"""Probes of agents: what is hidden, what is read where, and how far back a policy looks."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import compare
import neurl
from analysis.probing import showing
from analysis.probing.probe import Probe, probe_run, represent
from analysis.probing.recording import Recording, record
from analysis.probing.sensitivity import sensitivity
from analysis.probing.showing import describe, write
from analysis.runs import read_run
from conf.composing.command_line import load
from training.building.environments import build_environments
from training.runs.refusal import Refusal
from training.runs.session import train_run

ROOT = Path(__file__).resolve().parents[3]
MASKED = ["env.id=CartPole-v1", "pomdp=mask_velocity", "env.num_envs=4"]


def built(*words: str):
    policy = neurl.build(*words)
    return policy, policy.environments(4)


def recorded(*words: str, steps: int = 60) -> tuple[Recording, neurl.Policy]:
    policy, environments = built(*words)
    recording = record(policy.agent, environments, steps=steps, seed=1, deterministic=False)
    environments.close()
    return recording, policy


def test_targets_are_what_the_mask_hides() -> None:
    recording, _ = recorded(*MASKED)
    assert [target.name for target in recording.targets] == ["observation[1]", "observation[3]"]
    assert recording.observations.shape == (60, 4, 4)
    assert not recording.observations[:, :, [1, 3]].any()
    # The hidden velocity is the simulator's, at the same step: position moves by 0.02 of it.
    position, velocity = recording.observations[:, :, 0], recording.targets[0].values
    inside = ~recording.is_first[1:]
    moved = (position[1:] - position[:-1])[inside]
    torch.testing.assert_close(
        moved, torch.from_numpy(0.02 * velocity[:-1])[inside], atol=1e-5, rtol=0
    )


def test_an_episode_begins_where_the_environment_was_reset() -> None:
    recording, _ = recorded(*MASKED)
    assert recording.is_first[0].all()
    assert recording.is_first[1:].any()
    fresh = recording.observations[recording.is_first]
    assert fresh.abs().max() <= 0.05  # CartPole's starts


def test_a_choice_is_counted_from_zero() -> None:
    recording, _ = recorded("env.id=neurl/TMaze-v0", "env.num_envs=4")
    (goal,) = (target for target in recording.targets if target.name == "hidden")
    assert goal.classes == 2
    assert set(np.unique(goal.values)) == {0.0, 1.0}


def test_nothing_hidden_is_refused() -> None:
    policy, environments = built("env.id=CartPole-v1", "env.num_envs=4")
    with pytest.raises(ValueError, match="nothing is hidden"):
        record(policy.agent, environments, steps=8, seed=1, deterministic=False)
    environments.close()


def test_states_are_those_that_acting_has() -> None:
    recording, policy = recorded(*MASKED, "memory=gru")
    _, states = represent(policy.agent, recording)
    state = policy.agent.initial_state(4)
    for t in range(20):
        seen, first = recording.observations[t].numpy(), recording.is_first[t].numpy()
        _, state = policy.agent.act(seen, state, first, explore=False)
        np.testing.assert_allclose(states[t + 1].numpy(), state, atol=1e-5)


def test_without_memory_a_policy_looks_at_the_present_alone() -> None:
    recording, policy = recorded(*MASKED)
    _, states = represent(policy.agent, recording)
    looks = sensitivity(policy.agent, recording, states, reach=5, seed=0)
    assert looks.shape == (6,)
    assert looks[0] > 0
    assert not looks[1:].any()


def test_sensitivity_is_the_jacobians_norm() -> None:
    recording, policy = recorded(*MASKED, "memory=rnn", "extractor=flatten", "policy_head.gain=1")
    agent = policy.agent
    _, states = represent(agent, recording)
    looks = sensitivity(agent, recording, states, reach=3, seed=0)

    def policy_at(window, state, first) -> torch.Tensor:
        summary, _ = agent.actor(window[:, None], state[None], first[:, None])
        return agent.policy_head(summary[-1, 0]).log_probabilities

    norms: list[list[float]] = [[], [], [], []]
    for t in range(3, 60):
        for column in range(4):
            window, first = (
                part[t - 3 : t + 1, column] for part in (recording.observations, recording.is_first)
            )
            state = states[t - 3, column]
            jacobian = torch.autograd.functional.jacobian(
                lambda rows, s=state, f=first: policy_at(rows, s, f), window
            )
            for k in range(4):
                if k == 0 or not first[4 - k :].any():
                    norms[k].append(float(jacobian[:, 3 - k].norm()))
    expected = [float(np.mean(each)) for each in norms]
    np.testing.assert_allclose(looks, expected, rtol=0.35)  # by 256 random signs
    assert looks[0] > looks[1] > looks[2] > 0


def test_sensitivity_ends_where_an_episode_begins() -> None:
    recording, policy = recorded(*MASKED, "memory=gru")
    every = torch.ones_like(recording.is_first)
    cut = Recording(recording.observations, every, recording.targets)
    _, states = represent(policy.agent, cut)
    looks = sensitivity(policy.agent, cut, states, reach=4, seed=0)
    assert looks[0] > 0
    assert np.isnan(looks[1:]).all()


def found() -> Probe:
    by_source = {"observation": [0.125, 0.5], "memory": [0.95, 1.0]}
    scores, looks = {"ridge": by_source, "mlp": by_source}, [1.0, 0.5, None]
    names, kinds = ["speed", "side"], ["R2", "accuracy"]
    return Probe(names, kinds, [0.0, 0.5], scores, looks, 100, 12, 9.0)


def test_the_table_says_what_is_scored_how() -> None:
    text = describe(found())
    assert "speed (R2)" in text
    assert "side (accuracy)" in text
    assert "0.95 / 0.95" in text
    assert "1: 0.5" in text


def test_files_hold_the_numbers_and_replace_earlier_ones(tmp_path) -> None:
    for _ in range(2):
        write(found(), tmp_path)
    numbers = json.loads((tmp_path / "probe.json").read_text())
    assert numbers["scores"]["ridge"]["memory"] == [0.95, 1.0]
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert (tmp_path / "probe.png").stat().st_size > 1000


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "here"
    words = [
        "memory=gru",
        "total_env_steps=600",
        "agent.rollout_length=32",
        "evaluation.interval=0",
    ]
    config = load([*MASKED, *words, "evaluation.final_episodes=1", f"run_dir={directory}"])
    train_run(config, build_environments(config, num_envs=4))
    return directory


def test_a_run_is_probed_the_same_way_again(finished) -> None:
    words = [f"run='{finished}'", "steps=1200", "reach=4"]
    first, second = (probe_run(load(words, "analyze")) for _ in range(2))
    assert first == second
    assert set(first.scores["ridge"]) == {"observation", "features", "memory", "untrained"}
    ridge = {source: scores[0] for source, scores in first.scores["ridge"].items()}
    assert ridge["memory"] > ridge["observation"] + 0.1


def test_comparing_probes_each_run_once(finished, capsys, monkeypatch) -> None:
    of_run = replace(found(), env_steps=read_run(finished).env_steps)
    probing = Mock(return_value=of_run)
    monkeypatch.setattr(showing, "probe_run", probing)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda _: os.terminal_size((1_000, 1)))
    for calls, shown, words in ((0, False, []), (1, True, ["probe=true"]), (1, True, [])):
        compare.compare(load([f"runs='{finished}'", *words], "compare"))
        _, heads, row, *_ = capsys.readouterr().out.splitlines()
        assert ("hidden state" in heads) == shown
        assert ("0.97" in row.split()) == shown
        assert probing.call_count == calls
    showing.probe_missing([read_run(finished)])
    assert probing.call_count == 1
    assert probing.call_args.args[0].run == str(finished)


def test_a_run_that_cannot_be_probed_is_told(finished, capsys, monkeypatch) -> None:
    refusal = Refusal("run=here: nothing is hidden", 2)
    monkeypatch.setattr(showing, "probe_run", Mock(side_effect=refusal))
    showing.probe_missing([replace(read_run(finished), probe_score=None)])
    assert capsys.readouterr().err == "not probed: run=here: nothing is hidden\n"


def test_too_few_episodes_are_refused(finished) -> None:
    with pytest.raises(Refusal, match="raise steps"):
        probe_run(load([f"run='{finished}'", "steps=8"], "analyze"))


def test_the_command_refuses_a_missing_run() -> None:
    call = [sys.executable, "analyze.py", "run=nowhere"]
    ended = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("run=nowhere: ")
    assert len(ended.stderr.splitlines()) == 1
