"""Who acts where an agent learns from what another policy does."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from agents.learning.behaviour import Behaviour
from conf.schema.heads import GaussianHeadOptions
from envs.seeding import environment_seeds
from networks.heads.policy import policy_head_class

HEAD = GaussianHeadOptions(
    hidden_sizes=[],
    activation="tanh",
    initialization="orthogonal",
    gain=0.01,
    initial_log_std=0.0,
)


def uniform(space: Any, seed: int = 0) -> Behaviour:
    agent: Any = SimpleNamespace(
        policy_head=policy_head_class(None, space)(space, 1, HEAD),
        generator=np.random.default_rng(seed),
        actor=SimpleNamespace(memory=SimpleNamespace(state_size=0)),
    )
    return Behaviour(agent, explores=True, is_random=True)


def act(player: Behaviour, size: int) -> Any:
    state = np.zeros((size, 0), np.float32)
    actions, _ = player.act(np.zeros(0), state, np.ones(size, bool), explore=False)
    return player.policy_head.to_environment(actions)


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (spaces.Discrete(3, start=5), {5, 6, 7}),
        (spaces.MultiDiscrete([2, 3]), {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)}),
        (spaces.MultiBinary(2), {(0, 0), (0, 1), (1, 0), (1, 1)}),
    ],
)
def test_every_action_is_as_likely(space: Any, values: set[Any]) -> None:
    sent = act(uniform(space), 8000)
    rows = [tuple(row.tolist()) if row.ndim else int(row) for row in sent]
    counts = {value: rows.count(value) for value in values}
    assert sum(counts.values()) == 8000  # and no other one
    expected = 8000 / len(values)
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


def test_bounded_numbers_are_uniform_and_others_normal() -> None:
    low, high = np.array([-3.0, -np.inf]), np.array([5.0, np.inf])
    sent = act(uniform(spaces.Box(low.astype(np.float32), high.astype(np.float32))), 20_000)
    shares = np.histogram(sent[:, 0], bins=8, range=(-3, 5))[0] / 20_000
    assert np.abs(shares - 1 / 8).max() < 0.015
    assert abs(sent[:, 1].mean()) < 0.05
    assert abs(sent[:, 1].std() - 1) < 0.05


def test_seeds_are_apart_from_training_and_evaluation() -> None:
    purposes = ["train", "evaluation", "pretraining", "resume", "video", "probe", "doctor"]
    seeds = [set(environment_seeds(3, 64, purpose=purpose)) for purpose in purposes]
    assert len(set().union(*seeds)) == 64 * len(purposes)


SMALL = ["device=cpu", "env.num_envs=2", "memory.hidden_size=4", "extractor.hidden_sizes=[8]"]


def test_both_memories_read_along(build_run) -> None:
    """The source acts from its own state; trajectories have the learning memory's."""
    source = build_run(["agent=dqn", "memory=gru", *SMALL, "seed=5"])
    words = ["agent=cloning", "agent.source=conf", "memory=lstm", *SMALL, "agent.train_frequency=7"]
    here = build_run(words)
    agent, behaviour = here.agent, here.agent.behaviour
    assert not behaviour.is_known
    behaviour.source = source.agent
    assert behaviour.is_known
    assert behaviour.initial_state(2).shape == (2, 8 + 4)
    trajectories = [here.collector.collect(agent) for _ in range(3)]
    assert trajectories[-1].state.shape == (2, 8)
    trajectory = trajectories[-1]  # a view: the others are gone
    own, rest = trajectory.state.numpy(), here.collector._state[:, 8:]
    assert np.abs(own).max() > 0
    assert np.abs(rest).max() > 0
    seen, first = trajectory.observations.numpy(), trajectory.is_first.numpy()
    for step in range(7):
        _, own = agent.act(seen[step], own, first[step], explore=False)
    np.testing.assert_array_equal(own, here.collector._state[:, :8])


def test_the_source_s_actions_are_learnt_from(build_run) -> None:
    source = build_run(["agent=dqn", *SMALL[:2], "value_head.gain=9"])
    words = ["agent=cloning", "agent.source=conf", *SMALL[:2], "agent.train_frequency=16"]
    here = build_run(words)
    here.agent.behaviour.source = source.agent
    trajectory = here.collector.collect(here.agent)
    seen, first = trajectory.observations.numpy(), trajectory.is_first.numpy()
    state = source.agent.initial_state(2)
    for step in range(16):
        expected, _ = source.agent.act(seen[step], state, first[step], explore=False)
        valid = trajectory.valid[step].numpy()
        np.testing.assert_array_equal(trajectory.actions[step].numpy()[valid], expected[valid])
