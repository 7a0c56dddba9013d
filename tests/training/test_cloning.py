"""Behaviour cloning: an actor of any network learns what a run did, and a run starts from it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

import neurl
from conf.composing.command_line import load
from tests.grid import ID, registered
from training.building.environments import build_environments
from training.runs.refusal import Refusal
from training.runs.run import Run
from training.runs.session import train_run
from training.saving.checkpoint import part_of
from training.saving.weights import take_weights

NETWORK = ["device=cpu", "num_threads=1", "env.num_envs=2", "extractor.hidden_sizes=[16]"]
SMALL = [
    *NETWORK,
    "agent=cloning",
    "agent.learning_starts=64",
    "agent.replay_ratio=0.5",
    "optimizer.learning_rate=0.01",
    "total_env_steps=640",
    "evaluation.interval=0",
    "evaluation.num_envs=2",
    "evaluation.final_episodes=4",
    "tracking=none",
    "seed=3",
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory, finished_run) -> Callable[..., Any]:
    """Trains a small run of agent=cloning."""

    def clone(*words: str, directory: Path | None = None, resume: bool = False) -> Any:
        given = {word.partition("=")[0] for word in words}
        base = [word for word in SMALL if word.partition("=")[0] not in given]
        directory = directory or tmp_path_factory.mktemp("clone") / "here"
        where = [f"resume={directory}"] if resume else [*base, *words, f"run_dir={directory}"]
        config = load(where)
        return finished_run(
            directory, train_run(config, build_environments(config, num_envs=config.env.num_envs))
        )

    return clone


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, finished_run) -> Any:
    """A policy that depends much on what it sees."""
    directory = tmp_path_factory.mktemp("teacher") / "here"
    policy = neurl.build(*NETWORK, "policy_head.gain=5.0", "seed=7", "agent.num_minibatches=2")
    policy.save(directory)
    return finished_run(directory)


@pytest.mark.parametrize("network", [[], ["memory=gru", "memory.hidden_size=8"]])
def test_an_actor_learns_what_a_run_did(clone, teacher, build_run, network) -> None:
    here = clone(f"agent.source={teacher.directory}", *network, "normalize_observations=true")
    found = here.summary["evaluation"]
    assert found["accuracy"] > 0.9
    assert found["held_out_loss"] < 0.4
    assert here.score == found["return_mean"]
    words = [*NETWORK, "agent.num_minibatches=2", "agent.rollout_length=32", *network]
    run = build_run([*words, "normalize_observations=true", f"init_from={here.directory}"])
    start = take_weights(run.config, run.agent)
    assert start.env_steps == here.summary["env_steps"]
    assert "as drawn:" in start.notices[0]
    assert start.notices[0].endswith("value_head")
    cloned = part_of(here.weights("best"), "agent")
    own = run.agent.state_dict()
    for name in [name for name in own if name.startswith(("actor.", "policy_head."))]:
        assert torch.equal(own[name], cloned[name]), name
    for name, tensor in part_of(own, "critic.extractor").items():
        assert torch.equal(tensor, cloned[f"actor.extractor.{name}"])


@pytest.mark.parametrize("deterministic", [True, False])
def test_numbers_are_cloned_too(clone, tmp_path, deterministic) -> None:
    pendulum = ["env=pendulum", "env.time_limit=20"]
    policy = neurl.build(*NETWORK, *pendulum, "agent.num_minibatches=2")
    policy.save(tmp_path / "source")
    words = [f"agent.source={tmp_path / 'source'}", f"agent.deterministic={deterministic}"]
    here = clone(*words, *pendulum)
    measures = here.summary["evaluation"]
    assert "accuracy" not in measures
    if deterministic:  # nothing is random about it: the deviation shrinks
        assert measures["action_squared_error"] < 0.01
        assert float(here.weights()["agent.policy_head.log_std"]) < -0.1
    else:
        assert measures["action_squared_error"] == pytest.approx(1.0, abs=0.4)


class Killed(BaseException):
    """The process dies here."""


def test_it_goes_on_as_if_it_had_never_stopped(clone, teacher, monkeypatch, tmp_path) -> None:
    words = [f"agent.source={teacher.directory}", "memory=gru", "memory.hidden_size=4"]
    words += ["total_env_steps=400", "checkpoint.interval=100"]
    expected = clone(*words).weights()
    with monkeypatch.context() as patch:
        original, calls = Run._after, []

        def die(*arguments: Any) -> None:
            calls.append(1)
            if len(calls) == 15:
                raise Killed
            original(*arguments)

        patch.setattr(Run, "_after", die)
        with pytest.raises(Killed):
            clone(*words, directory=tmp_path / "here")
    tensors = clone(directory=tmp_path / "here", resume=True).weights()
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor), name


def test_another_space_is_refused(clone, teacher) -> None:
    with pytest.raises(Refusal, match=r"^agent\.source=.*: the policy reads obs") as caught:
        clone(f"agent.source={teacher.directory}", "env=pendulum")
    assert caught.value.exit_code == 2


def test_other_forms_of_actions_are_refused(clone, tmp_path) -> None:
    """A value for each joint action is no policy of two choices."""
    words = [f"env.id={ID}", "+env.kwargs.observations=box", "+env.kwargs.actions=choices"]
    with registered():
        neurl.build(*NETWORK, *words, "agent=dqn").save(tmp_path / "source")
        with pytest.raises(Refusal, match=r"^agent\.source=.*: its policy tells actions in anot"):
            clone(f"agent.source={tmp_path / 'source'}", *words)


def test_a_clone_is_played_where_its_source_is_gone(clone, tmp_path) -> None:
    neurl.build(*NETWORK, "agent.num_minibatches=2").save(tmp_path / "source")
    here = clone(f"agent.source={tmp_path / 'source'}", "total_env_steps=80")
    for path in sorted((tmp_path / "source").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    policy = neurl.load(here.directory)
    assert policy.predict([0.0, 0.0, 0.0, 0.0]) in (0, 1)
    assert policy.evaluate(episodes=2).measures == {}
    with pytest.raises(ValueError, match=r"^agent\.source="):
        neurl.fit(policy, env_steps=80, progress=False)


def test_a_loaded_clone_learns_from_its_source(clone, tmp_path) -> None:
    """Whose greedy actions are all the same here, with any number of environments."""
    teacher = neurl.build(*NETWORK, "agent.num_minibatches=2", "policy_head.gain=0.01")
    with torch.no_grad():
        teacher.agent.policy_head.get_parameter("output.bias").copy_(torch.tensor([0.0, 9.0]))
    teacher.save(tmp_path / "source")
    here = clone(f"agent.source={tmp_path / 'source'}", "total_env_steps=80")
    policy = neurl.load(here.directory)
    envs = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 3)
    neurl.fit(policy, envs, 80, progress=False)
    actions = policy.agent.learner.replay.sample(64, policy.agent.generator, importance_exponent=0)
    assert (actions.window.actions == 1).all()


def test_an_encoder_s_run_has_no_policy_to_clone(clone, tmp_path) -> None:
    words = ["device=cpu", "env.num_envs=2", "agent=autoencoding", "extractor.latent_size=4"]
    neurl.build(*words).save(tmp_path / "encoder")
    with pytest.raises(Refusal, match="a run that trains an encoder alone has no policy"):
        clone(f"agent.source={tmp_path / 'encoder'}")


# ---- the loss


def cloning(build_run: Any, *words: str) -> Any:
    """An agent that learns from another policy of its kind, whose run need not be loaded."""
    here = build_run(["agent=cloning", "agent.source=conf", *words])
    here.agent.behaviour.source = copy.deepcopy(here.agent)
    return here


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_the_loss_is_the_mean_over_valid_steps(build_run, memory) -> None:
    """Against a window read at once; steps that only reset change nothing."""
    words = [f"memory={memory}", "agent.train_frequency=32", "env.time_limit=11"]
    words += ["memory.hidden_size=4", "memory.sequence_length=8"] if memory == "lstm" else []
    words += ["agent.sequence_stride=4"] if memory == "lstm" else []
    here = cloning(build_run, *NETWORK, *words)
    agent, trajectory = here.agent, here.collector.collect(here.agent)
    agent.learner.replay.add(trajectory, agent.learner._states(agent.actor, trajectory)
                             if agent.learner.keeps_state else None)  # fmt: skip
    sample = agent.learner.replay.sample(64, agent.generator, importance_exponent=0.0)
    window = sample.window
    loss = agent.losses(window, None, None).losses["actor"]
    summary, _ = agent.actor(window.step_observations, window.state, window.is_first[:-1])
    log_probs = agent.policy_head(summary).log_prob(window.actions)
    torch.testing.assert_close(loss, -log_probs[window.valid].mean())
    assert memory == "none" or not window.valid.all()
    window.actions[~window.valid] = 1 - window.actions[~window.valid]
    torch.testing.assert_close(agent.losses(window, None, None).losses["actor"], loss)


@torch.no_grad()
def test_what_is_held_out_is_measured_from_the_clone_s_own_state(build_run) -> None:
    words = ["memory=lstm", "memory.hidden_size=4", "agent.train_frequency=32"]
    here = cloning(build_run, *NETWORK, *words)
    agent = here.agent
    here.collector.collect(agent)
    trajectory = here.collector.collect(agent)
    assert trajectory.state.abs().max() > 0
    found = agent.held_out(trajectory)
    summary, _ = agent.actor(
        trajectory.step_observations, trajectory.state, trajectory.is_first[:-1]
    )
    policy = agent.policy_head(summary)
    valid = trajectory.valid
    expected = -policy.log_prob(trajectory.actions)[valid]
    torch.testing.assert_close(found["held_out_loss"], expected)
    is_same = policy.mode() == trajectory.actions
    torch.testing.assert_close(found["accuracy"], is_same[valid].float())


def test_observations_of_parts_are_cloned(build_run, parts) -> None:
    words = [f"env.id={parts}", "extractor=dict", "memory=gru", "memory.sequence_length=4"]
    words += ["agent.learning_starts=32", "agent.batch_size=4"]
    here = cloning(build_run, *NETWORK[:3], *words)
    for _ in range(6):
        metrics = here.agent.learn(here.collector.collect(here.agent))
    assert torch.isfinite(metrics["loss/policy"])
