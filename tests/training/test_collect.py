"""The stream, against logs that know nothing of how it is collected."""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from envs.vector.base import SlotVectorEnv
from envs.vector.failures import EnvironmentFailure
from tests.grid import CHOICES
from training.stream.collect import Collector
from training.stream.episodes import InvalidExperience

ROLLOUT = 7
FLAGS = {"terminated": (True, False), "truncated": (False, True), "both": (True, True)}


def simulated(lengths: Sequence[int], ending: str, offset: int) -> Iterator[tuple[Any, ...]]:
    """What a stream must hold of one environment: `before, after, is_valid, flags` of each step."""
    episode = offset
    while True:
        length = lengths[episode % len(lengths)]
        for step in range(1, length + 1):
            flags = FLAGS[ending] if step == length else (False, False)
            yield (episode, step - 1), (episode, step), True, flags
        yield (episode, length), (episode + 1, 0), False, (False, False)
        episode += 1


def rows(trajectory: Any, environment: int) -> list[tuple[Any, ...]]:
    observations = trajectory.observations[:, environment].int().tolist()
    columns = (
        observations[:-1],
        observations[1:],
        trajectory.valid[:, environment].tolist(),
        zip(
            trajectory.terminated[:, environment].tolist(),
            trajectory.truncated[:, environment].tolist(),
            strict=True,
        ),
    )
    return [
        (tuple(before), tuple(after), valid, flags)
        for before, after, valid, flags in zip(*columns, strict=True)
    ]


@pytest.mark.parametrize("ending", FLAGS)
@pytest.mark.parametrize(
    "lengths",
    [
        [[3, 5, 2]],
        [[1]],
        [[1], [2, 1], [1, 1, 9]],
        [[ROLLOUT], [ROLLOUT - 1], [ROLLOUT + 1], [3 * ROLLOUT]],
    ],
    ids=str,
)
def test_stream_is_the_simulated_log(counting, random_agent, lengths, ending) -> None:
    environments = counting(*lengths, ending=ending)
    collector = Collector(environments, rollout_length=ROLLOUT, seeds=range(len(lengths)))
    agent = random_agent(environments.single_action_space)
    logs = [simulated(each, ending, 100 * index) for index, each in enumerate(lengths)]
    valid_steps = 0
    for _ in range(6):
        trajectory = collector.collect(agent)
        finished = []
        for environment, log in enumerate(logs):
            expected = [next(log) for _ in range(ROLLOUT)]
            assert rows(trajectory, environment) == expected
            valid_steps += sum(is_valid for _, _, is_valid, _ in expected)
            finished += [(environment, after[1]) for _, after, _, flags in expected if any(flags)]
        assert torch.equal(trajectory.rewards, trajectory.valid.float())
        assert collector.env_steps == valid_steps
        found = [(episode.environment, episode.length) for episode in collector.episodes]
        assert sorted(found) == sorted(finished)
        assert all(episode.episode_return == episode.length for episode in collector.episodes)


def test_valid_steps_are_the_steps_of_the_episodes(counting, random_agent) -> None:
    environments = counting([3, 5, 2], [1, 4])
    collector = Collector(environments, rollout_length=50, seeds=[0, 1])
    agent = random_agent(environments.single_action_space)
    done = 0
    for _ in range(3):
        trajectory = collector.collect(agent)
        done += sum(episode.length for episode in collector.episodes)
        under_way = trajectory.observations[-1, :, 1] * ~trajectory.ended[-1]
        assert collector.env_steps == done + under_way.sum()


def test_first_observations_follow_ends_by_one_step(counting, random_agent) -> None:
    environments = counting([3, 5, 2], [1], ending="both")
    collector = Collector(environments, rollout_length=ROLLOUT, seeds=[0, 1])
    agent = random_agent(environments.single_action_space)
    ended_before = None
    for rollout in range(5):
        trajectory = collector.collect(agent)
        assert torch.equal(trajectory.is_first[2:], trajectory.ended[:-1])
        if rollout == 0:
            assert trajectory.is_first[0].all()
            assert not trajectory.is_first[1].any()
        else:
            assert torch.equal(trajectory.is_first[1], ended_before)
        ended_before = trajectory.ended[-1].clone()


