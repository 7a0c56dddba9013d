"""The Python door: build, fit, load and predict, with memory, for one environment or many."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import neurl
from conf.composing.command_line import InvalidConfiguration, load
from envs.seeding import environment_seeds
from training.building.environments import build_environments
from training.evaluation.watching import watch_run
from training.runs.session import train_run

SMALL = [
    "device=cpu",
    "num_threads=1",
    "env.num_envs=2",
    "extractor.hidden_sizes=[8]",
    "agent.rollout_length=16",
    "agent.num_minibatches=1",
    "agent.num_epochs=1",
    "policy_head.gain=1.0",
]
MEMORIES = {
    "none": ["memory=none"],
    "rnn": ["memory=rnn", "memory.hidden_size=5"],
    "gru": ["memory=gru", "memory.hidden_size=5"],
    "lstm": ["memory=lstm", "memory.hidden_size=5", "memory.num_layers=2"],
    "lru": ["memory=lru", "memory.hidden_size=5"],
    "gtrxl": ["memory=gtrxl", "memory.hidden_size=5", "memory.window=3"],
}


@pytest.fixture(params=MEMORIES.values(), ids=MEMORIES, scope="module")
def policy(request) -> neurl.Policy:
    policy = neurl.build(*SMALL, *request.param)
    neurl.fit(policy, env_steps=100)
    return policy


@pytest.fixture(autouse=True)
def fresh(request) -> None:
    if "policy" in request.fixturenames:
        request.getfixturevalue("policy").reset()


@pytest.fixture
def stream() -> np.ndarray:
    """Observations of 3 CartPoles over 12 steps."""
    return np.random.default_rng(0).normal(size=(12, 3, 4)).astype(np.float32)


def by_hand(policy: neurl.Policy, stream: np.ndarray, is_first: np.ndarray) -> np.ndarray:
    """What the agent does when it is stepped as collecting does."""
    agent = policy.agent
    state = agent.initial_state(stream.shape[1])
    actions = []
    for observations, first in zip(stream, is_first, strict=True):
        chosen, state = agent.act(observations, state, first, explore=False)
        actions.append(agent.policy_head.to_environment(chosen).copy())
    return np.stack(actions)


def test_predicting_is_acting_with_memory_and_resets(policy, stream) -> None:
    random = np.random.default_rng(1)
    is_first = random.random((12, 3)) < 0.2
    is_first[0] = True
    expected = by_hand(policy, stream, is_first)
    found = []
    for step, observations in enumerate(stream):
        if step:
            policy.reset(is_first[step])
        found.append(policy.predict(observations))
    np.testing.assert_array_equal(np.stack(found), expected)


def test_one_environment_is_a_batch_of_one(policy, stream) -> None:
    batched = [policy.predict(observations[:1])[0] for observations in stream]
    policy.reset()
    single = [policy.predict(observations[0]) for observations in stream]
    assert single == batched
    assert np.shape(single[0]) == ()


def test_slots_do_not_know_of_each_other(policy, stream) -> None:
    together = np.stack([policy.predict(observations) for observations in stream])
    for slot in range(3):
        policy.reset()
        alone = [policy.predict(observations[slot]) for observations in stream]
        np.testing.assert_array_equal(alone, together[:, slot])


def test_a_full_mask_is_a_reset(policy, stream) -> None:
    expected = [policy.predict(observations).tolist() for observations in stream]
    for reset in (policy.reset, lambda: policy.reset(np.ones(3, bool))):
        reset()
        assert [policy.predict(observations).tolist() for observations in stream] == expected


def test_masks_add_up_until_the_next_observation(policy, stream) -> None:
    is_first = np.zeros((12, 3), bool)
    is_first[0] = is_first[5, :2] = True
    expected = by_hand(policy, stream, is_first)
    for step, observations in enumerate(stream):
        if step == 5:
            policy.reset(np.array([True, False, False]))
            policy.reset([False, True, False])
        np.testing.assert_array_equal(policy.predict(observations), expected[step])


def test_memory_matters_where_there_is_one(policy, stream) -> None:
    agent = policy.agent
    policy.predict(stream[0])
    state = policy._state
    assert state.shape == (3, agent.actor.memory.state_size)
    assert (agent.actor.memory.state_size == 0) == (not np.abs(state).sum())


def test_another_batch_size_begins_anew(policy, stream) -> None:
    first = policy.predict(stream[0])
    for observations in stream:
        policy.predict(observations[:2])
    np.testing.assert_array_equal(policy.predict(stream[0]), first)


def test_kinds_of_numbers_do_not_matter(policy, stream) -> None:
    expected = policy.predict(stream[0])
    double = stream[0].astype(np.float64)
    given: list[Any] = [double, double.tolist(), stream[0][:, ::-1].copy()[:, ::-1]]
    readonly = stream[0].copy()
    readonly.flags.writeable = False
    for observations in [*given, readonly]:
        policy.reset()
        np.testing.assert_array_equal(policy.predict(observations), expected)


@pytest.mark.parametrize("shape", [(), (3,), (5,), (2, 3), (2, 4, 1), (4, 2)])
def test_other_shapes_are_refused_in_words(policy, shape) -> None:
    with pytest.raises(ValueError) as caught:
        policy.predict(np.zeros(shape, np.float32))
    assert "(4,)" in str(caught.value)
    assert str(shape) in str(caught.value)


def test_masks_of_other_sizes_are_refused(policy, stream) -> None:
    policy.predict(stream[0])
    with pytest.raises(ValueError, match=r"\(3,\)"):
        policy.reset(np.ones(2, bool))
    policy.predict(stream[0])


def test_sampled_actions_vary_and_likely_ones_do_not(policy, stream) -> None:
    sampled, likely = set(), set()
    for _ in range(50):
        policy.reset()
        likely.add(int(policy.predict(stream[0, 0])))
        policy.reset()
        sampled.add(int(policy.predict(stream[0, 0], deterministic=False)))
    assert len(likely) == 1
    assert sampled == {0, 1}


SPACES = {
    "discrete observations": (spaces.Discrete(4, start=2), spaces.Discrete(3, start=-1)),
    "box actions": (spaces.Box(-1, 1, (2,)), spaces.Box(np.float32([0]), np.float32([5]))),
    "stack": (spaces.Box(-1, 1, (2, 3)), spaces.Discrete(2)),
    "scalar": (spaces.Box(-1, 1, ()), spaces.Discrete(2)),
    "bytes": (spaces.Box(0, 255, (3,), np.uint8), spaces.Discrete(2)),
}


class Zoo(gymnasium.Env):
    """Random observations; insists on actions of its space."""

    def __init__(self, observation_space, action_space) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.steps = self.closed = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps % 7 == 0, False, {}

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("which", SPACES)
def test_an_environment_of_ones_own(which: str) -> None:
    environment = Zoo(*SPACES[which])
    policy = neurl.build(*SMALL[:2], *SMALL[3:], "memory=gru", env=environment)
    assert neurl.fit(policy, environment, env_steps=40) == 7.0
    assert 40 <= environment.steps < 40 + 16
    assert environment.closed == 0  # it is the caller's
    observation, _ = environment.reset()
    for _ in range(3):
        action = policy.predict(observation)
        assert environment.action_space.contains(action)
        observation, *_ = environment.step(action)
    batch = np.stack([environment.observation_space.sample() for _ in range(5)])
    actions = policy.predict(batch)
    assert all(environment.action_space.contains(action) for action in actions)


def test_a_factory_makes_as_many_as_are_asked_for() -> None:
    made: list[Zoo] = []

    def make() -> Zoo:
        made.append(Zoo(*SPACES["box actions"]))
        return made[-1]

    policy = neurl.build(*SMALL[:2], *SMALL[3:], "env.num_envs=3", env=make)
    made.clear()
    neurl.fit(policy, make, env_steps=60)
    assert len(made) == 3
    assert all(environment.steps >= 18 for environment in made)
    assert all(environment.closed for environment in made)


def test_a_further_call_plays_other_episodes_and_schedules_go_on() -> None:
    starts: list[list[float]] = []

    class Watched(gymnasium.Wrapper):
        def reset(self, **words):
            observation, info = super().reset(**words)
            starts.append(observation.tolist())
            return observation, info

    policy = neurl.build(
        "agent=dqn", "env=cartpole", "env.num_envs=1", "agent.learning_starts=20",
        "agent.epsilon_fraction=1.0", "agent.batch_size=8", "agent.buffer_size=200",
    )  # fmt: skip
    seen = []
    for _ in range(3):
        environment = Watched(gymnasium.make("CartPole-v1"))
        neurl.fit(policy, environment, env_steps=64, total_env_steps=400)
        seen.append(policy.agent.progress)
    assert len({tuple(start) for start in starts}) == len(starts) >= 3
    assert policy.env_steps >= 192
    assert [0.1 < progress < 0.3 for progress in seen] == [True, False, False]
    assert seen == sorted(seen)
    assert seen[-1] < 0.6


def test_fitting_goes_on() -> None:
    policy = neurl.build(*SMALL, "memory=lstm", "memory.hidden_size=4", "env.time_limit=10")
    weights = [policy.agent.optimizer.flat.clone()]
    for _ in range(2):
        result = neurl.fit(policy, env_steps=64)
        assert result is not None
        assert result > 0
        weights.append(policy.agent.optimizer.flat.clone())
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_no_finished_episode_is_no_mean() -> None:
    policy = neurl.build(*SMALL, "env.id=neurl/Endless-v0", "+env.kwargs.limit=null")
    assert neurl.fit(policy, env_steps=32) is None


def test_building_is_what_the_command_line_says() -> None:
    policy = neurl.build(*SMALL, "memory=gru", "memory.hidden_size=7", "agent.discount=0.5")
    assert policy.agent.options.discount == 0.5
    assert policy.agent.actor.memory.state_size == 7
    choices = {"memory": "gru", "memory.hidden_size": 7, "agent": {"discount": 0.5}}
    same = neurl.build(*SMALL, **choices)
    assert torch.equal(policy.agent.optimizer.flat, same.agent.optimizer.flat)


def test_wrong_words_are_refused_with_every_problem() -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        neurl.build("agent.gamma=0.9", "seed=x")
    assert isinstance(caught.value, ValueError)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "agent.discount" in str(caught.value)


def test_wrapped_environments_are_made_for_evaluating() -> None:
    policy = neurl.build(*SMALL, "pomdp=mask_velocity", "env.frame_stack=2")
    environments = policy.environments(num_envs=3)
    observations, _ = environments.reset(seed=0)
    assert observations.shape == (3, 2, 4)
    assert not observations[..., [1, 3]].any()
    assert policy.predict(observations).shape == (3,)
    environments.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> SimpleNamespace:
    directory = tmp_path_factory.mktemp("run") / "here"
    words = [
        *SMALL,
        "memory=gru",
        "memory.hidden_size=5",
        "normalize_observations=true",
        "total_env_steps=200",
        "evaluation.interval=100",
        "evaluation.episodes=2",
        "evaluation.final_episodes=2",
        "tracking=none",
    ]
    config = load([*words, f"run_dir={directory}"])
    train_run(config, build_environments(config, num_envs=2))
    return SimpleNamespace(directory=directory, words=words)


def test_a_loaded_policy_has_the_weights_and_the_normalisation(run) -> None:
    policy, fresh = neurl.load(run.directory), neurl.build(*run.words)
    agent = policy.agent
    assert agent.actor.normalization.count > 0
    assert not torch.equal(agent.optimizer.flat, fresh.agent.optimizer.flat)
    again = neurl.load(str(run.directory), checkpoint="last")
    for name, tensor in agent.state_dict().items():
        assert torch.equal(tensor, again.agent.state_dict()[name])


def test_ones_own_loop_agrees_with_evaluate(run) -> None:
    words = [f"run={run.directory}", "evaluation.episodes=6", "evaluation.num_envs=3"]
    evaluation = watch_run(load(words, "evaluate")).evaluation
    policy = neurl.load(run.directory)
    assert own_returns(policy, seed=0, num_envs=3, rounds=2) == sorted(evaluation.returns)


def own_returns(policy: neurl.Policy, *, seed: int, num_envs: int, rounds: int) -> list[float]:
    """A user's loop: `rounds` episodes of each environment."""
    environments = policy.environments(num_envs)
    observations, _ = environments.reset(
        seed=environment_seeds(seed, num_envs, purpose="evaluation", index=0)
    )
    returns: list[list[float]] = [[] for _ in range(num_envs)]
    total, ended = np.zeros(num_envs), np.zeros(num_envs, bool)
    while min(map(len, returns)) < rounds:
        actions = policy.predict(observations)
        observations, rewards, terminated, truncated, _ = environments.step(actions)
        if ended.any():
            policy.reset(ended)  # this step only reset them: they show first observations
        total += rewards
        ended = terminated | truncated
        for index in np.flatnonzero(ended):
            returns[index].append(float(total[index]))
            total[index] = 0
    environments.close()
    return sorted(value for each in returns for value in each[:rounds])


