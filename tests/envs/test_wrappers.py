"""What the wrappers show, that they forget at a reset, and that they keep Gymnasium's contract."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TransformAction

import envs  # noqa: F401 (registers the tasks)
from envs.spaces import flat_space
from envs.wrappers.adapters import (
    FlatObservation,
    PreviousInputs,
    RawEpisodeStatistics,
    ScaleReward,
    adapted,
)
from envs.wrappers.frame_stack import FrameStack
from envs.wrappers.pomdp import Mask, MaskVelocity
from envs.wrappers.sensors import Delay, Flicker, Noise, StickyActions

OURS = {
    "FrameStack": lambda env: FrameStack(env, size=3),
    "PreviousInputs": lambda env: PreviousInputs(env, action=True, reward=True),
    "PreviousAction": lambda env: PreviousInputs(env, action=True, reward=False),
    "RawEpisodeStatistics": RawEpisodeStatistics,
    "MaskVelocity": lambda env: MaskVelocity(env, dimensions=None),
    "Mask": lambda env: Mask(env, keys=None, dimensions=[1]),
    "Flicker": lambda env: Flicker(env, probability=0.5, shows="blank"),
    "Flicker stale": lambda env: Flicker(env, probability=0.5, shows="stale"),
    "Noise": lambda env: Noise(env, std=0.1),
    "Delay": lambda env: Delay(env, steps=2, is_random=False),
    "Delay random": lambda env: Delay(env, steps=2, is_random=True),
    "StickyActions": lambda env: StickyActions(env, probability=0.5),
    "ScaleReward": lambda env: ScaleReward(env, factor=0.1),
    "all": lambda env: PreviousInputs(
        FrameStack(RawEpisodeStatistics(MaskVelocity(env, dimensions=None)), size=2),
        action=True,
        reward=True,
    ),
}


@pytest.mark.parametrize("wrap", OURS.values(), ids=OURS)
@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
# Gymnasium prefers to check environments without any wrapper, and other bounds than its own have.
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped|.*is probably too|.*recommend")
def test_gymnasiums_checker_passes(id: str, wrap: Any) -> None:
    check_env(wrap(gymnasium.make(id)), skip_render_check=True)


@pytest.mark.parametrize("wrap", OURS.values(), ids=OURS)
def test_a_reset_leaves_nothing_of_the_last_episode(wrap: Any) -> None:
    used, fresh = wrap(gymnasium.make("CartPole-v1")), wrap(gymnasium.make("CartPole-v1"))
    first, _ = used.reset(seed=3)
    for _ in range(4):
        later = used.step(1)[0]
    assert not np.array_equal(first, later)
    np.testing.assert_array_equal(used.reset(seed=3)[0], fresh.reset(seed=3)[0])
    np.testing.assert_array_equal(used.step(0)[0], fresh.step(0)[0])


class Script(gymnasium.Env):
    """Observation t at step t, reward 10 t; ends after four steps; spoils every array it gets."""

    def __init__(self, action_space: spaces.Space) -> None:
        self.observation_space = spaces.Box(0, 9, (1,), np.float64)
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        self.observed = np.zeros(1)
        return self.observed, {}

    def step(self, action):
        self.observed += 1  # the same array again, as some environments do
        if isinstance(action, np.ndarray):
            action *= 0
        step = float(self.observed[0])
        return self.observed, 10 * step, step == 4, False, {}


def test_previous_discrete_action_and_reward() -> None:
    environment = PreviousInputs(Script(spaces.Discrete(3, start=5)), action=True, reward=True)
    assert environment.observation_space.dtype == np.float32
    assert environment.reset()[0].tolist() == [0, 0, 0, 0, 0]
    assert environment.step(np.int64(6))[0].tolist() == [1, 0, 1, 0, 10]
    assert environment.step(np.int64(5))[0].tolist() == [2, 1, 0, 0, 20]
    assert environment.reset()[0].tolist() == [0, 0, 0, 0, 0]


def test_previous_box_action_is_what_the_environment_received() -> None:
    space = spaces.Box(np.array([1, -2], np.float32), np.array([3, 2], np.float32))
    environment = PreviousInputs(Script(space), action=True, reward=False)
    observation, _ = environment.reset()
    assert observation.tolist() == [0, 0, 0]
    assert environment.observation_space.contains(observation)  # although 0 < 1
    shown = environment.step(np.array([2.5, -1.5], np.float32))[0]
    assert shown.tolist() == [1, 2.5, -1.5]  # although Script spoils its argument


def test_previous_reward_alone() -> None:
    environment = PreviousInputs(Script(spaces.Discrete(3)), action=False, reward=True)
    assert environment.reset()[0].tolist() == [0, 0]
    assert environment.step(0)[0].tolist() == [1, 10]


def test_discrete_observations_become_one_hot_beside_previous_inputs() -> None:
    recall = gymnasium.make("neurl/Recall-v0", length=3, discrete_observation=True)
    environment = PreviousInputs(recall, action=True, reward=False)
    cue = environment.reset(seed=0)[0].tolist()
    assert cue in ([0, 1, 0, 0, 0], [0, 0, 1, 0, 0])
    assert environment.step(1)[0].tolist() == [1, 0, 0, 0, 1]


NESTED = spaces.Dict(
    [
        ("z", spaces.Discrete(3, start=1)),
        ("goal", spaces.Tuple([spaces.Box(-9, 9, (1,), np.float64), spaces.MultiBinary(2)])),
    ]
)


class Nested(Script):
    """Script's observation within others; always the same arrays, in another order."""

    def __init__(self, action_space: spaces.Space) -> None:
        super().__init__(action_space)
        self.observation_space = NESTED
        self.bits = np.int8([0, 1])

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset()
        self.nested = {"goal": (observation, self.bits), "z": np.int64(2)}
        return self.nested, info

    def step(self, action):
        return self.nested, *super().step(action)[1:]


