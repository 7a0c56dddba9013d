"""A zoo of spaces: random policies stay in them, and every kind of observation can be learned from.

The environments insist on actions of their space; warnings of Gymnasium's are errors.
"""

from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from omegaconf import DictConfig

from conf.composing.command_line import load
from training.building.environments import build_environments
from training.evaluation.policy import Policy
from training.runs.fit import build_policy, fit

INFINITE = np.inf
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(4),
    "discrete start": spaces.Discrete(3, start=-7),
    "discrete int32": spaces.Discrete(3, start=5, dtype=np.int32),
    "one": spaces.Discrete(1),
    "choices": spaces.MultiDiscrete([2, 5, 3]),
    "choices starts": spaces.MultiDiscrete([2, 3], start=[-1, 10]),
    "choices 2x3": spaces.MultiDiscrete([[2, 3, 4], [5, 2, 3]], start=[[0, -3, 7], [1, 1, 1]]),
    "choices int32": spaces.MultiDiscrete([3, 3], dtype=np.int32),
    "choices scalar": spaces.MultiDiscrete(np.array(3)),
    "bits": spaces.MultiBinary(5),
    "bits 2x3": spaces.MultiBinary((2, 3)),
    "box": spaces.Box(-1, 1, (3,)),
    "box uneven": spaces.Box(np.float32([-3, 0]), np.float32([1, 5])),
    "box free": spaces.Box(-INFINITE, INFINITE, (2,)),
    "box half free": spaces.Box(np.float32([0, -INFINITE, 1]), np.float32([INFINITE, -3, 2])),
    "box scalar": spaces.Box(-2, 3, ()),
    "box 2x2 float64": spaces.Box(-0.1, 0.3, (2, 2), np.float64),
    "box float16": spaces.Box(-1, 7, (2,), np.float16),
}
VECTOR, CODE = spaces.Box(-2, 2, (3,)), spaces.Discrete(5, start=1)
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "choices": spaces.MultiDiscrete([[2, 3]], start=[[1, -1]]),
    "bits": spaces.MultiBinary((2, 2)),
    "int8": spaces.Box(-9, 9, (2, 2), np.int8),
    "parts": spaces.Dict([("z", VECTOR), ("a", CODE)]),
    "nested": spaces.Dict(goal=spaces.Dict(pair=spaces.Tuple([CODE, VECTOR])), more=CODE),
    "tuple": spaces.Tuple([spaces.Box(-1, 1, (), np.float64), spaces.MultiBinary(2)]),
}
PLAIN = ("choices", "bits", "int8")


class Zoo(gymnasium.Env):
    """Random observations; insists on actions of its space, and spoils them afterwards."""

    def __init__(self, observation_space, action_space) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.taken: list[Any] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        assert getattr(action, "dtype", None) == self.action_space.dtype
        self.taken.append(np.array(action))
        if isinstance(action, np.ndarray):
            action *= 0
        return self.observation_space.sample(), 1.0, len(self.taken) % 7 == 0, False, {}


SMALL = {
    "device": "cpu",
    "num_threads": "1",
    "env.num_envs": "2",
    "agent.rollout_length": "16",
    "agent.num_minibatches": "1",
    "agent.num_epochs": "1",
    "policy_head.gain": "1.0",
}


@cache
def configuration(*words: str) -> DictConfig:
    """The small run, but for what is given otherwise."""
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    return load([f"{key}={value}" for key, value in {**SMALL, **given}.items()])


@pytest.mark.parametrize("which", ACTIONS)
def test_a_random_policy_stays_in_the_space(which: str) -> None:
    made: list[Zoo] = []

    def make() -> Zoo:
        made.append(Zoo(VECTOR, ACTIONS[which]))
        return made[-1]

    config = configuration()
    policy = build_policy(config, make)
    made.clear()
    environments = build_environments(config, num_envs=2, make=make)
    observations, _ = environments.reset(seed=0)
    for _ in range(150):
        actions = policy.predict(observations, deterministic=False)
        observations, *_ = environments.step(actions)
    environments.close()
    taken = np.stack([action for zoo in made for action in zoo.taken])
    assert len(taken) > 200
    if taken.dtype.kind == "i":  # every one of the few is taken
        sampled = np.stack([np.asarray(ACTIONS[which].sample()) for _ in range(500)])
        for ours, theirs in zip(
            taken.reshape(len(taken), -1).T, sampled.reshape(500, -1).T, strict=True
        ):
            assert set(ours.tolist()) == set(theirs.tolist())


