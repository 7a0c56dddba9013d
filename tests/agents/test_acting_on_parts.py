"""Acting on observations with parts, in every action space: numpy, PyTorch and `Policy` agree."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from conf.composing.command_line import load
from networks.observations import map_observations
from tests.agents.conftest import act_in_torch, has_mirror
from training.building.build import build_agent
from training.evaluation.policy import Policy

SPACE = spaces.Dict(
    [
        ("velocity", spaces.Box(-1, 1, (2,), np.float64)),
        ("goal/code", spaces.MultiDiscrete([3, 2], start=[1, 0])),
        ("goal/bits", spaces.MultiBinary((2, 2))),
        ("speed", spaces.Box(-9, 9, ())),
    ]
)
ACTIONS = {
    "discrete": spaces.Discrete(3, start=2),
    "choices": spaces.MultiDiscrete([[2, 3], [4, 2]]),
    "bits": spaces.MultiBinary(4),
    "box": spaces.Box(-2, 5, (2, 2)),
}
EXTRACTORS = {
    "joined": ["extractor.hidden_sizes=[8]"],
    "flat": ["extractor=flatten"],
    "by part": [
        "extractor=dict",
        "extractor.default.hidden_sizes=[6]",
        "+extractor@extractor.keys.goal.bits=flatten",
    ],
}
SMALL = [
    "device=cpu",
    "env.num_envs=3",
    "agent.num_minibatches=1",
    "policy_head.gain=1.0",
    "normalize_observations=true",
]


@cache
def configuration(*words: str) -> DictConfig:
    """Composing takes longer than what is tested here."""
    return load([*SMALL, *words])


def build(*words: str, space: Any = SPACE, actions: Any = ACTIONS["choices"]) -> Agent:
    return build_agent(configuration(*words), space, actions, num_envs=3)


def observations(steps: int, size: int) -> list[dict[str, np.ndarray]]:
    SPACE.seed(0)
    return [
        {
            name: np.stack([np.asarray(part.sample()) for _ in range(size)])
            for name, part in SPACE.spaces.items()
        }
        for _ in range(steps)
    ]


def stream(steps: int, size: int) -> dict[str, Tensor]:
    rows = observations(steps, size)
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in SPACE.spaces}


@pytest.mark.parametrize("extractor", EXTRACTORS.values(), ids=EXTRACTORS)
@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_mirror_acts_on_parts_like_torch(extractor, actions) -> None:
    agent = build("memory=gru", "memory.hidden_size=5", *extractor, actions=actions)
    agent.actor.observe(stream(20, 3), torch.ones(20, 3, dtype=torch.bool))
    assert has_mirror(agent)
    state = expected_state = agent.initial_state(3)
    seen = set()
    for step, parts in enumerate(observations(10, 3)):
        is_first, explore = np.array([step == 0, step % 3 == 0, False]), step % 2 == 1
        with agent.using(np.random.default_rng(step)):
            found, state = agent.act(parts, state, is_first, explore=explore)
        with agent.using(np.random.default_rng(step)):
            expected, expected_state = act_in_torch(
                agent, parts, expected_state, is_first, explore=explore
            )
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(state, expected_state, rtol=0, atol=1e-5)
        sent = agent.policy_head.to_environment(expected)
        assert all(actions.contains(action) for action in sent)
        seen |= {action.tobytes() for action in sent}
    assert len(seen) > 2


def test_an_agent_acts_on_parts_with_and_without_a_mirror() -> None:
    for activation in ("tanh", "gelu"):
        agent = build(*EXTRACTORS["by part"], f"extractor.activation={activation}")
        (parts,) = observations(1, 3)
        actions, state = agent.act(parts, agent.initial_state(3), np.ones(3, bool), explore=True)
        assert has_mirror(agent) == (activation == "tanh")
        assert actions.shape == (3, 4)
        assert state.shape == (3, 0)


def test_the_critic_may_read_parts_in_another_way() -> None:
    agent: Any = build("extractor=dict", "extractor@critic.extractor=mlp", "memory=lstm")
    parts, state = stream(4, 3), agent.critic.memory.initial_state(3)
    summary, _ = agent.critic(parts, state, torch.zeros(4, 3, dtype=torch.bool))
    assert agent.value_head(summary).shape == (4, 3)
    assert agent.critic.inputs is agent.actor.inputs


def test_a_misfit_is_refused_by_the_key_where_it_stands() -> None:
    box = spaces.Box(-1, 1, (3,))
    with pytest.raises(ValueError, match=r"^extractor: networks.*one array of shape \(3,\)"):
        build(*EXTRACTORS["by part"], space=box)
    with pytest.raises(ValueError, match=r"^critic\.extractor: networks.*reads Dict"):
        build("extractor@critic.extractor=dict", space=box)


@pytest.fixture(scope="module")
def policy() -> Policy:
    words = ["memory=gru", "memory.hidden_size=5", *EXTRACTORS["by part"]]
    config = configuration(*words)
    return Policy(config, build_agent(config, SPACE, ACTIONS["choices"], num_envs=3))


NESTED = {
    "speed": 0.5,
    "goal": {"bits": [[0, 1], [1, 1]], "code": [2, 1]},
    "velocity": np.array([0.25, -0.5]),
}
FLAT = {
    "velocity": np.float32([0.25, -0.5]),
    "goal/code": np.array([2, 1]),
    "goal/bits": np.int8([[0, 1], [1, 1]]),
    "speed": np.float32(0.5),
}


def test_observations_are_given_nested_or_flat_one_or_several(policy) -> None:
    policy.reset()
    expected = policy.predict(FLAT)
    assert ACTIONS["choices"].contains(expected)
    batch = {name: np.stack([part] * 4) for name, part in FLAT.items()}
    nested_batch = {
        "speed": [0.5] * 4,
        "goal": {"bits": [NESTED["goal"]["bits"]] * 4, "code": [[2, 1]] * 4},
        "velocity": np.stack([NESTED["velocity"]] * 4),
    }
    for given, size in [(NESTED, None), (batch, 4), (nested_batch, 4), (NESTED, None)]:
        policy.reset()
        found = policy.predict(given)
        assert found.shape == ((2, 2) if size is None else (size, 2, 2))
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_items_of_a_tuple_are_given_as_the_environment_gives_them() -> None:
    space = spaces.Dict([("0", spaces.Box(-1, 1, (2,))), ("1/x", spaces.Discrete(3))])
    config = configuration("extractor.hidden_sizes=[8]")
    chooses = Policy(config, build_agent(config, space, spaces.Discrete(3), num_envs=3))
    flat = {"0": np.float32([0.5, 1]), "1/x": 2}
    expected = chooses.predict(flat)
    assert chooses.predict((np.float32([0.5, 1]), {"x": 2})) == expected
    assert chooses.predict(([0.5, 1], {"x": 2})) == expected
    batch = (np.float32([[0.5, 1], [0.5, 1]]), {"x": np.array([2, 2])})
    assert chooses.predict(batch).tolist() == [expected] * 2


def test_memory_goes_on_over_observations_with_parts(policy) -> None:
    policy.reset()
    arrays = observations(6, 2)
    together = [policy.predict(row) for row in arrays]
    policy.reset()
    alone = [policy.predict(map_observations(lambda part: part[0], row)) for row in arrays]
    np.testing.assert_array_equal([actions[0] for actions in together], alone)
    assert len({action.tobytes() for action in alone}) > 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speed": [1.0, 2.0]}, "speed: a batch of 2"),
        ({"velocity": [1.0]}, r"observation 'velocity' of shape \(2,\)"),
        ({"goal/code": [[1, 0], [1]]}, r"'goal/code' of numbers, got \[\[1, 0\], \[1\]\]$"),
        ({"goal/code": "ab"}, "observation 'goal/code' of numbers, got 'ab'"),
        ({"velocity": None}, "observation 'velocity' of numbers"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(policy, changes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        policy.predict({**FLAT, **changes})


def test_a_missing_part_is_named_with_what_there_is(policy) -> None:
    incomplete = {name: part for name, part in FLAT.items() if name != "speed"}
    with pytest.raises(ValueError, match=r"parts velocity, .*speed, got one with velocity, goal"):
        policy.predict(incomplete)


def test_an_action_without_dimensions_is_an_array() -> None:
    space = spaces.Box(-1, 1, ())
    config = configuration("extractor.hidden_sizes=[8]")
    agent = build_agent(config, spaces.Box(-1, 1, (2,)), space, num_envs=3)
    action = Policy(config, agent).predict([0.5, 0.5])
    assert space.contains(action)  # without a warning
