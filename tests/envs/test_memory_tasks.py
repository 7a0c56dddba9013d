"""The memory tasks pay what they say: to who remembers, and to who cannot."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs import MEMORY_TASKS
from envs.tasks.vector import VectorTask

IDS = [f"neurl/{name}-v0" for name in MEMORY_TASKS]
NORTH, SOUTH, EAST, WEST = range(4)
Policy = Callable[[list[np.ndarray]], np.ndarray]


def native(id: str, num_envs: int, **kwargs: Any) -> Any:
    return gymnasium.make_vec(
        id, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs
    )


def play(task: VectorTask, policy: Policy, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Play one episode in every environment; return discounted returns and hidden variables.

    The policy sees all observations `[B, ...]` so far.
    """
    seen = [task.reset(seed=seed)[0]]
    hidden = task.full_observation()["hidden"]
    scores, is_running = np.zeros(task.num_envs), np.ones(task.num_envs, bool)
    step = 0
    while is_running.any():
        observations, rewards, terminated, truncated, _ = task.step(policy(seen))
        seen.append(observations)
        scores += task.optima.discount**step * rewards * is_running
        is_running &= ~(terminated | truncated)
        step += 1
    return scores, hidden


def expected(task: VectorTask, policy: Policy) -> float:
    """The exact mean return of a deterministic policy: hidden variables are equally likely."""
    scores, hidden = play(task, policy)
    _, groups = np.unique(hidden, axis=0, return_inverse=True)
    return float(np.mean([scores[groups == group].mean() for group in np.unique(groups)]))


def into_the_goal(seen: list[np.ndarray]) -> np.ndarray:
    return np.where(seen[-1] == 3, seen[0], EAST)


def timed(oracle_distance: int) -> Policy:
    def act(seen: list[np.ndarray]) -> np.ndarray:
        if len(seen) <= oracle_distance:
            return np.full(len(seen[-1]), WEST)
        side = seen[oracle_distance][:, 1]
        return np.where(seen[-1][:, 0] == 1, np.where(side > 0, NORTH, SOUTH), EAST)

    return act


def fetch(seen: list[np.ndarray]) -> np.ndarray:
    return (np.stack(seen) == 0).any(axis=0).astype(np.int64)


def back(steps: int) -> Policy:
    return lambda seen: seen[max(len(seen) - 1 - steps, 0)] % 4


def backwards(seen: list[np.ndarray]) -> np.ndarray:
    shown = 8
    return seen[min(2 * shown - len(seen), len(seen) - 1)] % 4


def look_up(seen: list[np.ndarray]) -> np.ndarray:
    """Tell the first picture's symbol by its place among all pictures, as the blank is last."""
    task = native("neurl/RepeatFirstPicture-v0", 1)
    equal = (seen[0][:, None] == task._pictures[None, :4]).all(axis=(2, 3, 4))
    return equal.argmax(axis=1)


def try_all(seen: list[np.ndarray]) -> np.ndarray:
    arms = 4
    if len(seen) < arms:
        return np.full(len(seen[-1]), len(seen) - 1)
    results = np.stack(seen[1:arms])  # of the arms 0, 1, 2
    is_best = results % 2 == 1
    return np.where(is_best.any(axis=0), is_best.argmax(axis=0), arms - 1)


PERFECT = {
    "neurl/TMaze-v0": into_the_goal,
    "neurl/PassiveTMaze-v0": timed(0),
    "neurl/ActiveTMaze-v0": timed(1),
    "neurl/KeyToDoor-v0": fetch,
    "neurl/RepeatPrevious-v0": back(3),
    "neurl/RepeatFirst-v0": lambda seen: seen[0],
    "neurl/RepeatFirstPicture-v0": look_up,
    "neurl/Autoencode-v0": backwards,
    "neurl/HiddenArm-v0": try_all,
}


@pytest.mark.parametrize("id", PERFECT)
def test_who_remembers_gets_the_optimum(id: str) -> None:
    task = native(id, 64)
    scores, _ = play(task, PERFECT[id])
    np.testing.assert_allclose(scores, task.optima.memory)
    assert task.optima.full == task.optima.memory > task.optima.memoryless