def shown(observation: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(part).tolist() for name, part in observation.items()}


def test_nested_observations_are_shown_flat_and_copied() -> None:
    environment = FlatObservation(Nested(spaces.Discrete(2)))
    assert environment.observation_space == flat_space(NESTED)
    first, _ = environment.reset()
    assert list(first) == ["z", "goal/0", "goal/1"]
    assert environment.observation_space.contains(first)
    second = environment.step(0)[0]
    assert shown(first) == {"z": 2, "goal/0": [0], "goal/1": [0, 1]}
    assert shown(second) == {"z": 2, "goal/0": [1], "goal/1": [0, 1]}


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped|.*is probably too")
@pytest.mark.parametrize("observes", [NESTED, spaces.Tuple([spaces.Discrete(3), NESTED])], ids=str)
def test_gymnasiums_checker_passes_what_is_flattened(observes: spaces.Space) -> None:
    class Anything(gymnasium.Env):
        observation_space, action_space = observes, spaces.MultiDiscrete([2, 3])

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            if seed is not None:
                self.observation_space.seed(seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 0.0, False, False, {}

    for wrap in (
        FlatObservation,
        lambda env: PreviousInputs(FlatObservation(env), action=True, reward=True),
    ):
        check_env(wrap(Anything()), skip_render_check=True)


def test_previous_inputs_are_parts_of_an_observation_with_parts() -> None:
    environment = PreviousInputs(
        FlatObservation(Nested(spaces.Discrete(3, start=5))), action=True, reward=True
    )
    space = environment.observation_space
    assert list(space.spaces) == ["z", "goal/0", "goal/1", "previous_action", "previous_reward"]
    first, _ = environment.reset()
    second, third = (environment.step(np.int64(action))[0] for action in (6, 5))
    again, _ = environment.reset()
    added = [
        (each["previous_action"].tolist(), each["previous_reward"].tolist())
        for each in (first, second, third, again)
    ]
    assert added == [([0] * 3, [0]), ([0, 1, 0], [10]), ([1, 0, 0], [20]), ([0] * 3, [0])]
    assert [each["goal/0"].tolist() for each in (first, second, third)] == [[0], [1], [2]]
    assert all(space.contains(each) for each in (first, second, third, again))


def test_previous_inputs_alone_add_one_part_each() -> None:
    flat = FlatObservation(Nested(spaces.Discrete(2)))
    for asked in ("action", "reward"):
        added = {"action": False, "reward": False, asked: True}
        environment = PreviousInputs(flat, **added)
        assert (
            environment.observation_space.spaces.keys() - flat.observation_space.spaces.keys()
            == {f"previous_{asked}"}
        )
        assert environment.observation_space.contains(environment.reset()[0])


@pytest.mark.parametrize(
    ("space", "action", "encoded"),
    [
        (spaces.MultiDiscrete([2, 3], start=[1, 0]), [2, 1], [0, 1, 0, 1, 0]),
        (spaces.MultiBinary((2, 2)), [[0, 1], [1, 1]], [0, 1, 1, 1]),
        (spaces.Box(-1, 1, (2, 1)), [[0.5], [-0.5]], [0.5, -0.5]),
        (spaces.Box(-1, 1, ()), 0.5, [0.5]),
        (spaces.Box(-1, np.inf, (1,), np.float64), [7.0], [7.0]),
    ],
    ids=str,
)
def test_previous_actions_of_every_space(space, action, encoded) -> None:
    given = np.array(action, space.dtype)
    environment = PreviousInputs(Script(space), action=True, reward=True)
    assert environment.reset()[0].tolist() == [0] * (2 + len(encoded))
    found = environment.step(given)[0]
    assert found.tolist() == [1, *encoded, 10]
    assert environment.observation_space.contains(found)


@pytest.mark.parametrize(
    ("space", "observation", "encoded"),
    [
        (spaces.MultiDiscrete([2, 3], start=[1, 0]), [2, 1], [0, 1, 0, 1, 0]),
        (spaces.MultiBinary((2, 2)), [[0, 1], [1, 1]], [0, 1, 1, 1]),
        (spaces.Box(0, 9, (2, 1), np.int64), [[3], [4]], [3, 4]),
        (spaces.Box(0, 9, ()), 3, [3]),
    ],
    ids=str,
)
def test_previous_inputs_beside_every_observation(space, observation, encoded) -> None:
    class Constant(Script):
        def reset(self, **arguments):
            super().reset()
            return np.array(observation, space.dtype), {}

        def step(self, action):
            return np.array(observation, space.dtype), *super().step(action)[1:]

    inner = Constant(spaces.Discrete(2))
    inner.observation_space = space
    environment = PreviousInputs(inner, action=True, reward=False)
    assert environment.reset()[0].tolist() == [*encoded, 0, 0]
    found = environment.step(1)[0]
    assert found.tolist() == [*encoded, 0, 1]
    assert found.dtype == np.float32
    assert environment.observation_space.contains(found)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (6, 5, 3), np.uint8),
        spaces.Box(0, 255, (8,), np.uint8),
        spaces.Box(-1, 1, (6, 5, 3)),
        spaces.MultiDiscrete(np.full((6, 5, 2), [3, 4])),
        spaces.MultiBinary((6, 5, 3)),
    ],
    ids=str,
)
def test_what_is_no_row_of_numbers_becomes_a_part_beside_previous_inputs(space) -> None:
    shown = space.sample()

    class Still(Script):
        def reset(self, **arguments):
            super().reset()
            return shown, {}

        def step(self, action):
            return shown, *super().step(action)[1:]

    inner = Still(spaces.Discrete(2))
    inner.observation_space = space
    environment = PreviousInputs(inner, action=True, reward=True)
    names = ["observation", "previous_action", "previous_reward"]
    assert list(environment.observation_space.spaces) == names
    assert environment.observation_space["observation"] == space
    first, _ = environment.reset()
    found = environment.step(1)[0]
    for each in (first, found):
        assert environment.observation_space.contains(each)
        np.testing.assert_array_equal(each["observation"], shown)
        assert each["observation"] is not shown
    assert found["previous_action"].tolist() == [0, 1]
    assert found["previous_reward"].tolist() == [10]


