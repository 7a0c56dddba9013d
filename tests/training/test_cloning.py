"""Behaviour cloning: an actor of any network learns what a run did, and a run starts from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from agents.replay.ring import StepLayout
from conf.composing.command_line import load
from training.building.environments import build_environments
from training.evaluation.policy import Policy
from training.evaluation.restore import load_policy
from training.pretraining.cloning import Cloning
from training.pretraining.fitting import Fitting
from training.pretraining.pretraining import pretrain_alone
from training.pretraining.recording import Recording
from training.runs.refusal import Refusal
from training.saving.checkpoint import load_checkpoint
from training.saving.weights import take_weights

SMALL = [
    "objective=behaviour_cloning",
    "device=cpu",
    "num_threads=1",
    "env.num_envs=2",
    "extractor.hidden_sizes=[16]",
    "agent.rollout_length=16",
    "agent.num_minibatches=2",
    "cloning.frames=640",
    "cloning.batch_size=32",
    "cloning.epochs=6",
    "cloning.learning_rate=0.01",
    "seed=3",
]


class Killed(BaseException):
    """The process dies here."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Callable[..., Path]:
    """Clones as `pretrain.py objective=behaviour_cloning` does."""

    def clone(*words: str, directory: Path | None = None, resume: bool = False) -> Path:
        given = {word.partition("=")[0] for word in words}
        base = [word for word in SMALL if word.partition("=")[0] not in given]
        directory = directory or tmp_path_factory.mktemp("clone") / "here"
        where = [f"resume={directory}"] if resume else [*base, *words, f"run_dir={directory}"]
        config = load(where, "pretrain")
        pretrain_alone(config, build_environments(config, num_envs=1))
        return directory

    return clone


@pytest.fixture(scope="module")
def teacher(train) -> Any:
    return train("total_env_steps=64", "policy_head.gain=5.0", "seed=7")


def facts(directory: Path) -> dict[str, Any]:
    return load_checkpoint(directory / "pretraining" / "weights")[1]["pretraining"]


@pytest.mark.parametrize("network", [[], ["memory=gru", "memory.hidden_size=8"]])
def test_an_actor_learns_what_a_run_did(clone, teacher, build_run, network) -> None:
    source = f"source={teacher.directory}"
    directory = clone(source, *network, "normalize_observations=true", "share_backbone=true")
    told = facts(directory)
    assert told["measures"]["accuracy"] > 0.9
    assert told["env_steps"] >= 600
    words = [word for word in SMALL if "cloning" not in word]
    here = build_run(
        [*words, *network, "normalize_observations=true", "share_backbone=true",
         f"init_from={directory}"]
    )  # fmt: skip
    start = take_weights(here.config, here.agent)
    assert start.env_steps == told["env_steps"]
    assert "as drawn: value_head" in start.notices[0]
    # it does what the teacher would
    trajectory = here.collector.collect(here.agent)
    taught = load_policy(teacher.directory, checkpoint="last", device="cpu", trusted_packages=())
    clones = Policy(here.config, here.agent)
    alike = [
        np.mean(taught.predict(rows) == clones.predict(rows))
        for rows in trajectory.observations.numpy()
    ]
    assert np.mean(alike) > 0.7  # where the clone goes, not where it learnt


@pytest.mark.parametrize("deterministic", [True, False])
def test_numbers_are_cloned_too(clone, train, deterministic) -> None:
    pendulum = ["env=pendulum", "env.time_limit=20"]
    run = train("total_env_steps=64", *pendulum)
    directory = clone(
        f"source={run.directory}", *pendulum, f"cloning.deterministic={deterministic}"
    )
    measures = facts(directory)["measures"]
    assert "accuracy" not in measures
    if deterministic:  # nothing is random about it: the deviation shrinks
        assert measures["action_squared_error"] < 0.01
        tensors, _ = load_checkpoint(directory / "pretraining" / "weights")
        assert float(tensors["agent.policy_head.log_std"]) < -0.1
    else:
        assert measures["action_squared_error"] == pytest.approx(1.0, abs=0.4)


def test_it_goes_on_as_if_it_had_never_stopped(clone, teacher, monkeypatch, tmp_path) -> None:
    words = [f"source={teacher.directory}", "memory=gru", "memory.hidden_size=4"]
    words += ["cloning.epochs=3", "cloning.frames=400"]
    expected, _ = load_checkpoint(clone(*words) / "pretraining" / "weights")
    with monkeypatch.context() as patch:
        original, calls = Fitting._pass, []

        def die(*arguments: Any) -> float:
            calls.append(1)
            if len(calls) == 3:
                raise Killed
            return original(*arguments)

        patch.setattr(Fitting, "_pass", die)
        with pytest.raises(Killed):
            clone(*words, directory=tmp_path / "here")
    clone(directory=tmp_path / "here", resume=True)
    tensors, _ = load_checkpoint(tmp_path / "here" / "pretraining" / "weights")
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor), name