SMALL: dict[str, tuple[str, dict[str, Any], Any]] = {  # codes of the observations, or their number
    "tmaze": ("neurl/TMaze-v0", {"length": 1, "max_episode_steps": 12}, 4),
    "passive": ("neurl/PassiveTMaze-v0", {"length": 2}, [(0, -1), (0, 0), (0, 1), (1, 0)]),
    "active": ("neurl/ActiveTMaze-v0", {"length": 1}, [(0, -1), (0, 0), (0, 1), (1, 0)]),
    "previous": ("neurl/RepeatPrevious-v0", {"length": 4, "span": 2, "symbols": 2}, 3),
    "first": ("neurl/RepeatFirst-v0", {"length": 2, "symbols": 3}, 4),
    "backwards": ("neurl/Autoencode-v0", {"length": 3, "symbols": 2}, 3),
    "bandit": ("neurl/HiddenArm-v0", {"arms": 2, "pulls": 2}, 6),
}


@pytest.mark.parametrize("case", SMALL)
def test_no_policy_without_memory_gets_more(case: str) -> None:
    """Every deterministic one is tried; the best is as good as said."""
    id, kwargs, codes = SMALL[case]
    task = native(id, 64, **kwargs)
    count = codes if isinstance(codes, int) else len(codes)

    def code(observations: np.ndarray) -> np.ndarray:
        if isinstance(codes, int):
            return observations
        return (observations[:, None] == np.array(codes)).all(axis=2).argmax(axis=1)

    tables = map(np.array, itertools.product(range(task.single_action_space.n), repeat=count))
    returns = [expected(task, lambda seen, table=t: table[code(seen[-1])]) for t in tables]
    assert max(returns) == pytest.approx(task.optima.memoryless)
    assert task.optima.memory > task.optima.memoryless


def test_the_key_is_brought_by_chance_alone_without_a_memory() -> None:
    task = native("neurl/KeyToDoor-v0", 50_000, distance=2)
    random = np.random.default_rng(0)
    best = 0.0
    for chances in ([0.5, 0.5], [0.3, 0.5], [0.5, 0.8]):
        to_the_door = np.array([1.0, *chances, 1.0, 1.0])  # by cell; the start is cell 2

        def act(seen: list[np.ndarray], chance: np.ndarray = to_the_door) -> np.ndarray:
            return (random.random(len(seen[-1])) < chance[seen[-1]]).astype(np.int64)

        best = max(best, play(task, act)[0].mean())
    assert best == pytest.approx(task.optima.memoryless, abs=0.005)
    for table in map(np.array, itertools.product(range(2), repeat=5)):
        assert play(task, lambda seen, table=table: table[seen[-1]])[0].max() == 0


def test_who_knows_the_ships_needs_one_shot_each() -> None:
    task = native("neurl/Battleship-v0", 32)

    def shoot(seen: list[np.ndarray]) -> np.ndarray:
        return (task.full_observation()["hidden"] * seen[-1][:, 1:]).argmax(axis=1)

    scores, ships = play(task, shoot)
    assert set(ships.sum(axis=1)) == {14}
    assert set(scores) == {task.optima.full} == {87}


def test_ships_lie_in_lines_everywhere() -> None:
    task = native("neurl/Battleship-v0", 2_000, size=4, ships=[3])
    task.reset(seed=0)
    ships = task.full_observation()["hidden"].reshape(-1, 4, 4)
    lines = np.concatenate([ships.sum(axis=1), ships.sum(axis=2)], axis=1)
    assert (lines == 3).sum(axis=1).tolist() == [1] * 2_000
    places, counts = np.unique(ships, axis=0, return_counts=True)
    assert len(places) == 16
    assert counts.min() > 75  # 125 expected, with a standard deviation of 11