def test_rollouts_go_on_where_the_last_one_stopped(counting, random_agent) -> None:
    environments = counting([3, 5, 2], [1, 4])
    agents = [random_agent(environments.single_action_space) for _ in range(2)]
    long, short = agents
    whole = Collector(environments, rollout_length=12, seeds=[0, 1]).collect(long)
    again = Collector(counting([3, 5, 2], [1, 4]), rollout_length=4, seeds=[0, 1])
    for start in (0, 4, 8):
        part = again.collect(short)
        assert torch.equal(part.observations, whole.observations[start : start + 5])
        assert torch.equal(part.is_first, whole.is_first[start : start + 5])
        for name in ("actions", "rewards", "terminated", "truncated"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[start : start + 4])
        assert (part.state == start).all()


def test_the_agent_reads_the_stream(counting, random_agent) -> None:
    environments = counting([3, 5, 2], [1, 4])
    collector = Collector(environments, rollout_length=ROLLOUT, seeds=[0, 1])
    agent = random_agent(environments.single_action_space)
    for _ in range(3):
        trajectory = collector.collect(agent)
        calls, agent.calls = agent.calls, []
        assert torch.equal(
            torch.stack([c.observations for c in calls]), trajectory.observations[:-1]
        )
        assert torch.equal(torch.stack([c.is_first for c in calls]), trajectory.is_first[:-1])
        assert torch.equal(torch.stack([c.actions for c in calls]), trajectory.actions)
        assert torch.equal(calls[0].state, trajectory.state)
        assert all(call.explore for call in calls)


class Diary(gymnasium.Env):
    """Random episodes in spaces to choose; writes down what it received and what it gave."""

    def __init__(self, observation_space, action_space=None, *, one_buffer=False) -> None:
        self.observation_space = observation_space
        self.action_space = action_space or spaces.Discrete(2)
        self.pages: list[tuple[str, Any, Any]] = []
        self._buffer = np.zeros(observation_space.shape, observation_space.dtype)
        self._one_buffer = one_buffer

    def _observe(self) -> Any:
        sample = self.observation_space.sample()
        if not self._one_buffer:
            return sample
        self._buffer[...] = sample
        return self._buffer

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        observation = self._observe()
        self.pages.append(("reset", None, np.array(observation)))
        return observation, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        observation = self._observe()
        self.pages.append(("step", np.array(action), np.array(observation)))
        ended = self.np_random.random() < 0.3
        return observation, 0.5, ended, False, {}


def assert_holds(trajectory: Any, agent: Any, diaries: Sequence[Diary]) -> None:
    """The trajectory, the first of its collector, is what the environments wrote down."""
    to_environment = agent.policy_head.to_environment
    sent = np.stack([to_environment(actions) for actions in trajectory.actions.numpy()])
    stored = trajectory.observations.numpy()
    for index, diary in enumerate(diaries):
        assert len(diary.pages) == len(stored)
        for step, (kind, action, observation) in enumerate(diary.pages):
            np.testing.assert_array_equal(stored[step, index], observation.astype(stored.dtype))
            assert (kind == "reset") == bool(trajectory.is_first[step, index])
            if kind == "step":
                np.testing.assert_array_equal(sent[step - 1, index], action)


OBSERVATIONS = {
    "float64": spaces.Box(-5, 5, (3,), np.float64),
    "float16": spaces.Box(-5, 5, (3,), np.float16),
    "uint8": spaces.Box(0, 255, (3,), np.uint8),
    "int8": spaces.Box(-100, 100, (3,), np.int8),
    "uint16": spaces.Box(0, 60_000, (3,), np.uint16),
    "int64": spaces.Box(-(2**20), 2**20, (3,), np.int64),
    "bool": spaces.Box(0, 1, (3,), np.bool_),
    "scalar": spaces.Box(-1, 1, ()),
    "stack": spaces.Box(-1, 1, (2, 3)),
    "discrete": spaces.Discrete(5),
    "discrete from -3": spaces.Discrete(5, start=-3),
    "discrete of one": spaces.Discrete(1),
}
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "discrete from -3": spaces.Discrete(4, start=-3),
    "discrete of one": spaces.Discrete(1, start=7),
    "box": spaces.Box(np.float32([-3, 0]), np.float32([1, 5])),
    "float64 box": spaces.Box(-2, 2, (1,), np.float64),
    "infinite box": spaces.Box(-np.inf, np.inf, (2,)),
    "half infinite box": spaces.Box(np.float32([0, -np.inf]), np.float32([np.inf, 1])),
}


@pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_every_kind_of_observation_is_kept(vectorized, random_agent, space) -> None:
    kinds = [False] if isinstance(space, spaces.Discrete) else [False, True]
    for one_buffer in kinds:  # which only arrays can be
        diaries = [Diary(space, one_buffer=one_buffer) for _ in range(2)]
        environments = vectorized(*diaries)
        collector = Collector(environments, rollout_length=20, seeds=[1, 2])
        agent = random_agent(environments.single_action_space)
        trajectory = collector.collect(agent)
        assert_holds(trajectory, agent, diaries)
    kept = {"float64": torch.float32}.get(str(space.dtype), getattr(torch, str(space.dtype)))
    assert trajectory.observations.dtype == kept


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_environments_get_actions_of_their_space(vectorized, random_agent, space) -> None:
    diaries = [Diary(spaces.Box(-1, 1, (2,)), space) for _ in range(3)]
    environments = vectorized(*diaries)
    agent = random_agent(space)
    trajectory = Collector(environments, rollout_length=40, seeds=[1, 2, 3]).collect(agent)
    assert_holds(trajectory, agent, diaries)
    if isinstance(space, spaces.Discrete):
        assert trajectory.actions.min() == 0
        assert trajectory.actions.max() == space.n - 1
    else:  # what reached beyond the bounds was cut on the way only
        assert trajectory.actions.abs().max() > 1


def test_a_native_vector_environment_is_collected_alike(random_agent) -> None:
    streams = []
    for mode in ("sync", "vector_entry_point"):
        environments = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode=mode)
        collector = Collector(environments, rollout_length=64, seeds=[0, 1, 2])
        streams.append(collector.collect(random_agent(environments.single_action_space)))
        environments.close()
    for stream in streams:
        assert stream.ended.any()
        assert torch.equal(stream.is_first[2:], stream.ended[:-1])
        assert torch.equal(stream.rewards, stream.valid.float())


def test_a_trajectory_stands_until_the_next_one(counting, random_agent) -> None:
    environments = counting([3])
    collector = Collector(environments, rollout_length=ROLLOUT, seeds=[0])
    agent = random_agent(environments.single_action_space)
    trajectory = collector.collect(agent)
    kept = trajectory.observations.clone()
    environments.step(np.array([0]))
    assert torch.equal(trajectory.observations, kept)


@pytest.mark.parametrize("memory", CHOICES["memory"])
def test_one_step_episodes_are_learnt_from(build, memory) -> None:
    sizes = [] if memory == "none" else ["memory.hidden_size=4"]
    run = build(
        "env.id=neurl/Counting-v0",
        "+env.kwargs.lengths=[1]",
        f"memory={memory}",
        "normalize_observations=true",
        "normalize_rewards=true",
        *sizes,
    )
    for _ in range(3):
        trajectory = run.collector.collect(run.agent)
        metrics = run.agent.learn(trajectory)
        assert {episode.length for episode in run.collector.episodes} == {1}
        losses = {tag: value for tag, value in metrics.items() if not tag.startswith("value/")}
        assert all(value.isfinite() for value in losses.values())
    assert run.collector.env_steps == 3 * 16  # every other step only resets
    assert all(tensor.isfinite().all() for tensor in run.agent.state_dict().values())


def test_episodes_may_never_end(build) -> None:
    run = build("env.id=neurl/Endless-v0", "+env.kwargs.limit=null", "memory=gru")
    for rollout in range(1, 5):
        trajectory = run.collector.collect(run.agent)
        metrics = run.agent.learn(trajectory)
        assert trajectory.valid.all()
        assert run.collector.episodes == []
        assert run.collector.env_steps == rollout * 16 * 2
        assert metrics["loss/policy"].isfinite()