@pytest.mark.parametrize("which", ACTIONS)
def test_single_actions_are_of_the_space_too(which: str) -> None:
    policy = build_policy(configuration(), lambda: Zoo(VECTOR, ACTIONS[which]))
    for deterministic in (True, False):
        action = policy.predict(VECTOR.sample(), deterministic=deterministic)
        assert ACTIONS[which].contains(action)


WORDS = [
    ["memory=none"],
    ["memory=gru", "memory.hidden_size=4", "env.previous_action=true", "env.previous_reward=true"],
]


@pytest.mark.parametrize("words", WORDS, ids=["plain", "memory and previous inputs"])
@pytest.mark.parametrize("which", OBSERVATIONS)
def test_every_observation_can_be_learned_from(which: str, words: list[str]) -> None:
    def make() -> Zoo:
        return Zoo(OBSERVATIONS[which], ACTIONS["choices 2x3"])

    if which not in PLAIN:
        words = ["extractor=dict", "extractor.default.hidden_sizes=[4]", *words]
    policy = build_policy(configuration("normalize_observations=true", *words), make)
    before = policy.agent.state_dict()["policy_head.output.weight"].clone()
    assert fit(policy, make, 40, progress=False) == 7.0
    assert not before.equal(policy.agent.state_dict()["policy_head.output.weight"])


def test_what_an_environment_gives_is_what_a_policy_takes() -> None:
    for space in OBSERVATIONS.values():
        policy = build_policy(configuration(), lambda space=space: Zoo(space, CODE))
        space.seed(0)
        for observation in (space.sample() for _ in range(3)):
            assert CODE.contains(policy.predict(observation))


class Bounded(Zoo):
    """A vector of given width and bounds, and actions in a given box."""

    def __init__(self, size: int, bound: float, largest_action: float) -> None:
        super().__init__(
            spaces.Box(-bound, bound, (size,)),
            spaces.Box(-largest_action, largest_action, (2,)),
        )


@pytest.fixture(scope="module")
def policy() -> Policy:
    return build_policy(configuration(), lambda: Bounded(3, 1, 2))


def test_a_policy_is_taught_where_observations_have_other_bounds(policy) -> None:
    assert fit(policy, lambda: Bounded(3, 5, 2), 20, progress=False) == 7.0


def test_a_policy_is_not_taught_in_another_space(policy) -> None:
    with pytest.raises(ValueError, match=r"reads observations in Box.* \(3,\).*emits Box.* \(4,\)"):
        fit(policy, lambda: Bounded(4, 1, 2), 20, progress=False)
    # The same shape, but 1 would mean another action.
    with pytest.raises(ValueError, match=r"acts in Box\(-2.*the environment takes Box\(-3"):
        fit(policy, lambda: Bounded(3, 1, 3), 20, progress=False)
    with pytest.raises(ValueError, match=r"acts in Box.*takes Discrete\(5, start=1\)"):
        fit(policy, lambda: Zoo(VECTOR, CODE), 20, progress=False)
    with pytest.raises(ValueError, match=r"reads observations in Box.*emits Dict\('a': Disc"):
        fit(
            policy,
            lambda: Zoo(spaces.Dict(a=CODE), policy.agent.policy_head.space),
            9,
            progress=False,
        )


class Copy(gymnasium.Env):
    """One step: the share of the action's entries that equal what the observation says."""

    def __init__(self, action_space: spaces.Space[Any], sample: Any) -> None:
        self.action_space, self._sample = action_space, sample
        self.observation_space = spaces.Tuple([spaces.Dict(asked=action_space), VECTOR])

    def _observe(self):
        self.asked = self._sample(self.np_random)
        return ({"asked": self.asked}, self.np_random.uniform(-2, 2, 3).astype(np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        reward = float((action == self.asked).mean())
        return self._observe(), reward, True, False, {}


COPIES = {
    "choices": (
        spaces.MultiDiscrete([2, 3, 2], start=[1, 0, -4]),
        lambda random: random.integers([1, 0, -4], [3, 3, -2]),
    ),
    "bits": (spaces.MultiBinary((2, 2)), lambda random: random.integers(0, 2, (2, 2), np.int8)),
}


@pytest.mark.parametrize("which", COPIES)
def test_what_a_part_asks_for_is_learned_entry_by_entry(which: str) -> None:
    config = configuration(
        "env.num_envs=8",
        "agent.rollout_length=32",
        "agent.num_minibatches=2",
        "agent.num_epochs=4",
        "policy_head.gain=0.01",
        "optimizer.learning_rate=0.02",
        "extractor=dict",
        "extractor.default.hidden_sizes=[16]",
        "extractor.hidden_sizes=[32]",
    )
    policy = build_policy(config, lambda: Copy(*COPIES[which]))
    assert fit(policy, lambda: Copy(*COPIES[which]), 2_000, progress=False) > 0.9
