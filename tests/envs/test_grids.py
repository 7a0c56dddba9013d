"""MiniGrid's observations as networks can read them."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.seeding import reset_with_seeds
from envs.vector.slot import can_be_restored
from envs.wrappers.grids import GridCodes, GridPixels

minigrid = pytest.importorskip("minigrid")
codes = pytest.importorskip("minigrid.core.constants")

DOORKEY = "MiniGrid-DoorKey-5x5-v0"
CODES = partial(GridCodes, direction=False)
SIZES = [len(codes.OBJECT_TO_IDX), len(codes.COLOR_TO_IDX), len(codes.STATE_TO_IDX)]


def wrapped(wrap, id: str = DOORKEY) -> gymnasium.Env:
    return wrap(gymnasium.make(id))


def test_a_view_is_a_grid_of_codes_each_channel_with_its_own_count() -> None:
    space = wrapped(CODES).observation_space
    assert isinstance(space, spaces.MultiDiscrete)
    assert space.shape == (7, 7, 3)
    assert space.dtype == np.uint8
    np.testing.assert_array_equal(np.unique(space.nvec.reshape(-1, 3), axis=0), [SIZES])


def test_codes_are_minigrids_own_and_lie_in_the_space() -> None:
    env = wrapped(CODES)
    seen, _ = env.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(300):
        np.testing.assert_array_equal(seen, env.unwrapped.gen_obs()["image"])
        assert env.observation_space.contains(seen)
        seen, _, terminated, truncated, _ = env.step(rng.integers(7))
        if terminated or truncated:
            seen, _ = env.reset()


def test_the_direction_can_be_kept() -> None:
    env = wrapped(partial(GridCodes, direction=True))
    assert env.observation_space["direction"] == spaces.Discrete(4)
    env.reset(seed=1)
    for _ in range(5):
        seen, *_ = env.step(env.unwrapped.actions.left)
        assert seen["direction"] == env.unwrapped.agent_dir
        assert env.observation_space.contains(seen)


def test_what_was_shown_does_not_change_with_the_next_step() -> None:
    env = wrapped(CODES)
    first, _ = env.reset(seed=1)
    kept = first.copy()
    second, *_ = env.step(env.unwrapped.actions.left)
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_pixels_are_what_minigrid_draws() -> None:
    env = wrapped(partial(GridPixels, tile_size=4))
    seen, _ = env.reset(seed=1)
    assert env.observation_space == spaces.Box(0, 255, (28, 28, 3), np.uint8)
    assert env.observation_space.contains(seen)
    np.testing.assert_array_equal(seen, env.unwrapped.get_frame(tile_size=4, agent_pov=True))
    other, *_ = env.step(env.unwrapped.actions.left)
    assert not np.array_equal(seen, other)


@pytest.mark.parametrize("wrap", [CODES, partial(GridPixels, tile_size=4)], ids=["codes", "pixels"])
def test_other_environments_are_refused(wrap) -> None:
    with pytest.raises(ValueError, match=r"env.wrappers: Grid\w+ reads what MiniGrid's"):
        wrapped(wrap, "CartPole-v1")


def test_minigrid_without_the_preset_is_refused(refusal) -> None:
    message = refusal(id=DOORKEY, packages=["minigrid"])
    assert message.startswith(f"env.id={DOORKEY}: ")
    assert f"use env=minigrid env.id={DOORKEY}" in message


@pytest.mark.parametrize("wrap", [CODES, partial(GridPixels, tile_size=2)], ids=["codes", "pixels"])
def test_episodes_can_be_played_again(wrap) -> None:
    assert can_be_restored(partial(wrapped, wrap), [])


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_the_stream_repeats_and_links_no_two_episodes(vectorization: str, make) -> None:
    """Of a task in which one action ends episodes of 3 steps, by the clock."""

    def play() -> list[bytes]:
        environments = make(
            id=DOORKEY, packages=["minigrid"], wrappers=[CODES], time_limit=3,
            vectorization=vectorization,
        )  # fmt: skip
        seen = [reset_with_seeds(environments, [5, 6])[0].tobytes()]
        ends = []
        for _ in range(9):
            observations, rewards, terminated, truncated, _ = environments.step(np.array([0, 1]))
            seen.append(observations.tobytes())
            ends.append((terminated | truncated).tolist())
            assert not rewards.any()
        environments.close()
        assert [step for step, ended in enumerate(ends) if any(ended)] == [2, 6]
        return seen

    assert play() == play()


def test_all_of_babyai_and_minigrid_fit() -> None:
    """One task of each size of codes: doors that are locked, boxes, balls, lava."""
    for id in ("MiniGrid-LavaGapS5-v0", "BabyAI-GoToObj-v0", "MiniGrid-MemoryS7-v0"):
        env = wrapped(CODES, id)
        seen, _ = env.reset(seed=0)
        assert env.observation_space.contains(seen)