class Writes(Script):
    """Writes down the actions it receives."""

    def step(self, action):
        self.received = action
        return super().step(0)


def test_actions_without_dimensions_are_arrays() -> None:
    inner = Writes(spaces.Box(-1, 1, (), np.float32))
    environment = adapted(inner)
    environment.reset()
    environment.step(np.float32([0.5])[0])
    assert inner.action_space.contains(inner.received)  # without a warning
    assert inner.received == 0.5


def test_only_what_agents_do_not_know_is_adapted() -> None:
    vector = Script(spaces.Discrete(2))
    assert adapted(vector) is vector
    assert isinstance(adapted(Nested(spaces.Discrete(2))), FlatObservation)
    for space in (spaces.Box(-1, 1, ()), spaces.MultiDiscrete(np.array(3))):
        assert isinstance(adapted(Script(space)), TransformAction)
    assert isinstance(adapted(Nested(spaces.Box(-1, 1, ()))).env, FlatObservation)


def test_layers_are_in_their_order(make, registered) -> None:
    id = registered(lambda: Nested(spaces.Box(-1, 1, ())), disable_env_checker=True)
    environment = make_one(make, id=id, previous_action=True, previous_reward=True)
    assert [type(layer) for layer in layers(environment)] == [
        PreviousInputs,
        TransformAction,
        FlatObservation,
        Nested,
    ]


