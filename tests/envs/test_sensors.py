"""Unreliable sensors and actuators: how often, what is seen instead, and that seeds decide."""

import json
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs  # noqa: F401 (registers the tasks)
from envs.wrappers.pomdp import MaskVelocity
from envs.wrappers.sensors import Delay, Flicker, Noise, StickyActions
from tests.envs.conftest import make_with


class Clock(gymnasium.Env):
    """Shows the step, counted from 1, as a number, a code and a byte; remembers its actions."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "number": spaces.Box(1, 9_999, (1,), np.float32),
                "code": spaces.Discrete(9_999, start=1),
                "byte": spaces.Box(0, 255, (1,), np.uint8),
            }
        )
        self.action_space = spaces.Discrete(1_000)

    def _show(self) -> dict[str, Any]:
        self.number[:] = self.time  # always the same array
        code = np.int64(self.time)
        return {"number": self.number, "code": code, "byte": np.uint8([self.time % 256])}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time, self.number, self.actions = 1, np.zeros(1, np.float32), []
        return self._show(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        self.actions.append(int(action))
        return self._show(), 0.0, False, False, {}


def watch(environment: gymnasium.Env, steps: int, seed: int | None = 0) -> list[dict[str, Any]]:
    seen = [environment.reset(seed=seed)[0]]
    seen += [environment.step(step)[0] for step in range(steps)]
    assert all(environment.observation_space.contains(each) for each in seen)
    return seen


def times(seen: list[dict[str, Any]]) -> list[int]:
    return [int(each["number"][0]) for each in seen]


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flicker_blanks_whole_observations_at_its_rate(probability: float) -> None:
    seen = watch(Flicker(Clock(), probability=probability, shows="blank"), 2_000)
    lost = np.array(times(seen)) == 0
    assert abs(lost.mean() - probability) < 0.05
    for time, each in enumerate(seen, start=1):
        expected = [0, 1, 0] if each["number"] == 0 else [time, time, time % 256]
        assert [int(each[key].item()) for key in ("number", "code", "byte")] == expected


def test_flicker_shows_the_last_one_that_was_not_lost() -> None:
    seen = times(watch(Flicker(Clock(), probability=0.5, shows="stale"), 300))
    assert seen[0] == 1
    for time, (before, now) in enumerate(pairwise(seen), start=2):
        assert now in (before, time)
    assert 100 < len({*seen}) < 200
    always = watch(Flicker(Clock(), probability=1.0, shows="stale"), 5)
    assert times(always) == [1] * 6


def test_noise_is_gaussian_and_for_numbers_alone() -> None:
    seen = watch(Noise(Clock(), std=2.0), 4_000)
    errors = np.array([each["number"][0] - time for time, each in enumerate(seen, start=1)])
    assert abs(errors.mean()) < 0.15
    assert abs(errors.std() - 2) < 0.15
    assert abs(np.corrcoef(errors[1:], errors[:-1])[0, 1]) < 0.1
    assert [each["code"] for each in seen] == list(range(1, 4_002))
    assert seen[0]["number"].dtype == np.float32
    with pytest.raises(ValueError, match=r"^pomdp\.noise: expected observations with numbers"):
        Noise(gymnasium.make("neurl/TMaze-v0"), std=1.0)


def test_a_fixed_delay() -> None:
    delayed = Delay(Clock(), steps=3, is_random=False)
    for _ in range(2):  # a reset forgets
        assert times(watch(delayed, 6)) == [1, 1, 1, 1, 2, 3, 4]


def test_a_random_delay_never_goes_back() -> None:
    seen = np.array(times(watch(Delay(Clock(), steps=3, is_random=True), 3_000)))
    ages = np.arange(1, 3_002) - seen
    assert set(ages) == {0, 1, 2, 3}
    assert np.all(np.diff(seen) >= 0)
    assert 0.2 < (ages == 0).mean() < 0.3


def test_actions_stick_at_their_rate_and_not_over_a_reset() -> None:
    clock = Clock()
    sticky = StickyActions(clock, probability=0.25)
    watch(sticky, 4_000 - 1)
    done = clock.actions
    given = list(range(3_999))
    assert done[0] == 0
    stuck = [now != want for now, want in zip(done, given, strict=True)]
    assert abs(np.mean(stuck) - 0.25) < 0.03
    for before, now, want in zip(done, done[1:], given[1:], strict=False):
        assert now in (before, want)
    always = StickyActions(clock, probability=1.0)
    for first in (5, 7):
        always.reset()
        for action in (first, 8, 9):
            always.step(action)
        assert clock.actions == [first] * 3


RANDOM = {
    "flicker": partial(Flicker, probability=0.5, shows="blank"),
    "stale": partial(Flicker, probability=0.5, shows="stale"),
    "noise": partial(Noise, std=0.3),
    "delay": partial(Delay, steps=3, is_random=True),
    "sticky": partial(StickyActions, probability=0.5),
}


@pytest.mark.parametrize("wrap", RANDOM.values(), ids=RANDOM)
def test_seeds_decide(wrap: Any) -> None:
    def run(environment: gymnasium.Env, seed: int | None) -> str:
        seen = watch(environment, 40, seed)
        return str([*seen, environment.unwrapped.actions])

    environment = wrap(Clock())
    first = run(environment, 3)
    assert run(environment, None) != first  # the generator goes on
    assert run(environment, 3) == first == run(wrap(Clock()), 3)
    assert run(environment, 4) != first


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_the_twins_of_several_are_shown_together(vectorization: str) -> None:
    masked = make_with(pomdp=[RANDOM["flicker"], RANDOM["delay"]], vectorization=vectorization)
    plain = make_with()
    full = plain.reset(seed=[1, 2])[0]
    masked.reset(seed=[1, 2])
    assert masked.full_observation_space == plain.single_observation_space
    assert plain.full_observation_space is None
    for _ in range(5):
        np.testing.assert_array_equal(masked.full_observation(), full)
        full = plain.step(np.array([0, 1]))[0]
        masked.step(np.array([0, 1]))
    masked.close()
    task = make_with(id="neurl/TMaze-v0", vectorization=vectorization)
    task.reset(seed=[1, 2])
    observation, hidden = (task.full_observation()[key] for key in ("observation", "hidden"))
    np.testing.assert_array_equal(observation, hidden)  # the start shows the goal
    task.close()


@pytest.mark.parametrize("wrap", RANDOM.values(), ids=RANDOM)
def test_the_environment_keeps_its_own_numbers(wrap: Any) -> None:
    wrapped, plain = wrap(gymnasium.make("CartPole-v1")), gymnasium.make("CartPole-v1")
    for environment in (wrapped, plain):
        environment.reset(seed=0)
        for _ in range(5):
            environment.step(1)
    assert wrapped.np_random.bit_generator.state == plain.np_random.bit_generator.state


def test_wrappers_draw_different_numbers() -> None:
    both = Flicker(Noise(gymnasium.make("CartPole-v1"), std=1.0), probability=0.5, shows="blank")
    both.reset(seed=0)
    streams = {layer._random.bit_generator.state["state"]["inc"] for layer in (both, both.env)}
    assert len(streams) == 2  # however many were drawn


@pytest.mark.parametrize("wrap", RANDOM.values(), ids=RANDOM)
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_episodes_resume_bit_for_bit(wrap: Any, vectorization: str) -> None:
    pomdp = [partial(MaskVelocity, dimensions=None), wrap]
    kwargs = {"pomdp": pomdp, "vectorization": vectorization, "frame_stack": 2}
    one, other = make_with(**kwargs), make_with(**kwargs)
    random = np.random.default_rng(0)
    one.reset(seed=[1, 2])
    for _ in range(37):
        one.step(random.integers(2, size=2))
    snapshots = json.loads(json.dumps(one.snapshot()))
    assert other.restore(snapshots) == [True, True]
    for _ in range(60):
        actions = random.integers(2, size=2)
        for mine, its in zip(one.step(actions)[:4], other.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(mine, its)
    one.close()
    other.close()