def test_a_hit_is_told_once_and_repeated_shots_are_wasted() -> None:
    task = native("neurl/Battleship-v0", 1, size=2, ships=[2])
    task.reset(seed=0)
    (ship, other), (sea, _) = (
        np.flatnonzero(task.full_observation()["hidden"][0] == kind) for kind in (1, 0)
    )
    outcomes = [task.step(np.array([cell])) for cell in (ship, ship, sea, other)]
    assert [int(outcome[0][0, 0]) for outcome in outcomes] == [1, 0, 0, 1]
    assert [float(outcome[1][0]) for outcome in outcomes] == [-1, -1, -1, 4]
    assert [bool(outcome[2][0]) for outcome in outcomes] == [False, False, False, True]
    shot = np.zeros(4)
    shot[[ship, sea, other]] = 1
    np.testing.assert_array_equal(outcomes[-1][0][0, 1:], 1 - shot)


def to_rocks(task: Any) -> Policy:
    """Collect all good rocks, one after another, then leave."""

    def act(seen: list[np.ndarray]) -> np.ndarray:
        actions = []
        for place, is_good in zip(task._place, task.full_observation()["hidden"], strict=True):
            good = task._rocks[is_good.astype(bool)]
            row, column = good[0] - place if len(good) else (0, 1)
            toward = np.where(row < 0, 0, np.where(row > 0, 2, np.where(column > 0, 1, 3)))
            actions.append(4 if (row, column) == (0, 0) else int(toward))
        return np.array(actions)

    return act


def test_who_knows_the_rocks_takes_the_good_ones() -> None:
    task = native("neurl/RockSample-v0", 200)
    scores, is_good = play(task, to_rocks(task))
    np.testing.assert_allclose(scores, 10 + 10 * is_good.sum(axis=1))
    assert task.optima.full == 10 + 10 * is_good.shape[1] / 2


def test_a_check_is_right_where_the_rock_is_and_less_so_from_afar() -> None:
    task = native("neurl/RockSample-v0", 4_000, size=60, rocks=1)
    observations, _ = task.reset(seed=0)
    assert not observations[:, 120:].any()
    truth = np.where(task.full_observation()["hidden"][:, 0] == 1, 1, -1)
    place = np.stack([observations[:, :60].argmax(1), observations[:, 60:120].argmax(1)], 1)
    distance = np.linalg.norm(place - task._rocks[0], axis=1)
    read = task.step(np.full(4_000, 5))[0][:, 120]
    assert set(read) == {-1, 1}
    chance = (1 + 2 ** (-distance / 20)) / 2
    for low, high in ((0, 12), (12, 30), (30, 90)):
        chosen = (low <= distance) & (distance < high)
        hits = (read == truth)[chosen]
        error = 4 * 0.5 / np.sqrt(len(hits))
        assert abs(hits.mean() - chance[chosen].mean()) < error
    assert not task.step(np.zeros(4_000, int))[0][:, 120:].any()  # a reading is shown once


def test_a_bad_rock_costs_and_a_good_one_pays_once() -> None:
    task = native("neurl/RockSample-v0", 500, size=2, rocks=2)  # rocks in all cells of the start
    task.reset(seed=1)
    rock = (task._place[:, None] == task._rocks).all(2).argmax(1)
    is_good = task.full_observation()["hidden"][np.arange(500), rock]
    assert set(is_good) == {0, 1}
    rewards = [task.step(np.full(500, 4))[1] for _ in range(2)]
    np.testing.assert_array_equal(rewards[0], np.where(is_good, 10, -10))
    np.testing.assert_array_equal(rewards[1], np.full(500, -10))
    _, left, ended, _, _ = task.step(np.full(500, 1))
    assert set(left) == {10}
    assert ended.all()


def test_a_maze_shows_the_goal_at_its_start_alone() -> None:
    task = native("neurl/TMaze-v0", 8, length=3)
    start, _ = task.reset(seed=0)
    np.testing.assert_array_equal(start, task.full_observation()["hidden"])
    for place in (2, 2, 2, 3):
        assert set(task.step(np.full(8, EAST))[0]) == {place}
    task.step(np.full(8, WEST))
    assert set(task.step(np.full(8, EAST))[0]) == {3}


