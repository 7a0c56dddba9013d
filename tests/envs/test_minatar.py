"""MinAtar's games depend on their seed and on nothing else."""

import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

pytest.importorskip("minatar")

import envs.games.minatar  # noqa: F401 (registers the games)
from envs.seeding import reset_with_seeds
from envs.vector.slot import can_be_restored

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")


@pytest.mark.parametrize("game", GAMES)
def test_games_are_registered_with_all_and_with_useful_actions(game: str) -> None:
    full, useful = (
        gymnasium.make(f"MinAtar/{game}-v0", use_minimal_action_set=only) for only in (False, True)
    )
    assert full.action_space == spaces.Discrete(6)
    assert useful.action_space.n < 6 or game == "Seaquest"
    assert full.observation_space.dtype == np.bool_
    assert full.observation_space.shape[:2] == (10, 10)


def test_gymnasiums_checker_finds_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings(
            "ignore", "(?s).*`seed` function is dropped"
        )  # theirs is still there
        check_env(gymnasium.make("MinAtar/Breakout-v0").unwrapped, skip_render_check=True)


def test_a_seed_repeats_an_episode_whatever_was_played_before() -> None:
    """With actions that always stick, the first step would repeat the episode before."""
    env = gymnasium.make("MinAtar/Breakout-v0", sticky_action_prob=1.0)
    shown = []
    for action in (1, 3):  # left and right
        env.reset(seed=1)
        env.unwrapped.game.last_action = action
        env.reset(seed=2)
        shown.append(env.step(0)[0].tobytes())
    assert shown[0] == shown[1]


@pytest.mark.parametrize("game", GAMES)
def test_episodes_can_be_played_again(game: str) -> None:
    make = partial(gymnasium.make, f"MinAtar/{game}-v0", max_episode_steps=30)
    assert can_be_restored(partial(make, disable_env_checker=True), [])


def test_streams_differ_between_environments_and_repeat_with_the_seed(registered, make) -> None:
    def play(seeds: list[int]) -> list[bytes]:
        flat = [partial(gymnasium.wrappers.FlattenObservation)]
        environments = make(id="MinAtar/Asterix-v0", packages=["envs.games.minatar"], wrappers=flat)
        reset_with_seeds(environments, seeds)
        rows = [environments.step(np.array([1, 1]))[0].copy() for _ in range(60)]
        return [np.array(rows)[:, index].tobytes() for index in range(2)]

    first, second = play([1, 2])
    assert first != second
    assert play([1, 2]) == [first, second]
    assert play([2, 1]) == [second, first]


def test_a_game_is_drawn_cell_by_cell() -> None:
    env = gymnasium.make("MinAtar/Breakout-v0", render_mode="rgb_array")
    cells, _ = env.reset(seed=0)
    frame = env.render()
    assert (frame.shape, frame.dtype) == ((160, 160, 3), np.uint8)
    assert frame.max() > 100
    is_empty = ~cells.any(-1).repeat(16, 0).repeat(16, 1)
    np.testing.assert_array_equal(is_empty, (frame == 0).all(-1))