def test_loading_what_is_not_there_is_refused(tmp_path: Path, run) -> None:
    with pytest.raises(ValueError, match="no run in"):
        neurl.load(tmp_path)
    (tmp_path / "config.yaml").write_bytes((run.directory / "config.yaml").read_bytes())
    with pytest.raises(ValueError, match="no checkpoint in"):
        neurl.load(tmp_path)


def test_a_damaged_run_is_refused(tmp_path: Path, run) -> None:
    (tmp_path / "config.yaml").write_bytes((run.directory / "config.yaml").read_bytes())
    copied = tmp_path / "checkpoints" / "last"
    copied.mkdir(parents=True)
    for path in (run.directory / "checkpoints" / "last").iterdir():
        data = path.read_bytes()
        copied.joinpath(path.name).write_bytes(data[:-1] if path.suffix == ".safetensors" else data)
    with pytest.raises(ValueError, match="damaged"):
        neurl.load(tmp_path)


def test_a_loaded_policy_can_be_fitted_further(run) -> None:
    policy = neurl.load(run.directory)
    before = policy.agent.optimizer.flat.clone()
    neurl.fit(policy, env_steps=32)
    assert not torch.equal(policy.agent.optimizer.flat, before)


@pytest.mark.parametrize("agent", ["ppo", "a2c"])
def test_the_example_on_the_front_page(agent: str) -> None:
    environment = gymnasium.make("CartPole-v1")
    policy = neurl.build("memory=gru", f"agent={agent}", "num_threads=1", env=environment)
    assert neurl.fit(policy, environment, env_steps=200) is not None
    observation, _ = environment.reset(seed=0)
    assert environment.action_space.contains(policy.predict(observation))
    environment.close()
