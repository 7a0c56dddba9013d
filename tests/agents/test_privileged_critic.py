"""A critic that sees everything beside a policy that must not: who reads which share."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks.observations import map_observations, share_of
from training.building.backbones import read_space

FULL = ["pomdp=mask_velocity", "critic.observation=full", "memory=gru"]
REPLAYED = [[f"agent={name}", "agent.sequence_length=4"] for name in ("ddpg", "td3", "sac")]
AGENTS = [["agent=ppo"], ["agent=a2c"], *REPLAYED]


def changed(run: Any, share: str) -> tuple[Any, Any]:
    """A collected trajectory's observations, and the same with noise in one of the shares."""
    stream = run.collector.collect(run.agent).observations
    assert {"actor.", "critic."} == stream.keys()
    stream = map_observations(torch.clone, stream)
    return stream, {**stream, share: torch.randn_like(stream[share])}


@pytest.mark.parametrize("words", AGENTS, ids=" ".join)
def test_each_reads_its_own_share_alone(build, words: list[str]) -> None:
    run = build(*words, *FULL)
    for share, reader, other in (("critic.", "critic", "actor"), ("actor.", "actor", "critic")):
        before, after = changed(run, share)
        features = {
            name: [run.agent.networks.backbones[name].features(each) for each in (before, after)]
            for name in (reader, other)
        }
        assert torch.equal(*features[other])
        assert not torch.equal(*features[reader])


@pytest.mark.parametrize("words", [["agent=ppo"], REPLAYED[-1]], ids=" ".join)
def test_the_policy_acts_by_its_share_alone(build, words: list[str]) -> None:
    """With the twin's share, with another, and without one, as where it is evaluated."""
    run = build(*words, *FULL)
    streams = changed(run, "critic.")
    before, after = (map_observations(lambda part: part[0].numpy(), each) for each in streams)
    agent, first = run.agent, np.ones(len(before["actor."]), bool)
    state = agent.initial_state(len(first))
    chosen = [
        agent.act(seen, state, first, explore=False)
        for seen in (before, after, share_of(before, "actor"))
    ]
    for action, memory in chosen[1:]:
        np.testing.assert_array_equal(action, chosen[0][0])
        np.testing.assert_array_equal(memory, chosen[0][1])


def test_each_share_has_its_own_statistics(build) -> None:
    run = build("agent=ppo", *FULL, "normalize_observations=true")
    trajectory = run.collector.collect(run.agent)
    run.agent.learn(trajectory)
    for name, backbone in run.agent.networks.backbones.items():
        rows = share_of(trajectory.step_observations, name)[trajectory.valid].double()
        torch.testing.assert_close(backbone.normalization.mean, rows.mean(0))


def test_a_target_network_shares_the_inputs_of_both(build) -> None:
    run = build(*REPLAYED[1], *FULL, "normalize_observations=true")
    critic, _, actor, _ = run.agent.learner.target_network.copies
    assert critic.normalization is run.agent.critic.normalization
    assert actor.normalization is run.agent.actor.normalization


def test_the_critic_has_a_memory_if_one_is_chosen(build) -> None:
    for words, size in (([], 0), (["memory@critic.memory=rnn", "critic.memory.hidden_size=3"], 3)):
        run = build("agent=ppo", *FULL, *words)
        run.agent.learn(run.collector.collect(run.agent))
        assert run.agent.critic.memory.state_size == size
        assert run.agent.actor.memory.state_size == 5


def test_names_of_ones_own_are_no_shares() -> None:
    own = {"actor": 1, "critic": 2, "actor/x": 3}
    assert share_of(own, "actor") is own
    space = spaces.Dict({"actor": spaces.Discrete(2), "critic": spaces.Discrete(3)})
    assert read_space(space, "critic") is space
