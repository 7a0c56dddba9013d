"""Agents from outside: their losses train what they name, and everything else is there for them."""

import copy
import dataclasses
import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import conf.schema.registry
from agents.agent import Setup
from agents.learning.parts import routes
from conf.composing.command_line import launch
from networks.heads.values import StateLayers
from tests.agents import own_agents
from tests.agents.conftest import StepSpy
from tests.agents.own_agents import Reinforce, ReinforceOptions, ScaledDQN, Steering
from tests.agents.test_gradients import OneStep
from tests.agents.test_movement import NOTING, weights
from train import train
from training.building.build import build_agent
from training.building.heads import build_value_head
from training.building.optimizers import optimizer_factory


def of_class(run: Any, kind: type, **own: Any) -> SimpleNamespace:
    """The same run with an agent of another class."""
    config = copy.deepcopy(run.config)
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.agent = {**own, "_target_": f"{kind.__module__}.{kind.__qualname__}"}
    spaces = (
        run.environments.single_observation_space,
        run.environments.single_action_space,
    )
    agent = build_agent(config, *spaces, num_envs=run.environments.num_envs)
    return SimpleNamespace(config=config, agent=agent, collector=run.collector)


# A critic of actions


def steering(build, **gradients: list[str]) -> SimpleNamespace:
    """Built by hand: no value head of ours reads actions."""
    run = build("env.id=Pendulum-v1", "env.time_limit=7", "memory=gru", "policy_head.gain=1.0")
    networks, config = run.agent.networks, run.config
    width = networks.critic.memory.output_size + networks.policy_head.encoded_size
    torch.manual_seed(0)
    value_head = build_value_head(config, partial(StateLayers, width))
    networks = dataclasses.replace(networks, value_head=value_head)
    setup = Setup(
        optimizer=optimizer_factory(config),
        gradients={name.replace("__", "."): losses for name, losses in gradients.items()},
        generator=np.random.default_rng(0),
        compile=False,
        num_envs=3,
        sequence_length=4,
        reward_scaling=None,
        observations=run.environments.single_observation_space,
        frame_stacks={},
    )
    options = ReinforceOptions(discount=0.0, rollout_length=12)
    return SimpleNamespace(agent=Steering(networks, options, setup), collector=run.collector)


ACTOR = {"actor.extractor", "actor.memory", "policy_head"}
CRITIC = {"critic.extractor", "critic.memory", "value_head"}


@pytest.mark.parametrize(
    ("gradients", "actor", "critic"),
    [
        ({}, ACTOR, CRITIC),
        # `extractor` leaves out what it does not list, and opens nothing.
        ({"extractor": ["actor"]}, ACTOR, CRITIC - {"critic.extractor"}),
        ({"critic__memory": ["actor", "critic"]}, ACTOR | {"critic.memory"}, CRITIC),
        ({"value_head": ["actor"]}, ACTOR | {"value_head"}, CRITIC - {"value_head"}),
        ({"policy_head": []}, ACTOR - {"policy_head"}, CRITIC),
    ],
)
def test_an_actor_that_follows_its_critic_moves_no_weight_of_it(
    build, gradients: dict[str, list[str]], actor: set[str], critic: set[str]
) -> None:
    step = OneStep(steering(build, **gradients))
    assert step.parts("actor") == actor
    assert step.parts("critic") == critic
    for together, *apart in zip(
        step("actor", "critic"), step("actor"), step("critic"), strict=True
    ):
        torch.testing.assert_close(together, sum(apart), rtol=1e-4, atol=1e-6)


def test_weights_move_as_the_losses_that_name_them_say(build) -> None:
    """Not gradients alone: the critic moves as without an actor, and the actor up the values."""
    run = steering(build)
    agent, alone = run.agent, copy.deepcopy(run.agent)
    alone.routes = {part: tuple({"critic"} & {*losses}) for part, losses in alone.routes.items()}
    trajectory = run.collector.collect(agent)
    before = {part: copy.deepcopy(module) for part, module in agent.networks.parts().items()}
    values = []
    for each in (agent, alone):
        each.optimizer.max_grad_norm = float("inf")  # or each limits the other
        for _ in range(3):
            metrics = each.learn(copy.deepcopy(trajectory))
        values.append(-metrics["loss/actor"].item())
    assert values[0] > values[1]
    parts, others = agent.networks.parts(), alone.networks.parts()
    for part in ACTOR | CRITIC:
        own, other, was = (weights(each[part]) for each in (parts, others, before))
        assert torch.equal(own, other) == (part in CRITIC), part
        assert torch.equal(other, was) == (part in ACTOR), part


def test_the_path_of_a_part_opens_it_and_an_alias_does_not(build) -> None:
    networks, trains = steering(build).agent.networks, Steering.trains
    both = ["actor", "critic"]
    by_path = routes(networks, trains, {"critic.memory": both})
    assert by_path["critic.memory"] == ("actor", "critic")
    for alias in ("memory", "critic"):
        assert routes(networks, trains, {alias: both})["critic.memory"] == ("critic",)
    # The longer path counts, in whichever order they are written.
    narrowed = {"critic.memory": ["critic"], "memory": ["actor"], "critic": []}
    for given in (narrowed, dict(reversed(narrowed.items()))):
        found = routes(networks, trains, given)
        assert found["critic.memory"] == ("critic",)
        assert found["critic.extractor"] == ()
        assert found["actor.memory"] == ("actor",)


