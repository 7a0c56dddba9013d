"""What `make_environments` makes, in which order, and what it refuses."""

import subprocess
import sys
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import registry
from gymnasium.vector import AutoresetMode

import envs  # noqa: F401 (registers the tasks)
from envs.seeding import environment_seeds, reset_with_seeds
from envs.wrappers.pomdp import MaskVelocity


def test_vector_environments_are_what_was_asked_for(make) -> None:
    assert len(make(vectorization="sync").envs) == 2
    assert make(vectorization="async").envs == []  # none is in this process
    assert type(make(vectorization="native")) is CartPoleVectorEnv


@pytest.mark.parametrize("vectorization", ["sync", "async", "native"])
def test_environments_restart_in_the_step_after_an_end(vectorization: str, make) -> None:
    environments = make(vectorization=vectorization, time_limit=3)
    assert environments.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    reset_with_seeds(environments, [0, 1])
    ends = [environments.step(np.array([0, 1]))[3].tolist() for _ in range(8)]
    assert [step for step, ended in enumerate(ends) if any(ended)] == [2, 6]  # 3 steps + a reset
    assert ends[2] == [True, True]
    environments.close()


def test_without_a_limit_of_ours_the_environment_keeps_its_own(make) -> None:
    assert make().envs[0].get_wrapper_attr("_max_episode_steps") == 500


def test_counting_stream_under_autoreset(make) -> None:
    environments = make(id="neurl/Counting-v0", kwargs={"lengths": [2, 1]}, num_envs=1)
    seen = [reset_with_seeds(environments, [7])[0][0].tolist()]
    terminated, rewards = [], []
    for _ in range(7):
        observations, reward, end, truncated, _ = environments.step(np.array([0]))
        seen.append(observations[0].tolist())
        terminated.append(bool(end[0]))
        rewards.append(float(reward[0]))
        assert not truncated[0]
    # Episodes of 2, 1, 2, ... steps; the step after an end only resets and pays nothing.
    assert seen == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2]]
    assert terminated == [False, True, False, True, False, False, True]
    assert rewards == [1, 1, 0, 1, 0, 1, 1]


def test_layers_from_the_inside_out(make) -> None:
    environment = make(
        wrappers=[partial(gymnasium.wrappers.TransformReward, func=lambda reward: 10 * reward)],
        pomdp=[partial(MaskVelocity, dimensions=None)],
        frame_stack=2,
        previous_action=True,
        previous_reward=True,
        time_limit=5,
    ).envs[1]
    names = []
    while environment is not environment.unwrapped:
        names.append(type(environment).__name__)
        environment = environment.env
    assert names == [
        "PreviousInputs",
        "FrameStack",
        "MaskVelocity",
        "TransformReward",
        "RawEpisodeStatistics",
        "TimeLimit",
    ]


def test_nothing_is_added_that_was_not_asked_for(make) -> None:
    assert type(make().envs[1]) is gymnasium.wrappers.TimeLimit


def test_gymnasiums_checker_watches_the_first_environment_only(make) -> None:
    first, second, third = (str(environment) for environment in make(num_envs=3).envs)
    assert "PassiveEnvChecker" in first
    assert "PassiveEnvChecker" not in second + third


def test_returns_are_recorded_below_the_users_wrappers(make) -> None:
    environments = make(
        id="neurl/Counting-v0",
        kwargs={"lengths": [3]},
        wrappers=[partial(gymnasium.wrappers.TransformReward, func=lambda reward: 10 * reward)],
    )
    reset_with_seeds(environments, [0, 1])
    for _ in range(3):
        _, rewards, _, _, infos = environments.step(np.array([0, 0]))
    assert rewards.tolist() == [10, 10]
    assert infos["_raw_episode"].tolist() == [True, True]
    assert infos["raw_episode"]["r"].tolist() == [3, 3]
    assert infos["raw_episode"]["l"].tolist() == [3, 3]


def test_environments_share_no_keyword_argument(registered, make, plain) -> None:
    class Keeps(plain):
        def __init__(self, numbers):
            super().__init__()
            self.numbers = numbers

    given = {"numbers": [1]}
    first, second = make(id=registered(Keeps), kwargs=given).envs
    first.unwrapped.numbers.append(2)
    assert second.unwrapped.numbers == given["numbers"] == [1]


