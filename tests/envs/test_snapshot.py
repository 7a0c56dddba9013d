"""Environments are brought back by playing again, bit for bit, or it is said that they are not."""

import itertools
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation, StickyAction

import envs  # noqa: F401 (registers the tasks)
from envs.seeding import episode_seed, reset_with_seeds
from envs.vector import slot
from envs.vector.base import SlotVectorEnv
from envs.vector.slot import can_be_restored
from envs.vector.snapshot import decoded, encoded
from envs.wrappers.pomdp import MaskVelocity
from envs.wrappers.sensors import Delay, Flicker, Noise, StickyActions
from tests.envs.misbehaving import Misbehaving, Sampling, Steady, Told

KINDS = ("sync", "async")


class OwnNoise(gymnasium.ObservationWrapper):
    """Adds noise of a generator of its own, which no seed of a reset reaches."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.generator = np.random.default_rng(0)

    def observation(self, observation):
        return observation + np.float32(self.generator.normal())


class SeededNoise(gymnasium.ObservationWrapper):
    """Adds noise of the environment's generator, as a wrapper's `np_random` is."""

    def observation(self, observation):
        return observation + np.float32(self.np_random.normal())


class Sticking(gymnasium.Wrapper):
    """Acts at random every now and then, by its action space."""

    def step(self, action):
        chance = self.env.action_space.sample()
        return self.env.step(chance if chance == 0 else action)


class Hidden(Steady):
    """Something lives on from episode to episode that nobody can see."""

    def __init__(self) -> None:
        super().__init__(length=5)
        self.hidden = itertools.count()

    def shown(self):
        return np.float32([0, next(self.hidden)])


class Late(Steady):
    """Shows the same in every episode, but for the reward, which grows with the episodes."""

    def shown(self):
        return np.float32([0, self.steps])

    def step(self, action):
        shown, _, *rest = super().step(action)
        return shown, float(self.resets), *rest


class Deaf(Told):
    """Says what it remembers in a way that no file can hold."""

    def state_dict(self):
        return {"resets": {self.resets}}


class Global(Steady):
    """Draws from the random state of the whole process."""

    def shown(self):
        return np.random.rand(2).astype(np.float32)  # noqa: NPY002 (environments do)


class Unseeded(Steady):
    """Makes its own generator, from nowhere, and never seeds it."""

    def __init__(self) -> None:
        super().__init__(length=6)
        self.own = np.random.default_rng()

    def shown(self):
        return self.own.normal(size=2).astype(np.float32)


class SeededOnce(gymnasium.Wrapper):
    """Takes the first seed alone, as where a reset with a seed takes long."""

    seeds_episodes = False


class Reborn(Steady):
    """Makes a new generator in every reset."""

    own = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.own = np.random.default_rng(self.np_random.integers(2**31))
        return self.shown(), {}

    def shown(self):
        return np.float32([self.steps, 0 if self.own is None else self.own.normal()])


class Belated(Reborn):
    """Opens an episode with what the last one left, and makes the generator after that."""

    def reset(self, *, seed=None, options=None):
        shown = self.shown()
        super().reset(seed=seed)
        return shown, {}


def wrapped(id: str, *wraps: Callable[[gymnasium.Env], gymnasium.Env], **kwargs) -> gymnasium.Env:
    environment = gymnasium.make(id, disable_env_checker=True, **kwargs)
    for wrap in wraps:
        environment = wrap(environment)
    return environment


EXACT: dict[str, Callable[[], gymnasium.Env]] = {
    **{
        id: partial(wrapped, id)
        for id in ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "FrozenLake-v1")
    },
    "Taxi-v4": partial(wrapped, "Taxi-v4"),
    "Blackjack-v1": partial(wrapped, "Blackjack-v1", FlattenObservation),
    "masked": partial(wrapped, "CartPole-v1", partial(MaskVelocity, dimensions=None)),
    "sticky": partial(
        wrapped, "MountainCar-v0", partial(StickyAction, repeat_action_probability=0.5)
    ),
    "counting": partial(wrapped, "tests.counting:neurl/Counting-v0"),
    "never ending": partial(wrapped, "neurl/Endless-v0", limit=None),
    "one step": partial(wrapped, "neurl/ObservationReward-v0"),
    "sampled spaces": partial(Sampling, observations="dict", actions="discrete"),
    "says it itself": Told,
    "reborn": Reborn,
    "flicker": partial(
        wrapped, "CartPole-v1", partial(Flicker, probability=0.5, shows="stale"), SeededNoise
    ),
    "delay and noise": partial(
        wrapped, "Pendulum-v1", partial(Noise, std=0.1), partial(Delay, steps=3, is_random=True)
    ),
    "sticky by our wrapper": partial(
        wrapped, "MountainCar-v0", partial(StickyActions, probability=0.5)
    ),
    "sampled in a wrapper": partial(wrapped, "CartPole-v1", Sticking),
}
INEXACT: dict[str, Callable[[], gymnasium.Env]] = {
    "hidden": Hidden,
    "late": Late,
    "told in vain": Deaf,
    "global": Global,
    "steady": Steady,
    "unseeded": Unseeded,
    "belated": Belated,
    "noise of its own": partial(wrapped, "CartPole-v1", OwnNoise),
    "seeded once": partial(wrapped, "CartPole-v1", SeededOnce),
}


@pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
def test_environments_that_can_be_restored(make) -> None:
    assert can_be_restored(make, [])


@pytest.mark.parametrize("make", INEXACT.values(), ids=INEXACT)
def test_environments_that_cannot_be_restored(make) -> None:
    assert not can_be_restored(make, [])


def test_lunar_lander() -> None:
    pytest.importorskip("Box2D")
    assert can_be_restored(partial(wrapped, "LunarLander-v3"), [])


def test_an_environment_that_there_is_one_of_cannot_be_made_anew() -> None:
    environment = gymnasium.make("CartPole-v1")
    assert not can_be_restored(lambda: environment, [])


@pytest.mark.parametrize("what", ["raises", "reset raises", "observation: ragged"])
def test_what_fails_cannot_be_restored(what: str) -> None:
    assert not can_be_restored(partial(Misbehaving, what), [])


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    return np.array(value)


def play(environments: SlotVectorEnv, actions: np.ndarray) -> list[Any]:
    return [[copied(each) for each in environments.step(action)] for action in actions]


def through_a_file(snapshots: Any) -> Any:
    return json.loads(json.dumps(snapshots))


def actions_for(environments: SlotVectorEnv, steps: int) -> np.ndarray:
    environments.action_space.seed(1)
    return np.array([environments.action_space.sample() for _ in range(steps)])


@pytest.mark.parametrize("name", EXACT)
def test_what_is_restored_goes_on_as_if_nothing_had_been(name: str) -> None:
    """After any number of steps: right after resets, within episodes, at ends."""
    makers = [EXACT[name]] * 2
    one = SlotVectorEnv(makers, on_failure="stop")
    other = SlotVectorEnv(makers, on_failure="stop")
    reset_with_seeds(one, [1, 2])
    reset_with_seeds(other, [8, 9])
    other.step(actions_for(other, 1)[0])
    actions = actions_for(one, 760)
    for steps in (0, 1, 2, 3, 40, 213, 300):
        play(one, actions[:steps])
        snapshots = one.snapshot()
        assert other.restore(through_a_file(snapshots)) == [True, True], steps
        np.testing.assert_equal(other.current_observations(), one.current_observations())
        assert other.snapshot() == snapshots
        np.testing.assert_equal(play(other, actions[-100:]), play(one, actions[-100:]))
    one.close()
    other.close()


@pytest.mark.parametrize("name", ["CartPole-v1", "counting", "sampled spaces", "delay and noise"])
def test_workers_are_restored_too_and_from_either_kind(vector, name: str) -> None:
    makers = [EXACT[name]] * 2
    one, other = (vector(kind, *makers) for kind in KINDS)
    actions = actions_for(one, 350)
    for environments in (one, other):
        reset_with_seeds(environments, [1, 2])
        play(environments, actions[:250])
    assert one.snapshot() == other.snapshot()
    snapshots = through_a_file(one.snapshot())
    expected = play(one, actions[250:])
    for kind in KINDS:
        again = vector(kind, *makers)
        reset_with_seeds(again, [5, 6])
        assert again.restore(snapshots) == [True, True]
        np.testing.assert_equal(play(again, actions[250:]), expected)


@pytest.mark.parametrize(("kind", "is_exact"), [("sync", False), ("async", True)])
def test_a_worker_seeds_the_global_generators(vector, kind: str, is_exact: bool) -> None:
    """Environments of one process share them."""
    one = vector(kind, Global)
    reset_with_seeds(one, [1])
    play(one, np.full((7, 1), 3))
    snapshots = through_a_file(one.snapshot())
    expected = play(one, np.full((20, 1), 3))
    assert one.restore(snapshots) == [is_exact]
    if is_exact:
        np.testing.assert_equal(play(one, np.full((20, 1), 3)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_restored_starts_anew_with_a_seed_of_its_own(vector, kind: str) -> None:
    one = vector(kind, Hidden, Hidden)
    reset_with_seeds(one, [1, 2])
    play(one, np.full((7, 2), 3))
    snapshots = through_a_file(one.snapshot())
    seeds = []
    for _ in range(2):  # however often it is resumed at the same point
        again = vector(kind, Hidden, Hidden)
        reset_with_seeds(again, [1, 2])
        assert again.restore(snapshots) == [False, False]
        assert again.current_observations()[:, 0].tolist() == [0, 0]
        seeds.append([each["seed"] for each in again.snapshot()])
        assert play(again, np.full((1, 2), 3))[0][1].tolist() == [1, 1]  # none waits for a reset
        assert [each["slot"]["steps"] for each in again.snapshot()] == [1, 1]
    assert seeds[0] == seeds[1]
    assert len({1, 2, *seeds[0]}) == 4
    # Resumed where that went on, it is another seed again.
    assert again.restore(through_a_file(again.snapshot())) == [False, False]
    assert set(seeds[0]).isdisjoint(each["seed"] for each in again.snapshot())


def test_only_those_start_anew_that_cannot_be_restored(vector) -> None:
    one = vector("sync", *[EXACT["CartPole-v1"]] * 3)
    reset_with_seeds(one, [1, 2, 3])
    actions = actions_for(one, 130)
    play(one, actions[:30])
    snapshots = through_a_file(one.snapshot())
    expected = play(one, actions[30:])
    snapshots[0]["slot"]["observation"] += 1  # it comes out otherwise
    snapshots[2]["slot"]["actions"] = None  # too many to be kept
    again = vector("sync", *[EXACT["CartPole-v1"]] * 3)
    reset_with_seeds(again, [1, 2, 3])
    assert again.restore(snapshots) == [False, True, False]
    for mine, its in zip(play(again, actions[30:]), expected, strict=True):
        for each, other in zip(mine[:4], its[:4], strict=True):
            np.testing.assert_array_equal(each[1], other[1])


@pytest.mark.parametrize("what", ["is_over", "return", "observation", "states", "steps"])
def test_every_difference_is_noticed(vector, what: str) -> None:
    environments = vector("sync", EXACT["CartPole-v1"])
    reset_with_seeds(environments, [1])
    play(environments, actions_for(environments, 5))
    snapshots = through_a_file(environments.snapshot())
    changed = {"is_over": True, "return": 4.0, "observation": 0, "states": {"0": 1}, "steps": 4}
    assert changed[what] != snapshots[0]["slot"][what]
    snapshots[0]["slot"][what] = changed[what]
    assert environments.restore(snapshots) == [False]


def test_an_episode_longer_than_the_record_cannot_be_restored(vector, monkeypatch) -> None:
    monkeypatch.setattr(slot, "MAX_RECORDED_STEPS", 300)
    environments = vector("sync", EXACT["never ending"])
    reset_with_seeds(environments, [1])
    actions = actions_for(environments, 400)
    play(environments, actions[:300])
    assert environments.restore(through_a_file(environments.snapshot())) == [True]
    play(environments, actions[:1])
    snapshots = through_a_file(environments.snapshot())
    assert snapshots[0]["slot"]["actions"] is None
    assert environments.restore(snapshots) == [False]


def test_seeds_and_restarts_go_on(vector) -> None:
    one = vector("sync", partial(Misbehaving, "raises", length=None), on_failure="restart")
    reset_with_seeds(one, [1])
    play(one, np.full((7, 1), 2))
    again = vector("sync", partial(Misbehaving, "raises", length=None), on_failure="restart")
    again.restore(through_a_file(one.snapshot()))
    assert again.restarts == one.restarts == 2


def test_restoring_makes_nothing_but_the_trial(vector) -> None:
    made = []

    def make() -> gymnasium.Env:
        made.append(Told())
        return made[-1]

    one = vector("sync", make, make)
    reset_with_seeds(one, [1, 2])
    made.clear()
    assert one.restore(through_a_file(one.snapshot())) == [True, True]
    assert len(made) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["CartPole-v1", "flicker", "sampled spaces"])
def test_an_episode_is_a_function_of_its_seed(vector, kind: str, name: str) -> None:
    """Of the environment's seed and the episode's number, whatever was played before it."""
    one, other = (vector(kind, *[EXACT[name]] * 2) for _ in range(2))
    actions = actions_for(one, 300)
    reset_with_seeds(one, [1, 2])
    ends = played = 0
    while ends < 3:  # environment 0 plays three episodes, and the next step opens the fourth
        _, _, terminated, truncated, _ = one.step(actions[played])
        ends, played = ends + int(terminated[0] | truncated[0]), played + 1
    seen = [one.step(actions[played])[0], other.reset(seed=[episode_seed(1, 3), 9])[0]]
    for action in actions[:10]:
        rows = [parts_of(each) for each in seen]
        assert [each.tolist() for each in rows[0]] == [each.tolist() for each in rows[1]]
        seen, rewards, terminated, truncated, _ = zip(
            one.step(action), other.step(action), strict=True
        )
        assert rewards[0][0] == rewards[1][0]
        if terminated[0][0] or truncated[0][0]:
            break


def parts_of(observations: Any) -> list[np.ndarray]:
    """What environment 0 shows."""
    parts = observations.values() if isinstance(observations, dict) else [observations]
    return [part[0] for part in parts]


def test_an_environment_may_be_seeded_once(vector) -> None:
    seeds = []

    class Listening(Steady):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=seed)

    for wrap, expected in ((SeededOnce, None), (gymnasium.Wrapper, episode_seed(5, 1))):
        seeds.clear()
        environments = vector("sync", lambda wrap=wrap: wrap(Listening(length=1)))
        environments.reset(seed=5)
        play(environments, np.full((2, 1), 2))
        environments.reset(seed=7)
        assert seeds == [5, expected, 7]
    assert environments.reset() is not None
    assert seeds[-1] == episode_seed(7, 1)


def test_as_many_snapshots_as_environments(vector) -> None:
    environments = vector("sync", Steady, Steady)
    environments.reset(seed=0)
    with pytest.raises(ValueError, match="expected 2 snapshots, got 1"):
        environments.restore(environments.snapshot()[:1])


# ---- the parts


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.array([0.1, np.pi], np.float32),
        np.zeros((0, 2), np.float64),
        np.array([1, 2], ">i4"),
        np.arange(6)[::2],
    ],
)
def test_arrays_survive_a_file(array) -> None:
    again = decoded(through_a_file(encoded(array)))
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    np.testing.assert_array_equal(again, array)
