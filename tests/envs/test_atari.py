"""Atari games: one by one and native, the same to the eye, with scores of whole games."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("ale_py")

from ale_py.vector_env import AtariVectorEnv
from threadpoolctl import threadpool_limits

from envs.games.atari import AtariGame, area_weights
from envs.games.atari_native import AtariGames
from envs.vector.slot import Slot, can_be_restored
from envs.wrappers.frame_stack import FrameStack

OPTIONS: dict[str, Any] = {
    "frame_skip": 4,
    "sticky_actions": 0.0,
    "max_noops": 30,
    "fire_on_reset": True,
    "all_actions": False,
    "size": 84,
    "num_threads": 1,
}


@pytest.fixture(autouse=True)
def one_thread():
    """Several would wait for each other in products of such small matrices."""
    with threadpool_limits(1, user_api="blas"):
        yield


def one(game: str, **changes: Any) -> AtariGame:
    return AtariGame(game, **{**OPTIONS, **changes})


def several(game: str, num_envs: int, **changes: Any) -> AtariGames:
    return AtariGames(num_envs, game, **{**OPTIONS, **changes})


def play(env: gymnasium.Env, steps: int, seed: int = 0) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(seed)
    played = []
    for _ in range(steps):
        seen, reward, terminated, truncated, info = env.step(rng.integers(env.action_space.n))
        played.append((seen, reward, terminated, info["lives"]))
        if terminated or truncated:
            break
    return played


def test_areas_are_shared_out_exactly() -> None:
    np.testing.assert_allclose(
        area_weights(5, 2), [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], atol=1e-7
    )
    np.testing.assert_allclose(area_weights(210, 84).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("game", ["pong", "breakout", "space_invaders"])
def test_one_game_is_what_the_native_form_shows(game: str) -> None:
    """Frame by frame, grey level by grey level: rounding may differ by one in one pixel of 1000."""
    env = FrameStack(one(game, max_noops=1), size=4)
    native = several(game, 1, max_noops=1, frame_stack=4)
    assert env.observation_space == native.single_observation_space
    assert env.action_space == native.single_action_space
    seen, info = env.reset(seed=0)
    shown, infos = native.reset(seed=[0])
    rng = np.random.default_rng(1)
    differing = 0.0
    for _ in range(150):
        difference = np.abs(seen.astype(int) - shown[0])
        assert difference.max() <= 1
        differing = max(differing, (difference > 0).mean())
        assert info["lives"] == infos["lives"][0]
        action = rng.integers(env.action_space.n)
        seen, reward, terminated, _, info = env.step(action)
        shown, rewards, ends, _, infos = native.step(np.array([action]))
        assert (reward, terminated) == (rewards[0], ends[0])
        if terminated:
            break
    assert differing < 1e-3
    native.close()


@pytest.mark.parametrize("frame_stack", [1, 4])
def test_stacks_begin_with_the_first_frame_of_each_game(frame_stack: int) -> None:
    native = several("breakout", 2, frame_stack=frame_stack, max_episode_steps=6)
    shape = (2, 4, 84, 84) if frame_stack == 4 else (2, 84, 84)
    seen, _ = native.reset(seed=[3, 4])
    history: list[Any] = [seen.copy()]
    for step in range(1, 13):
        seen, _, _, truncated, _ = native.step(np.array([1, 2]))
        assert seen.shape == shape
        assert truncated.tolist() == [step % 7 == 6] * 2
        history = [seen.copy()] if step % 7 == 0 else [*history, seen.copy()]
        if frame_stack == 1:
            continue
        for age in range(4):  # the newest frame is the last
            source = history[max(len(history) - 1 - age, 0)]
            np.testing.assert_array_equal(seen[:, 3 - age], source[:, 3])
    native.close()


def test_seeds_decide_how_games_open_each_its_own() -> None:
    native = several("pong", 3)
    frames = [native.reset(seed=[7, 8, 7])[1]["episode_frame_number"].tolist() for _ in range(2)]
    assert frames[0] == frames[1]
    assert frames[0][0] == frames[0][2] != frames[0][1]
    native.close()


def test_a_seed_repeats_a_game_sticky_actions_included() -> None:
    env = one("pong", sticky_actions=0.25)
    runs = []
    for seed in (1, 1, 2):
        first, _ = env.reset(seed=seed)
        runs.append([first.tobytes()] + [step[0].tobytes() for step in play(env, 40)])
    assert runs[0] == runs[1] != runs[2]


def test_actions_stick_as_often_as_asked() -> None:
    env = one("pong", sticky_actions=0.5, frame_skip=1, max_noops=1)
    pressed: list[Any] = []

    class Pad:
        """Writes down what is pressed, in the emulator's place."""

        def __init__(self, emulator: Any) -> None:
            self.emulator = emulator

        def __getattr__(self, name: str) -> Any:
            return getattr(self.emulator, name)

        def act(self, action: Any) -> Any:
            pressed.append(action)
            return self.emulator.act(action)

    env._emulator = Pad(env._emulator)
    env.reset(seed=0)
    pressed.clear()
    wanted = [env._actions[step % 2 * 3] for step in range(600)]
    for step in range(600):
        env.step(np.int64(step % 2 * 3))
    stuck = np.mean([did != should for did, should in zip(pressed, wanted, strict=True)])
    # Alternating: the action before is pressed where the coin fell once, not twice, and so on.
    assert 0.28 < stuck < 0.39  # 1 - 1 / (1 + 1/2) = 1/3


