"""What the wrappers show, that they forget at a reset, and that they keep Gymnasium's contract."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401 (registers the tasks)
from envs.pomdp import MaskVelocity
from envs.wrappers import FrameStack, PreviousInputs, RawEpisodeStatistics

OURS = {
    "FrameStack": lambda env: FrameStack(env, size=3),
    "PreviousInputs": lambda env: PreviousInputs(env, action=True, reward=True),
    "PreviousAction": lambda env: PreviousInputs(env, action=True, reward=False),
    "RawEpisodeStatistics": RawEpisodeStatistics,
    "MaskVelocity": lambda env: MaskVelocity(env, dimensions=None),
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
    np.testing.assert_array_equal(used.reset(seed=3)[0], fresh.reset(seed=3)[0])  # T33
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


def test_frame_stack_fills_with_the_first_observation_and_keeps_the_order() -> None:
    environment = FrameStack(Script(spaces.Discrete(2)), size=4)
    assert environment.observation_space == spaces.Box(0, 9, (4, 1), np.float64)
    stacks = [environment.reset()[0]] + [environment.step(0)[0] for _ in range(4)]
    assert [stack[:, 0].tolist() for stack in stacks] == [  # T69
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 2],
        [0, 1, 2, 3],
        [1, 2, 3, 4],  # the final stack has the old frames
    ]
    assert environment.reset()[0][:, 0].tolist() == [0, 0, 0, 0]


def test_frame_stack_fills_with_values_other_than_zero_too() -> None:
    environment = FrameStack(gymnasium.make("CartPole-v1"), size=3)
    stack, _ = environment.reset(seed=0)
    assert np.all(stack[0] != 0)
    np.testing.assert_array_equal(stack[0], stack[2])


def test_what_the_user_does_to_a_stack_does_not_reach_the_next() -> None:
    environment = FrameStack(Script(spaces.Discrete(2)), size=2)
    environment.reset()[0][:] = 99
    assert environment.step(0)[0][:, 0].tolist() == [0, 1]


def test_previous_discrete_action_and_reward() -> None:
    environment = PreviousInputs(Script(spaces.Discrete(3, start=5)), action=True, reward=True)
    assert environment.observation_space.dtype == np.float32
    assert environment.reset()[0].tolist() == [0, 0, 0, 0, 0]
    assert environment.step(np.int64(6))[0].tolist() == [1, 0, 1, 0, 10]
    assert environment.step(np.int64(5))[0].tolist() == [2, 1, 0, 0, 20]
    assert environment.reset()[0].tolist() == [0, 0, 0, 0, 0]  # T32


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


def test_statistics_of_an_episode_that_a_wrapper_cut() -> None:
    recorded = RawEpisodeStatistics(gymnasium.make("neurl/Endless-v0", limit=None))
    environment = gymnasium.wrappers.TimeLimit(recorded, 3)
    environment.reset(seed=0)
    infos = [environment.step(0)[4] for _ in range(3)]
    assert infos == [{}, {}, {}]
    _, info = environment.reset()
    assert (info["episode"]["r"], info["episode"]["l"]) == (3, 3)
    assert environment.reset()[1] == {}  # reported once, and an empty episode is none
    environment.step(0)
    assert environment.reset(seed=0)[1] == {}  # abandoned for a new seed


def test_statistics_report_an_end_once() -> None:
    environment = RawEpisodeStatistics(gymnasium.make("neurl/Counting-v0", lengths=[2]))
    environment.reset(seed=0)
    environment.step(0)
    info = environment.step(0)[4]
    assert (info["episode"]["r"], info["episode"]["l"]) == (2, 2)
    assert environment.reset()[1] == {}