def test_packages_are_imported_before_the_id_is_looked_up(tmp_path, monkeypatch, make) -> None:
    (tmp_path / "registers_an_environment.py").write_text(
        "from gymnasium import register\n"
        "register(id='test/Late-v0', entry_point='tests.probes:ConstantReward',"
        " kwargs={'continuous': True})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    environments = make(id="test/Late-v0", packages=["registers_an_environment"])
    assert environments.single_action_space.shape == (1,)
    del registry["test/Late-v0"]


def test_environments_differ_repeat_and_do_not_depend_on_their_number(make) -> None:
    def first_observations(num_envs: int, seed: int) -> np.ndarray:
        environments = make(num_envs=num_envs)
        seeds = environment_seeds(seed, num_envs, "train")
        return np.array(reset_with_seeds(environments, seeds)[0])

    eight = first_observations(8, seed=1)
    assert len(np.unique(eight, axis=0)) == 8
    np.testing.assert_array_equal(eight, first_observations(8, seed=1))
    np.testing.assert_array_equal(eight[:3], first_observations(3, seed=1))
    assert not np.any(eight == first_observations(8, seed=2))
    fifth, _ = gymnasium.make("CartPole-v1").reset(seed=environment_seeds(1, 5, "train")[4])
    np.testing.assert_array_equal(eight[4], fifth)


def test_action_spaces_are_seeded_too(make) -> None:
    environments = make(id="Pendulum-v1")
    spaces_of_actions = [
        environments.action_space,
        *(env.action_space for env in environments.envs),
    ]
    reset_with_seeds(environments, [3, 4])
    first = [space.sample() for space in spaces_of_actions]
    reset_with_seeds(environments, [3, 4])
    again = [space.sample() for space in spaces_of_actions]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert first[1] != first[2]


def test_native_environments_repeat_with_their_seed(make) -> None:
    environments = make(vectorization="native")
    first = reset_with_seeds(environments, [5, 6])[0].copy()
    again = reset_with_seeds(environments, [5, 6])[0].copy()
    other = reset_with_seeds(environments, [6, 5])[0].copy()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_environment_that_reuses_its_array_is_read_correctly(registered, make, plain) -> None:
    class Reuses(plain):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.buffer = np.zeros(2, np.float32)
            return self.buffer, {}

        def step(self, action):
            self.buffer += 0.25
            return self.buffer, 0.0, False, False, {}

    id = registered(Reuses, disable_env_checker=True)
    environments = make(id=id, frame_stack=2, previous_reward=True)
    reset_with_seeds(environments, [0, 1])
    environments.step(np.array([0, 0]))
    observations = environments.step(np.array([0, 0]))[0]
    assert observations[1].tolist() == [0.25, 0.25, 0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("observation_space", "action_space"),
    [
        (spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Discrete(1)),
        (spaces.Box(0, 5, (1,), np.int8), spaces.Discrete(3, start=-3)),
        (spaces.Box(-1, 1, (4, 3)), spaces.Box(-np.inf, np.inf, (2,))),
        (spaces.Discrete(7, start=5), spaces.Box(-2, 1, (1,), np.float64)),
    ],
)
@pytest.mark.parametrize("previous", [False, True])
def test_supported_spaces(
    registered, observation_space, action_space, previous, make, plain
) -> None:
    id = registered(lambda: plain(observation_space, action_space))
    environments = make(id=id, previous_action=previous, previous_reward=previous)
    observations, _ = reset_with_seeds(environments, [0, 1])
    assert environments.observation_space.contains(observations)
    for _ in range(2):
        observations = environments.step(environments.action_space.sample())[0]
    assert environments.observation_space.contains(observations)


def test_importing_the_package_loads_neither_torch_nor_the_tasks() -> None:
    code = (
        "import envs, sys, gymnasium; gymnasium.spec('neurl/TMaze-v0');"
        "heavy = ('torch', 'envs.tasks.vector', 'envs.making.make');"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