@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
def test_games_can_be_played_again(sticky_actions: float) -> None:
    assert can_be_restored(partial(one, "breakout", sticky_actions=sticky_actions), [])


def test_other_atari_games_are_seeded_once() -> None:
    """ale-py's environments load the game again for every seed."""
    told = Slot(partial(gymnasium.make, "ALE/Pong-v5")).describe()
    assert not told.seeds_episodes
    assert Slot(partial(one, "pong")).describe().seeds_episodes


def test_keywords_do_what_they_say() -> None:
    assert one("pong", all_actions=True).action_space == spaces.Discrete(18)
    assert one("pong", size=42).observation_space.shape == (42, 42)
    with_fire, without = (one("breakout", max_noops=1, fire_on_reset=f) for f in (True, False))
    balls = [env.reset(seed=0) and play_idle(env, 20) for env in (with_fire, without)]
    assert balls[0] != balls[1]  # the ball is in play
    assert one("pong", frame_skip=2).metadata["render_fps"] == 30


def play_idle(env: gymnasium.Env, steps: int) -> bytes:
    return b"".join(env.step(np.int64(0))[0].tobytes() for _ in range(steps))


def test_a_game_is_drawn_in_colour() -> None:
    env = one("pong", render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()
    assert (frame.shape, frame.dtype) == ((210, 160, 3), np.uint8)


def test_rewards_are_raw_in_both_forms() -> None:
    """Rows of space invaders are worth 5 to 30 points."""
    env, native = one("space_invaders"), several("space_invaders", 2)
    env.reset(seed=0)
    native.reset(seed=0)
    assert {step[1] for step in play(env, 300)} - {0.0, 1.0}
    rng = np.random.default_rng(0)
    paid = {int(r) for _ in range(300) for r in native.step(rng.integers(6, size=2))[1]}
    assert paid - {0, 1}
    native.close()


def test_the_native_form_of_others_may_not_clip(refusal) -> None:
    message = refusal(id="ALE/Pong-v5", packages=["ale_py"], vectorization="native")
    assert "env=atari" in message
    assert "+env.kwargs.reward_clipping=false" in message
    assert AtariVectorEnv  # what it is about


def test_the_module_registers_every_game_once() -> None:
    ids = [id for id in gymnasium.registry if id.startswith("Atari/")]
    theirs = [id for id in gymnasium.registry if id.startswith("ALE/")]
    assert len(ids) == len(theirs) > 100
    assert "Atari/SpaceInvaders-v0" in ids


@pytest.mark.parametrize("vectorization", ["sync", "async", "native"])
def test_all_forms_make_the_same_spaces(vectorization: str, make) -> None:
    environments = make(
        id="Atari/Pong-v0",
        packages=["envs.games.atari"],
        kwargs=OPTIONS,
        vectorization=vectorization,
        frame_stack=1,
        time_limit=10,
    )
    assert environments.single_observation_space == spaces.Box(0, 255, (84, 84), np.uint8)
    assert environments.single_action_space == spaces.Discrete(6)
    observations, infos = environments.reset(seed=1)
    assert observations.dtype == np.uint8
    assert infos["lives"].tolist() == [0, 0]
    ends = [environments.step(np.array([0, 1]))[3].all() for _ in range(12)]
    assert [step for step, ended in enumerate(ends) if ended] == [9]
