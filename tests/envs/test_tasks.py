"""The probe environments pay what their documentation says, to the best policy and to chance."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import registry
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401 (registers the tasks)

EPISODES = 400
UNBOUNDED = pytest.mark.filterwarnings("ignore:.*is probably too")  # numbers of episodes
TASKS = sorted(id for id in registry if id.startswith("neurl/"))
CONTINUOUS = [id for id in TASKS if "continuous" in registry[id].kwargs]
Policy = Callable[[list[Any], np.random.Generator], float]


def test_every_task_is_registered() -> None:
    names = "ActionReward ConstantReward ContinuousTarget Counting DelayedReward Endless"
    names += " MemoryChain ObservationActionReward ObservationReward Recall"
    names += " TMaze PassiveTMaze ActiveTMaze KeyToDoor RepeatPrevious RepeatFirst"
    names += " RepeatFirstPicture Autoencode HiddenArm RockSample Battleship"
    assert sorted(f"neurl/{name}-v0" for name in names.split()) == TASKS


@pytest.mark.parametrize("id", TASKS)
@UNBOUNDED
def test_gymnasiums_checker_passes(id: str) -> None:
    check_env(gymnasium.make(id).unwrapped)


@pytest.mark.parametrize("id", CONTINUOUS)
@UNBOUNDED
def test_gymnasiums_checker_passes_with_continuous_actions(id: str) -> None:
    environment = gymnasium.make(id, continuous=True)
    assert environment.action_space.shape == (1,)
    check_env(environment.unwrapped)


def returns(policy: Policy, id: str, **kwargs: Any) -> np.ndarray:
    """Plays; the policy sees all observations of the episode and answers with a push in [-1, 1]."""
    environment, random = gymnasium.make(id, **kwargs), np.random.default_rng(0)
    is_discrete = isinstance(environment.action_space, gymnasium.spaces.Discrete)
    scores = []
    for episode in range(EPISODES):
        seen = [environment.reset(seed=episode)[0]]
        score, is_over = 0.0, False
        while not is_over:
            push = policy(seen, random)
            action = int(push > 0) if is_discrete else np.array([push], np.float32)
            observation, reward, terminated, truncated, _ = environment.step(action)
            seen.append(observation)
            score, is_over = score + reward, terminated or truncated
        scores.append(score)
    return np.array(scores)


def chance(seen: list[Any], random: np.random.Generator) -> float:
    return random.uniform(-1, 1)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(
    ("id", "best"),
    [
        ("neurl/ActionReward-v0", lambda seen, random: 1.0),
        ("neurl/ObservationActionReward-v0", lambda seen, random: seen[-1][0]),
        ("neurl/Recall-v0", lambda seen, random: seen[0][0]),
    ],
)
def test_the_best_policy_gets_one_and_chance_nothing(
    id: str, best: Policy, continuous: bool
) -> None:
    assert np.all(returns(best, id, continuous=continuous) == 1)
    assert abs(returns(chance, id, continuous=continuous).mean()) < 0.2  # 4 standard errors


@pytest.mark.parametrize("push", [-1.0, 1.0])
@pytest.mark.parametrize("id", ["neurl/Recall-v0", "neurl/ObservationActionReward-v0"])
def test_what_ignores_the_cue_stays_at_chance(id: str, push: float) -> None:
    assert abs(returns(lambda seen, random: push, id).mean()) < 0.2


def test_recall_shows_its_cue_only_once() -> None:
    for discrete, cues, blank in ((False, {-1.0, 1.0}, 0.0), (True, {1, 2}, 0)):
        environment = gymnasium.make("neurl/Recall-v0", length=3, discrete_observation=discrete)
        shown = set()
        for seed in range(20):
            first, _ = environment.reset(seed=seed)
            shown.add(np.asarray(first).item())
            steps = [environment.step(1) for _ in range(3)]
            assert [np.asarray(step[0]).item() for step in steps] == [blank] * 3
            assert [step[2] for step in steps] == [False, False, True]
            sign = {1: -1, 2: 1}[int(first)] if discrete else first.item()
            assert [step[1] for step in steps] == [0, 0, sign]
        assert shown == cues


def test_memory_chain_is_bsuite_s_step_by_step() -> None:
    """What its MemoryChain shows and pays: the cue twice, a query with the time that is left."""
    for seed in range(20):
        environment = gymnasium.make("neurl/MemoryChain-v0", memory_length=3, num_bits=3)
        first, _ = environment.reset(seed=seed)
        bits, action = first[0, 2:], seed % 2
        assert set(bits) <= {-1, 1}
        steps = [environment.step(action) for _ in range(4)]
        query = int(steps[2][0][0, 1])
        third = 1 / 3
        shown = [[1, 0, *bits], [2 * third, 0, 0, 0, 0], [third, query, 0, 0, 0], [0] * 5]
        np.testing.assert_allclose(np.concatenate([step[0] for step in steps]), shown, atol=1e-6)
        np.testing.assert_array_equal(first, steps[0][0])
        right = bits[query] == 2 * action - 1
        assert [step[1] for step in steps] == [0, 0, 0, 1 if right else -1]
        assert [step[2] for step in steps] == [False, False, False, True]


def test_memory_chain_asks_for_every_bit() -> None:
    queries, cues = set(), set()
    environment = gymnasium.make("neurl/MemoryChain-v0", memory_length=1, num_bits=3)
    for seed in range(60):
        first, _ = environment.reset(seed=seed)  # of length 1, the query is there at once
        queries.add(first[0, 1])
        cues.add(tuple(first[0, 2:]))
    assert queries == {0, 1, 2}
    assert len(cues) == 8


def test_a_chain_is_solved_by_its_cue_alone() -> None:
    assert np.all(returns(lambda seen, random: seen[0][0, 2], "neurl/MemoryChain-v0") == 1)
    assert abs(returns(lambda seen, random: seen[-1][0, 2], "neurl/MemoryChain-v0").mean()) < 0.2


def test_continuous_target() -> None:
    assert returns(lambda seen, random: seen[-1][0], "neurl/ContinuousTarget-v0").min() > -1e-9
    assert abs(returns(chance, "neurl/ContinuousTarget-v0").mean() + 2 / 3) < 0.15


def test_actions_beyond_the_box_pay_no_more() -> None:
    environment = gymnasium.make("neurl/ActionReward-v0", continuous=True).unwrapped
    environment.reset(seed=0)
    assert environment.step(np.array([7.0], np.float32))[1] == 1
    assert environment.step(np.array([0.25], np.float32))[1] == 0.25


def test_rewards_that_no_action_changes() -> None:
    assert np.all(returns(chance, "neurl/ConstantReward-v0") == 1)
    assert np.all(returns(chance, "neurl/DelayedReward-v0") == 1)
    assert set(returns(chance, "neurl/ObservationReward-v0")) == {-1, 1}


def test_observation_reward_pays_what_it_shows() -> None:
    environment = gymnasium.make("neurl/ObservationReward-v0")
    for seed in range(10):
        observation, _ = environment.reset(seed=seed)
        assert environment.step(0)[1] == observation[0]


def test_delayed_reward_pays_in_the_second_step() -> None:
    environment = gymnasium.make("neurl/DelayedReward-v0")
    assert environment.reset(seed=0)[0] == 0
    steps = [environment.step(0), environment.step(0)]
    assert [(step[0].item(), step[1], step[2]) for step in steps] == [(1, 0, False), (1, 1, True)]


@pytest.mark.parametrize(
    ("ending", "flags"),
    [("terminated", (True, False)), ("truncated", (False, True)), ("both", (True, True))],
)
def test_endings(ending: str, flags: tuple[bool, bool]) -> None:
    counting = gymnasium.make("neurl/Counting-v0", lengths=[1, 3], ending=ending, offset=4)
    endless = gymnasium.make("neurl/Endless-v0", limit=2, ending=ending)
    counting.reset(seed=0)
    assert counting.step(0)[2:4] == flags  # an episode of a single step
    assert counting.reset()[0].tolist() == [5, 0]
    assert [counting.step(0)[2:4] for _ in range(3)] == [(False, False)] * 2 + [flags]
    assert counting.reset(seed=1)[0].tolist() == [6, 0]
    endless.reset(seed=0)
    assert [endless.step(0)[1:4] for _ in range(2)] == [(1, False, False), (1, *flags)]


def test_endless_without_a_limit_never_ends() -> None:
    environment = gymnasium.make("neurl/Endless-v0", limit=None)
    environment.reset(seed=0)
    assert not any(any(environment.step(0)[2:4]) for _ in range(1000))


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [
        ("neurl/Recall-v0", {"length": 1}),
        ("neurl/MemoryChain-v0", {"memory_length": 0}),
        ("neurl/MemoryChain-v0", {"num_bits": 0}),
    ],
)
def test_impossible_arguments_are_refused(id: str, kwargs: dict[str, Any]) -> None:
    (key,) = kwargs
    with pytest.raises(ValueError, match=f"^{key}=.*expected"):
        gymnasium.make(id, **kwargs)