def test_another_space_is_refused(clone, teacher) -> None:
    with pytest.raises(Refusal, match=r"source=.*: the policy reads observations in") as caught:
        clone(f"source={teacher.directory}", "env=pendulum")
    assert caught.value.exit_code == 2


# ---- the loss


def cloning(built: Any, rollouts: int = 1) -> Cloning:
    """Records what the agent itself does."""
    options = {"frames": 10**6, "batch_size": 32, "held_out": 0.2, "learning_rate": 0.01}
    config = OmegaConf.merge(built.config, {"cloning": options, "source": "x"})
    fitting = Cloning(config, built.agent)
    steps = len(built.collector.collect(built.agent).rewards)
    num_envs = built.collector.environments.num_envs
    layout = StepLayout.of(built.collector.trajectory, {})
    recording = Recording(layout, num_rows=rollouts * steps + 1, num_envs=num_envs)
    recording.add(built.collector.trajectory)
    for _ in range(1, rollouts):
        recording.add(built.collector.collect(built.agent))
    fitting.prepare(recording)
    fitting.refresh()
    return fitting


@pytest.mark.parametrize("memory", ["none", "lstm"])
@torch.no_grad()
def test_the_loss_is_the_mean_over_valid_steps(build, memory) -> None:
    """Against the whole stream, read at once; steps that only reset change nothing."""
    words = [
        f"memory={memory}",
        "agent.rollout_length=32",
        "env.time_limit=11",
        "policy_head.gain=1",
    ]
    words += ["memory.hidden_size=4", "memory.sequence_length=8"] if memory == "lstm" else []
    built = build(*words)
    length = 8 if memory == "lstm" else 1
    here = cloning(built, rollouts=2)
    num_envs = here.recording.num_envs
    stream = here.recording.windows(torch.arange(num_envs), 64)
    state = torch.zeros(num_envs, built.agent.actor.memory.state_size)
    summary, _ = built.agent.actor(stream.step_observations, state, stream.is_first[:-1])
    log_probs = built.agent.policy_head(summary).log_prob(stream.actions)
    windows = log_probs.unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)  # [N, L]
    valid = stream.valid.unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)
    expected = -windows[here.learnt][valid[here.learnt]].mean()
    assert torch.allclose(here.loss(here.learnt), expected, atol=1e-6)
    assert not valid.all()
    values = here.measure(here.held_out)["held_out_loss"]
    assert len(values) == int(valid[here.held_out].sum())
    assert torch.allclose(values.mean(), -windows[here.held_out][valid[here.held_out]].mean())
    actions = here.recording._ring.fields["actions"][:64]
    actions[~stream.valid] = 1 - actions[~stream.valid]
    assert torch.allclose(here.loss(here.learnt), expected, atol=1e-6)


def test_observations_of_parts_are_cloned(build, parts) -> None:
    built = build(f"env.id={parts}", "extractor=dict", "memory=gru", "memory.sequence_length=4")
    here = cloning(built)
    assert here.read(here.learnt).observations.keys() == {"goal", "position"}
    assert torch.isfinite(here.loss(here.learnt))


@pytest.mark.parametrize(("length", "frames"), [(1, 99), (5, 23)])
def test_whole_sequences_are_recorded(clone, teacher, length, frames) -> None:
    """Of every environment, with at least the wanted steps."""
    words = ["memory=gru", "memory.hidden_size=4"] if length > 1 else []
    words += [f"memory.sequence_length={length}", "agent.rollout_length=40"] if words else []
    small = [f"cloning.frames={frames}", "cloning.batch_size=5", "cloning.epochs=1"]
    directory = clone(f"source={teacher.directory}", *words, *small)
    _, state = load_checkpoint(directory / "pretraining" / "weights")
    assert state["num_steps"] % length == 0
    assert frames <= state["pretraining"]["env_steps"] <= 2 * state["num_steps"]
    assert state["num_steps"] * 2 <= frames + 3 * 2 * max(8, length)


def test_a_critic_begins_with_the_clones_extractor_and_values_of_its_own(clone, teacher) -> None:
    tensors, _ = load_checkpoint(clone(f"source={teacher.directory}") / "pretraining" / "weights")
    names = [name for name in tensors if name.startswith("agent.critic.")]
    assert names
    for name in names:
        assert name.startswith("agent.critic.extractor.")
        assert torch.equal(tensors[name], tensors[name.replace("critic", "actor")])
