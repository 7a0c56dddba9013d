"""Masks of legal actions: told in three ways, shown beside every observation."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from envs.wrappers.action_mask import Masks, VectorActionMask, sample_action
from envs.wrappers.sensors import Delay, Flicker, StickyActions
from tests.doors import LENGTH, Doors

MASK = "action_mask."
WORDS = {"id": "test/Doors-v0", "packages": ["tests.doors"], "action_mask": True}


def played(environments: Any, steps: int = 2 * LENGTH + 3) -> list[dict[str, np.ndarray]]:
    """Observations of an episode and more, under the first of the legal actions."""
    observations, _ = environments.reset(seed=[3, 4])
    shown, ended = [], np.zeros(2, bool)
    for _ in range(steps):
        assert observations in environments.observation_space
        shown.append({name: part.copy() for name, part in observations.items()} | {"over": ended})
        choices = np.split(observations[MASK], [3], axis=1)
        actions = np.stack([each.argmax(1) for each in choices], axis=1)
        observations, _, terminated, truncated, _ = environments.step(actions)
        ended = terminated | truncated
    return shown


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("told", ["info", "method", "part"])
def test_a_mask_is_that_of_the_observation_beside_it(make, told: str, vectorization: str) -> None:
    """Where an episode has ended everything is legal, as nothing depends on it."""
    kwargs = {"told": told, "counts": (3, 2)}
    seen = "actor.seen" if told == "part" else "actor."
    steps = played(make(**WORDS, kwargs=kwargs, vectorization=vectorization))
    for step in steps:
        assert set(step) == {seen, MASK, "over"}
        expected = np.where(step["over"][:, None], True, step[seen] > 0)
        np.testing.assert_array_equal(step[MASK], expected)
    assert sum(step["over"].sum() for step in steps) == 4


def test_a_truncated_episode_keeps_the_mask_of_its_end(make) -> None:
    """The value there is bootstrapped from: of legal actions alone."""
    steps = played(make(**WORDS, kwargs={"counts": (3, 2)}, time_limit=2))
    assert any(step["over"].any() for step in steps)
    for step in steps:
        np.testing.assert_array_equal(step[MASK], step["actor."] > 0)


def test_masks_of_a_native_vector_environment(make) -> None:
    words = {"kwargs": {"counts": (3, 2)}, "num_envs": 2}
    environments = make(**WORDS, **words, vectorization="native")
    seen, _ = environments.reset(seed=0)
    assert seen in environments.observation_space
    for _ in range(LENGTH):
        choices = np.split(seen[MASK], [3], axis=1)
        seen, *_, ended, _, _ = environments.step(np.stack([c.argmax(1) for c in choices], axis=1))
        legal = np.where(ended[:, None], True, seen["actor."] > 0)
        np.testing.assert_array_equal(seen[MASK], legal)
    assert ended.all()


@pytest.mark.parametrize("vector", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("told", ["info", "method", "part"])
def test_masks_of_the_copies_in_a_vector_environment(vector: Any, told: str) -> None:
    """Each copy tells its own, however a single environment may."""
    environments = VectorActionMask(vector([partial(Doors, (3, 2), told)] * 2))
    try:
        steps = played(environments)
    finally:
        environments.close()
    for step in steps:
        seen = step["actor.seen" if told == "part" else "actor."]
        np.testing.assert_array_equal(step[MASK], np.where(step["over"][:, None], True, seen > 0))
    assert sum(step["over"].sum() for step in steps) == 4


def test_copies_may_tell_a_mask_of_each_choice() -> None:
    def doors() -> Doors:
        env = Doors((3, 2), "nowhere")
        env.action_masks = lambda: list(np.split(env._open, [3]))
        return env

    for step in played(VectorActionMask(SyncVectorEnv([doors] * 2)), LENGTH):
        np.testing.assert_array_equal(step[MASK], step["actor."] > 0)


def test_masks_are_not_stacked(make) -> None:
    space = make(**WORDS, frame_stack=2, previous_reward=True).single_observation_space
    assert {name: part.shape for name, part in space.items()} == {"actor.": (13,), MASK: (6,)}


@pytest.mark.parametrize("told", ["info", "method", "part"])
def test_a_mask_is_neither_hidden_nor_late_nor_stacked(make, told: str) -> None:
    """A closed door raises; what hides the observation leaves the mask."""
    late = partial(Delay, steps=2, is_random=False)
    lost = partial(Flicker, probability=1.0, shows="blank")
    words = {"kwargs": {"told": told, "counts": (3, 2)}, "frame_stack": 3, "previous_reward": True}
    steps = played(make(**WORDS, **words, pomdp=[late, lost]))
    assert sum(step["over"].sum() for step in steps) == 4
    assert {step[MASK].shape for step in steps} == {(2, 5)}
    assert not any("action_mask" in name for name in steps[0].keys() - {MASK})


def test_a_critic_that_sees_everything_sees_no_mask(make) -> None:
    lost = partial(Flicker, probability=1.0, shows="blank")
    environments = make(**WORDS, kwargs={"told": "part"}, pomdp=[lost], is_privileged=True)
    seen, _ = environments.reset(seed=0)
    assert set(seen) == {"actor.seen", "critic.seen", MASK}
    np.testing.assert_array_equal(seen[MASK], seen["critic.seen"] > 0)


@pytest.mark.parametrize(
    "wrap",
    [
        {"pomdp": [partial(StickyActions, probability=0.5)]},
        {"wrappers": [partial(gymnasium.wrappers.StickyAction, repeat_action_probability=0.5)]},
    ],
    ids=["ours", "theirs"],
)
def test_masks_of_repeated_actions_are_refused(refusal, wrap: dict[str, Any]) -> None:
    assert "env.action_mask=true: sticky actions may be illegal" in refusal(**WORDS, **wrap)


@pytest.mark.parametrize("words", [{}, {"frame_stack": 2}])
def test_a_mask_alone_is_refused(refusal, registered, plain, words: dict[str, Any]) -> None:
    space = spaces.Dict(action_mask=spaces.Box(0, 1, (2,)))
    id = registered(partial(plain, space), disable_env_checker=True)
    assert "observations need a part beside the mask" in refusal(id=id, action_mask=True, **words)
    with pytest.raises(ValueError, match="observations need a part beside the mask"):
        Masks(space, spaces.Discrete(2))  # of a native vector environment


def test_an_episode_with_masks_can_be_restored(make) -> None:
    """To find out, environments are played with random actions: legal ones."""
    environments, again = (make(**WORDS, kwargs={"counts": (3, 2)}) for _ in range(2))
    before = played(environments)[-1]
    assert before[MASK].any()
    assert again.restore(environments.snapshot()) == [True, True]
    for name, part in environments.current_observations().items():
        np.testing.assert_array_equal(again.current_observations()[name], part)


@pytest.mark.parametrize("counts", [(6,), (3, 2)])
def test_random_actions_are_legal_and_take_every_legal_value(counts: tuple[int, ...]) -> None:
    env = Doors(counts)
    env.action_space.seed(0)
    mask = np.array([0, 1, 1, 0, 1, 0][: sum(counts)])
    drawn = {tuple(np.ravel(sample_action(env.action_space, mask))) for _ in range(60)}
    expected = {(4,), (5,), (7,)} if counts == (6,) else {(1, 1), (2, 1)}
    assert drawn == expected
    assert sample_action(env.action_space, mask) in env.action_space


def test_what_says_no_mask_is_refused(make, refusal) -> None:
    assert "expected a Discrete or MultiDiscrete action space" in refusal(
        id="Pendulum-v1", action_mask=True
    )
    with pytest.raises(RuntimeError, match=r"env\.action_mask=true: the environment tells no mask"):
        make(**WORDS, kwargs={"told": "nowhere"}).reset()


def test_wrong_masks_are_refused() -> None:
    env = Doors((3, 2))
    masks = Masks(env.observation_space, env.action_space)
    of_choices = np.array([1, 0, 0]), np.array([0, 1])
    for told in (
        of_choices,
        list(of_choices),
        [[1, 0, 0], [0, 1]],
        [1, 0, 0, 0, 1],
        (1, 0, 0, 0, 1),
    ):
        assert masks.legal(told, False).tolist() == [True, False, False, False, True]
    batch = [[[1, 0, 0], [1, 1, 1]], [[0, 1], [1, 0]]]  # by choice
    for told in (batch, [[1, 0, 0, 0, 1], [1, 1, 1, 1, 0]]):
        legal = masks.legal(told, np.zeros(2, bool))
        assert legal.astype(int).tolist() == [[1, 0, 0, 0, 1], [1, 1, 1, 1, 0]]
    ended = masks.legal([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0]], np.array([False, True]))
    assert ended.astype(int).tolist() == [[1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    for told in ([[1, 0, 0, 0, 1], [1, 1]], [], [[[1, 0], [1]]]):
        with pytest.raises(ValueError, match=r"^env\.action_mask=true: .*mask"):
            masks.legal(told, np.zeros(2, bool))
    with pytest.raises(ValueError, match=r"expected a mask of 5 entries.*got the shape \(4,\)"):
        masks.legal(np.ones(4), False)
    with pytest.raises(ValueError, match=r"env\.action_mask=true: the mask leaves no legal action"):
        masks.legal(np.array([1, 1, 1, 0, 0]), False)


def test_without_the_key_nothing_changes(make) -> None:
    environments = make(**{**WORDS, "action_mask": False})
    assert environments.single_observation_space.shape == (6,)