def test_losses_and_parts_that_are_not_there_are_refused_in_words(build) -> None:
    networks = build("share_backbone=true").agent.networks
    with pytest.raises(ValueError, match=r"^gradients\.memory: this agent has no loss 'policy'"):
        routes(networks, Steering.trains, {"memory": ["policy"]})
    with pytest.raises(ValueError, match=r"^gradients\.actor\.memry: no such part here; parts are"):
        routes(networks, Steering.trains, {"actor.memry": []})
    shared = routes(networks, Steering.trains, {"critic.extractor": ["critic"]})
    assert shared["actor.extractor"] == ("critic",)  # what both share is one part


def test_looking_at_what_losses_reach_leaves_no_trace(build) -> None:
    """Statistics of a batch normalisation move in gradient steps alone."""
    run = build("agent=dqn", *NOTING)
    agent, spy = run.agent, StepSpy(run.agent)
    while len(spy.calls) < 3:
        agent.learn(run.collector.collect(agent))
    assert agent.actor.extractor.layers[1].num_batches_tracked.item() == len(spy.calls)


# A new agent, and a subclass


def test_a_new_agent_learns_and_goes_on_exactly(build) -> None:
    own = {"discount": 0.9, "rollout_length": 12, "baseline": 2.0}
    whole, half, fresh = (
        of_class(build("memory=lstm", f"seed={seed}"), Reinforce, **own) for seed in (0, 0, 1)
    )
    for run, rounds in ((whole, 4), (half, 2)):
        for _ in range(rounds):
            metrics = run.agent.learn(run.collector.collect(run.agent))
    assert {"loss/policy", "value/mean", "gradient_norm/policy_head"} <= metrics.keys()
    assert not any(tag.startswith("gradient_norm/critic") for tag in metrics)
    fresh.agent.load_state_dict(half.agent.state_dict())
    fresh.agent.generator.bit_generator.state = half.agent.generator.bit_generator.state
    for _ in range(2):
        fresh.agent.learn(half.collector.collect(fresh.agent))
    assert torch.equal(fresh.agent.optimizer.flat, whole.agent.optimizer.flat)


def first_step(run: Any) -> Any:
    spy = StepSpy(run.agent)
    while not spy.calls:
        run.agent.learn(run.collector.collect(run.agent))
    return spy.calls[0].result


def test_a_subclass_with_an_option_of_its_own_learns_by_it(build) -> None:
    words = ["agent=dqn", "agent.prioritized=true", "optimizer.max_grad_norm=null"]
    plain, other = build(*words), build(*words)
    scaled = of_class(other, ScaledDQN, **{**other.config.agent, "scale": 3.0})
    expected, found = first_step(plain), first_step(scaled)
    assert expected.gradients.norm() > 0
    torch.testing.assert_close(found.gradients, 3 * expected.gradients)
    assert torch.equal(found.priorities, expected.priorities)


@pytest.mark.parametrize("wrong", [{"scael": 2.0}, {"discount": None}])
def test_options_that_a_class_does_not_have_are_no_options(build, wrong: dict[str, Any]) -> None:
    run = build("agent=dqn")
    given = {**run.config.agent, **wrong}
    given = {key: value for key, value in given.items() if value is not None}
    with pytest.raises(TypeError, match=next(iter(wrong))):
        of_class(run, ScaledDQN, **given)


# From the command line

YAML = """\
# REINFORCE (Williams 1992).
_target_: toys.Reinforce
discount: 0.9                  # per step
rollout_length: 16             # steps of each environment between two updates
baseline: 1.0                  # taken off every return
"""


@pytest.mark.skipif(
    not hasattr(conf.schema.registry, "options_of"),
    reason="the configuration does not know options of classes from outside yet",
)
def test_an_agent_from_outside_trains_resumes_and_is_refused_in_words(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    """CONTRIBUTING's recipe: a class with its options, a YAML file, and no file of ours touched."""
    shutil.copy(own_agents.__file__, tmp_path / "toys.py")
    (tmp_path / "conf" / "agent").mkdir(parents=True)
    (tmp_path / "conf" / "agent" / "reinforce.yaml").write_text(YAML)
    run_dir = tmp_path / "run"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # and afterwards what it was

    def type_words(*words: str) -> None:
        flags = ["--config-dir", str(tmp_path / "conf")]
        monkeypatch.setattr(sys, "argv", ["train.py", *flags, "trusted_packages=[toys]", *words])
        launch(train)

    words = ["agent=reinforce", "device=cpu", f"run_dir={run_dir}"]
    small = ["env.num_envs=2", "evaluation.episodes=1", "evaluation.final_episodes=1"]
    type_words(*words, *small, "total_env_steps=200", "agent.baseline=0.5")
    config = OmegaConf.load(run_dir / "config.yaml")
    assert (config.agent.baseline, config.agent.rollout_length) == (0.5, 16)
    type_words(f"resume={run_dir}", "total_env_steps=400")
    summary = OmegaConf.load(run_dir / "summary.json")
    assert summary.status == "finished"
    assert summary.env_steps >= 400
    capsys.readouterr()
    with pytest.raises(SystemExit):
        type_words(*words, "agent.baselin=1")
    line = capsys.readouterr().err
    assert "agent.baselin: unknown key; did you mean agent.baseline?" in line