class Broken(gymnasium.Env):
    """Sends one bad number, at its fourth step."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(5, start=10)

    def __init__(self, *, reward: Any = 1.0, number: Any = 0.0) -> None:
        self.reward, self.number = reward, number

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2), {}

    def step(self, action):
        self.steps += 1
        is_bad = self.steps == 4
        observation = np.array([0.0, self.number if is_bad else 0.0])
        return observation, self.reward if is_bad else 1.0, False, False, {}


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["reward", "observation"])
def test_numbers_that_are_not_finite_are_refused(vectorized, random_agent, what, number) -> None:
    bad = Broken(**{"reward" if what == "reward" else "number": number})
    environments = vectorized(Broken(), bad)
    collector = Collector(environments, rollout_length=8, seeds=[0, 1])
    agent = random_agent(environments.single_action_space)
    with pytest.raises(EnvironmentFailure) as caught:
        collector.collect(agent)
    message = str(caught.value)
    assert "\n" not in message
    assert "environment 1 (reset(seed=1), step 4 of its episode)" in message
    assert what in message
    assert str(number) in message
    assert f"with action {agent.calls[3].actions[1].item() + 10}" in message


@pytest.mark.parametrize("what", ["reward", "number"])
def test_numbers_too_large_for_float32_are_refused(vectorized, random_agent, what) -> None:
    environments = vectorized(Broken(**{what: 1e300}))
    collector = Collector(environments, rollout_length=8, seeds=[0])
    with pytest.raises(EnvironmentFailure, match="environment 0"):
        collector.collect(random_agent(environments.single_action_space))


def test_a_first_observation_that_is_not_finite_is_refused(vectorized) -> None:
    environments = vectorized(Broken(), BrokenFromTheStart())
    with pytest.raises(EnvironmentFailure, match=r"environment 1 .*failed in reset"):
        Collector(environments, rollout_length=8, seeds=[0, 1])


class BrokenFromTheStart(Broken):
    """Begins with a number that is none."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([0.0, np.nan]), {}


@pytest.mark.parametrize("what", ["reward", "number", "first"])
def test_vector_environments_that_look_at_nothing_are_looked_at(random_agent, what) -> None:
    """Those of others: numbers that are not finite are refused before they are learnt from."""
    bad = BrokenFromTheStart() if what == "first" else Broken(**{what: np.nan})
    environments = SyncVectorEnv([Broken, lambda: bad])
    collector = Collector(environments, rollout_length=8, seeds=[0, 1])
    agent = random_agent(environments.single_action_space)
    with pytest.raises(InvalidExperience) as caught:
        collector.collect(agent)
    message = str(caught.value)
    assert "\n" not in message
    name = "reward" if what == "reward" else "observation"
    assert f"environment 1 sent a {name}" in message
    assert ("at its reset" if what == "first" else "step 3") in message
    environments.close()


class Fragile(gymnasium.Env):
    """Shows `[episode, step]`, ends every `length` steps, and raises at given steps of its life."""

    observation_space = spaces.Box(-1, 1e6, (2,))
    action_space = spaces.Discrete(2)
    made = 0

    def __init__(self, raises_at: Sequence[int], length: int) -> None:
        self.raises_at, self.length = raises_at, length
        type(self).made += 1
        self.episode = 100 * type(self).made

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return np.float32([self.episode, 0]), {}

    def step(self, action):
        self.life = getattr(self, "life", 0) + 1
        if self.life in self.raises_at and self.episode < 200:  # only as it was made at first
            raise ValueError("broken")
        self.steps += 1
        return np.float32([self.episode, self.steps]), 1.0, self.steps == self.length, False, {}


@pytest.mark.parametrize("failing", range(1, 10))
@pytest.mark.parametrize("rollout", [1, 2, 3, 12])
def test_a_restart_cuts_the_stream_where_the_environment_failed(
    random_agent, failing: int, rollout: int
) -> None:
    """No step links two episodes, the lost one is truncated at its last observation."""
    Fragile.made = 0
    environments = SlotVectorEnv([lambda: Fragile([failing], 4)], on_failure="restart")
    collector = Collector(environments, rollout_length=rollout, seeds=[0])
    agent = random_agent(environments.single_action_space)
    rows, episodes = [], []
    for _ in range(12 // rollout):
        trajectory = collector.collect(agent)
        for step in range(rollout):
            rows.append(
                (
                    tuple(trajectory.observations[step, 0].int().tolist()),
                    tuple(trajectory.observations[step + 1, 0].int().tolist()),
                    bool(trajectory.valid[step, 0]),
                    bool(trajectory.terminated[step, 0]),
                    bool(trajectory.truncated[step, 0]),
                    float(trajectory.rewards[step, 0]),
                )
            )
        episodes += collector.episodes
    assert collector.restarts == 1
    assert collector.env_steps == sum(row[2] for row in rows)
    lost = next(index for index, row in enumerate(rows) if row[1][0] >= 200)
    is_cut_here = lost % rollout > 0  # else the step before it went with another trajectory
    for index, (before, after, valid, terminated, truncated, reward) in enumerate(rows):
        assert valid == (before[0] == after[0])
        assert reward == float(valid)
        assert terminated == (valid and after[1] == 4)
        assert truncated == (is_cut_here and index == lost - 1 and not terminated)
    assert not rows[lost][2]  # the step that failed is the one that resets
    assert all(episode.length == 4 == episode.episode_return for episode in episodes)
    environments.close()