def make_one(make: Any, **changes: Any) -> gymnasium.Env:
    """The first environment, before it is stepped with others."""
    environments = make(**changes)
    return environments.unwrapped.envs[0]


def layers(environment: gymnasium.Env) -> list[gymnasium.Env]:
    found = [environment]
    while isinstance(found[-1], gymnasium.Wrapper):
        found.append(found[-1].env)
    return found


def test_scaled_rewards_leave_what_is_reported_raw(make) -> None:
    environments = make(
        id="neurl/Counting-v0",
        kwargs={"lengths": [2]},
        num_envs=1,
        wrappers=[lambda env: ScaleReward(env, factor=0.5)],
    )
    environments.reset(seed=0)
    assert environments.step([0])[1].tolist() == [0.5]
    _, rewards, *_, infos = environments.step([0])
    assert rewards.tolist() == [0.5]
    assert infos["raw_episode"]["r"].tolist() == [2]


def test_statistics_of_an_episode_that_a_wrapper_cut() -> None:
    recorded = RawEpisodeStatistics(gymnasium.make("neurl/Endless-v0", limit=None))
    environment = gymnasium.wrappers.TimeLimit(recorded, 3)
    environment.reset(seed=0)
    infos = [environment.step(0)[4] for _ in range(3)]
    assert infos == [{}, {}, {}]
    _, info = environment.reset()
    assert (info["raw_episode"]["r"], info["raw_episode"]["l"]) == (3, 3)
    assert environment.reset()[1] == {}  # reported once, and an empty episode is none
    environment.step(0)
    assert environment.reset(seed=0)[1]["raw_episode"]["l"] == 1  # abandoned


def test_statistics_report_an_end_once() -> None:
    environment = RawEpisodeStatistics(gymnasium.make("neurl/Counting-v0", lengths=[2]))
    environment.reset(seed=0)
    environment.step(0)
    info = environment.step(0)[4]
    assert (info["raw_episode"]["r"], info["raw_episode"]["l"]) == (2, 2)
    assert environment.reset()[1] == {}