def test_a_timed_maze_charges_delay() -> None:
    task = native("neurl/PassiveTMaze-v0", 1, length=4)
    task.reset(seed=0)
    rewards = [float(task.step(np.array([a]))[1][0]) for a in (WEST, EAST, NORTH, EAST, EAST)]
    assert rewards == [-0.25, -0.25, -0.25, -0.25, 0]


def test_the_oracle_speaks_once() -> None:
    task = native("neurl/ActiveTMaze-v0", 2)
    assert task.reset(seed=0)[0].tolist() == [[0, 0], [0, 0]]
    shown = [task.step(np.full(2, action))[0] for action in (WEST, EAST, WEST)]
    np.testing.assert_array_equal(shown[0][:, 1], task.full_observation()["hidden"])
    assert [each.any() for each in shown] == [True, False, False]


@pytest.mark.parametrize("id", IDS)
def test_one_environment_is_one_of_many(id: str) -> None:
    """Until the first episode ends: the generator of several goes on in the step that resets."""
    one, many = gymnasium.make(id), native(id, 1)
    assert one.observation_space == many.single_observation_space
    assert one.action_space == many.single_action_space
    first, others = one.reset(seed=3)[0], many.reset(seed=3)[0]
    np.testing.assert_array_equal(first, others[0])
    one.action_space.seed(0)
    for _ in range(300):
        action = one.action_space.sample()
        observation, *outcome, _ = one.step(action)
        batch, *outcomes, _ = many.step(np.array([action]))
        np.testing.assert_array_equal(observation, batch[0])
        assert outcome == [each[0] for each in outcomes]
        full = one.get_wrapper_attr("full_observation")()
        space = one.get_wrapper_attr("full_observation_space")
        assert space.contains(full), (space, full)
        if outcome[1] or outcome[2]:
            break
    else:
        pytest.fail("no episode ended")


@pytest.mark.parametrize("id", IDS)
def test_an_episode_begins_in_the_step_after_its_end(id: str) -> None:
    task = native(id, 16, max_episode_steps=7)
    observations, _ = task.reset(seed=0)
    task.action_space.seed(0)
    ages, ended = np.zeros(16, int), np.zeros(16, bool)
    for _ in range(60):
        assert observations in task.observation_space
        fixed = observations.copy()
        later, rewards, terminated, truncated, _ = task.step(task.action_space.sample())
        np.testing.assert_array_equal(observations, fixed)  # nothing is overwritten
        assert not rewards[ended].any()
        assert not (terminated | truncated)[ended].any()
        ages = np.where(ended, 0, ages + 1)
        np.testing.assert_array_equal(truncated, (ages == 7) & ~terminated)
        observations, ended = later, terminated | truncated
    assert ages.max() <= 7


@pytest.mark.parametrize("id", IDS)
def test_tasks_resume_bit_for_bit(id: str) -> None:
    task, other = native(id, 5), native(id, 5)
    task.reset(seed=0)
    task.action_space.seed(0)
    for _ in range(33):
        task.step(task.action_space.sample())
    snapshot = json.loads(json.dumps(task.snapshot()))  # as read from a file
    assert other.restore(snapshot) == [True] * 5
    np.testing.assert_array_equal(task.current_observations(), other.current_observations())
    for _ in range(60):
        actions = task.action_space.sample()
        for one, two in zip(task.step(actions)[:4], other.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [
        ("neurl/TMaze-v0", {"length": 0}),
        ("neurl/KeyToDoor-v0", {"distance": 0}),
        ("neurl/RepeatPrevious-v0", {"order": "sideways"}),
        ("neurl/RepeatPrevious-v0", {"length": 3}),
        ("neurl/HiddenArm-v0", {"arms": 1}),
        ("neurl/RockSample-v0", {"rocks": 21}),
        ("neurl/Battleship-v0", {"ships": [11]}),
    ],
)
def test_impossible_sizes_are_refused(id: str, kwargs: dict[str, Any]) -> None:
    (key,) = kwargs
    with pytest.raises(ValueError, match=f"^{key}=.*expected"):
        gymnasium.make(id, **kwargs)
