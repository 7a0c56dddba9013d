"""Environments that step together: the same stream in this process and in workers, whatever fails.

`misbehaving` has the environments. More of this, with the marker `faults`, is in `tests/faults`.
"""

import json
import logging
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.seeding import episode_seed, reset_with_seeds
from envs.vector.base import SlotVectorEnv
from envs.vector.failures import EnvironmentFailure
from envs.wrappers.pomdp import MaskVelocity
from tests.envs.misbehaving import (
    OBSERVATIONS,
    REWARDS,
    SPACES,
    Growing,
    Infoless,
    Misbehaving,
    Reusing,
    Sampling,
    Steady,
    Telling,
)

KINDS = ("sync", "async")
ZEROS = np.array([2, 2])


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    return np.array(value)


def stream(environments: SlotVectorEnv, steps: int, *, seed: int = 3) -> list[Any]:
    """Everything that comes of random actions."""
    seeds = [seed + index for index in range(environments.num_envs)]
    seen = [copied(each) for each in reset_with_seeds(environments, seeds)]
    for _ in range(steps):
        seen += [copied(each) for each in environments.step(environments.action_space.sample())]
    return seen


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_equal(one[name], other[name])
    else:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def assert_same_streams(one: SlotVectorEnv, other: SlotVectorEnv, *, steps: int) -> None:
    for mine, its in zip(stream(one, steps), stream(other, steps), strict=True):
        assert_equal(mine, its)


@pytest.mark.parametrize("name", SPACES)
def test_sync_and_async_give_the_same_stream(vector, name: str) -> None:
    """Every space is an observation once, and an action where it can be; episodes end at random."""
    actions = name if name not in ("dict", "uint8", "bool", "float16") else "float32"
    makers = [partial(Sampling, observations=name, actions=actions)] * 2
    one, other = (vector(kind, *makers) for kind in KINDS)
    assert_same_streams(one, other, steps=40)
    assert one.observation_space.contains(one.current_observations())


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "CartPole-v1", "frame_stack": 3, "previous_action": True, "previous_reward": True},
        {"id": "Pendulum-v1", "time_limit": 7, "pomdp": [partial(MaskVelocity, dimensions=[2])]},
        {"id": "FrozenLake-v1", "wrappers": [gymnasium.wrappers.TimeAwareObservation]},
        {"id": "Blackjack-v1", "previous_action": True},
        {"id": "neurl/Counting-v0", "kwargs": {"lengths": [1, 2]}},
    ],
    ids=lambda changes: changes["id"],
)
# Some of them are not what Gymnasium's checker, which watches the first one, would like best.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_layers_give_the_same_stream(make, changes: dict[str, Any]) -> None:
    one, other = (make(vectorization=kind, **changes) for kind in KINDS)
    assert one.has_raw_statistics == other.has_raw_statistics == bool(changes.get("wrappers"))
    if "wrappers" not in changes:  # else infos hold times
        assert_same_streams(one, other, steps=60)
        return
    mine, its = stream(one, 60), stream(other, 60)
    for each, other_each in zip(mine, its, strict=True):
        if not isinstance(each, dict):
            assert_equal(each, other_each)
        elif "raw_episode" in each:
            assert_equal(each["raw_episode"]["r"], other_each["raw_episode"]["r"])
    assert any("raw_episode" in each for each in mine if isinstance(each, dict))


class Seeded(gymnasium.Wrapper):
    """Seeds every reset as our vector environments do."""

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.seed, self.episode = seed, -1
        self.episode += 1
        return self.env.reset(seed=episode_seed(self.seed, self.episode), options=options)


def test_the_stream_is_gymnasiums_but_for_the_seeds(vector) -> None:
    def maker() -> gymnasium.Env:
        return gymnasium.make("CartPole-v1")

    ours = vector("sync", *[maker] * 3)
    theirs = SyncVectorEnv([lambda: Seeded(maker())] * 3)
    assert ours.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    for mine, its in zip(stream(ours, 100), stream(theirs, 100), strict=True):
        assert_equal(mine, its)
    theirs.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_after_an_end_resets_and_ignores_the_action(vector, kind: str) -> None:
    environments = vector(kind, partial(Steady, length=2), partial(Steady, length=1))
    rows = [environments.reset(seed=0)[0].tolist()]
    for _ in range(4):
        observations, rewards, terminated, truncated, infos = environments.step(ZEROS)
        rows.append([observations.tolist(), rewards.tolist(), terminated.tolist()])
        assert not truncated.any()
        assert infos == {}
    assert rows == [
        [[1, 0], [1, 0]],
        [[[1, 1], [1, 1]], [1, 1], [False, True]],
        [[[1, 2], [2, 0]], [1, 0], [True, False]],
        [[[2, 0], [2, 1]], [0, 1], [False, True]],
        [[[2, 1], [3, 0]], [1, 0], [False, False]],
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_end_is_told_as_it_is_and_followed_by_a_reset(vector, kind: str) -> None:
    flags = ((False, True), (True, True), (True, False))
    environments = vector(kind, *(partial(Steady, length=2, flags=each) for each in flags))
    environments.reset(seed=0)
    for step in range(6):
        observations, _, *found, _ = environments.step(np.array([2, 2, 2]))
        expected = flags if step % 3 == 1 else [(False, False)] * 3
        assert list(zip(*(each.tolist() for each in found), strict=True)) == list(expected)
        assert observations[:, 1].tolist() == [[1, 2, 0][step % 3]] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_environments_that_reuse_and_change_arrays_do_no_harm(vector, kind: str) -> None:
    tidy = vector("sync", *[partial(Reusing, copies=True)] * 2)
    untidy = vector(kind, *[partial(Reusing, copies=False)] * 2)
    assert_same_streams(tidy, untidy, steps=20)
    actions = np.full((2, 2), 0.5, np.float32)
    actions.flags.writeable = False
    untidy.step(actions)


@pytest.mark.parametrize("kind", KINDS)
def test_odd_infos_are_told_as_far_as_they_can_be(vector, kind: str) -> None:
    environments = vector(kind, *[partial(Telling, length=None)] * 2, partial(Steady, length=3))
    environments.reset(seed=0)
    told = [environments.step(np.full(3, 2))[4] for _ in range(12)]
    assert told[5]["x"].tolist() == [1, 1, 0]
    assert told[5]["_x"].tolist() == [True, True, False]
    assert told[5]["nested"]["a"]["b"].tolist() == [1, 1, 0]
    assert told[0]["text"].tolist() == [1.0, 1.0, 0.0]
    assert all("restarted" not in infos for infos in told)  # a word of ours


@pytest.mark.parametrize("kind", KINDS)
def test_infos_that_differ_between_environments_do_no_harm(vector, kind: str) -> None:
    environments = vector(kind, Telling, partial(Telling, length=3), Infoless)
    environments.reset(seed=0)
    told = [environments.step(np.full(3, 2))[4] for _ in range(30)]
    assert any("x" in infos for infos in told)


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_that_does_not_fit_is_refused(vector, kind: str) -> None:
    environments = vector(kind, Steady, Steady)
    environments.reset(seed=0)
    for actions in (np.zeros(3, np.int64), np.zeros(2), [0.5, 1.0], np.zeros((2, 1), np.int64)):
        with pytest.raises(ValueError, match="expected actions of dtype int64 and shape"):
            environments.step(actions)
    environments.step([2, 3])
    environments.step(np.array([2, 3], np.int32))


def test_resets(vector) -> None:
    environments = vector("sync", Steady, Steady)
    for seed, resets in ((None, 1), (None, 2), (5, 3), ([1, 2], 4), ([None, 2], 5)):
        assert environments.reset(seed=seed)[0].tolist() == [[resets, 0]] * 2
    environments.step(ZEROS)
    with pytest.raises(ValueError, match="expected 2 seeds, got 3"):
        environments.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="no options"):
        environments.reset(options={"reset_mask": np.array([True, False])})


def test_all_kinds_tell_whether_they_count_raw_returns(make) -> None:
    layers = {"wrappers": [gymnasium.wrappers.TimeAwareObservation]}
    for kind in KINDS:
        assert make(vectorization=kind, num_envs=1, **layers).has_raw_statistics
        assert not make(vectorization=kind, num_envs=1).has_raw_statistics
    assert not hasattr(make(vectorization="native"), "has_raw_statistics")


def test_who_samples_from_the_spaces_disturbs_no_environment(vector) -> None:
    makers = [partial(Sampling, observations="float32", actions="discrete")] * 2
    left_alone, disturbed = vector("sync", *makers), vector("sync", *makers)
    for environments in (left_alone, disturbed):
        reset_with_seeds(environments, [1, 2])
    disturbed.single_observation_space.sample()
    SPACES["float32"].sample()
    actions = np.zeros(2, np.int64)
    for mine, its in zip(left_alone.step(actions), disturbed.step(actions), strict=True):
        np.testing.assert_equal(mine, its)


# ---- failures

BAD = {
    **{f"observation: {name}": "observation" for name in OBSERVATIONS},
    **{f"reward: {name}": "reward" for name in REWARDS},
    "raises": "ValueError: it broke in two",
    "asks to exit": "SystemExit: enough",
}


@pytest.mark.parametrize("what", BAD)
def test_a_failure_in_a_step_is_named(vector, what: str) -> None:
    environments = vector("sync", Steady, partial(Misbehaving, what))
    environments.reset(seed=7)
    for _ in range(2):
        environments.step(ZEROS)
    with pytest.raises(EnvironmentFailure) as caught:
        environments.step(np.array([2, 6]))
    message = str(caught.value)
    assert "\n" not in message
    start = "environment 1 (reset(seed=8), step 3 of its episode) failed in step with action 6: "
    assert message.startswith(start)
    assert BAD[what] in message
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("what", ["raises", "observation: nan", "reward: nothing", "exits"])
def test_a_failure_in_a_worker_is_named_alike(vector, what: str) -> None:
    messages = []
    for kind in KINDS if what != "exits" else ("async",):
        environments = vector(kind, Steady, partial(Misbehaving, what))
        environments.reset(seed=7)
        for _ in range(2):
            environments.step(ZEROS)
        with pytest.raises(EnvironmentFailure) as caught:
            environments.step(np.array([2, 6]))
        messages.append(str(caught.value))
    assert len(set(messages)) == 1
    if what == "exits":
        assert messages[0].endswith("WorkerLost: its process ended with exit code 3")
    if what == "raises":  # the traceback of the worker is not lost
        trace = caught.value.__cause__.__cause__
        assert "misbehaving.py" in str(trace)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["reset raises", "reset observation: nan"])
def test_a_failure_in_a_reset_is_named(vector, kind: str, what: str) -> None:
    environments = vector(kind, Steady, partial(Misbehaving, what))
    with pytest.raises(
        EnvironmentFailure, match=r"^environment 1 \(reset\(seed=1\)\) failed in reset: V"
    ):
        environments.reset(seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_environment_starts_anew_in_the_same_step(vector, kind: str, caplog) -> None:
    makers = [Steady, partial(Misbehaving, "raises", length=None), Steady]
    environments = vector(kind, *makers, on_failure="restart")
    environments.reset(seed=0)
    actions, rows = np.full(3, 2), []
    for _ in range(6):
        observations, rewards, terminated, truncated, infos = environments.step(actions)
        rows.append((observations[1].tolist(), rewards.tolist(), infos))
        assert terminated.tolist() == [len(rows) == 4, False, len(rows) == 4]
        assert not truncated.any()
    assert [row[0] for row in rows] == [[1, 1], [1, 2], [1, 0], [1, 1], [1, 2], [1, 0]]
    assert [row[1] for row in rows[2:5]] == [[1, 0, 1], [1, 1, 1], [0, 1, 0]]
    assert [index for index, row in enumerate(rows) if row[2]] == [2, 5]
    assert rows[2][2]["restarted"].tolist() == [False, True, False]
    assert environments.restarts == 2
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0] == (
        "environment 1 (reset(seed=1), step 3 of its episode) failed in step with action 2: "
        "ValueError: it broke in two (tests/envs/misbehaving.py:128 in raise_error); "
        "it starts anew"
    )
    assert lines[1] != lines[0]  # another seed
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("what", ["observation: nan", "reward: nan"])
def test_nothing_of_a_failed_step_remains(vector, what: str) -> None:
    class Talking(Misbehaving):
        def step(self, action):
            return (*super().step(action)[:4], {"told": 1.0, "nested": {"told": 1}})

    environments = vector("sync", Steady, lambda: Talking(what), on_failure="restart")
    environments.reset(seed=0)
    for _ in range(3):
        observations, rewards, _, _, infos = environments.step(ZEROS)
    assert observations.tolist() == [[1, 3], [1, 0]]
    assert rewards.tolist() == [1, 0]
    assert infos["restarted"].tolist() == [False, True]
    if "_told" in infos:
        assert not infos["_told"].any()
        assert not infos["nested"]["_told"].any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_that_fails_again_and_again_stops_the_run(vector, kind: str) -> None:
    environments = vector(kind, Steady, partial(Misbehaving, "reset raises"), on_failure="restart")
    with pytest.raises(EnvironmentFailure, match=r"3 failures in a row$"):
        environments.reset(seed=0)
    assert environments.restarts == 2


@pytest.mark.parametrize(
    ("kind", "what"), [("sync", "raises"), ("async", "raises"), ("async", "dies")]
)
def test_a_restarted_environment_has_the_same_spaces(
    vector, kind: str, what: str, tmp_path
) -> None:
    maker = partial(Growing, what, grown=tmp_path / "grown")
    environments = vector(kind, maker, on_failure="restart")
    environments.reset(seed=0)
    (tmp_path / "grown").touch()
    spaces = r"the action space Discrete\(6, start=2\), it had Discrete\(5, start=2\)"
    with pytest.raises(EnvironmentFailure, match=rf"RuntimeError: .* has {spaces}; 3 failures"):
        for _ in range(3):
            environments.step(ZEROS[:1])


def test_good_steps_make_up_for_failures(vector) -> None:
    environments = vector("sync", partial(Misbehaving, "raises", length=None), on_failure="restart")
    environments.reset(seed=0)
    for _ in range(50):
        environments.step(np.array([2]))
    assert environments.restarts == 16


def test_failures_without_a_good_step_between_them_add_up(vector) -> None:
    """Raises in every step: a reset alone is no good step."""
    broken = partial(Misbehaving, "raises", probability=1.1)
    environments = vector("sync", broken, on_failure="restart")
    environments.reset(seed=0)
    for _ in range(2):
        assert environments.step(np.array([2]))[4]["restarted"].tolist() == [True]
    with pytest.raises(EnvironmentFailure, match="3 failures in a row"):
        environments.step(np.array([2]))


def test_seeds_after_failures_are_new_and_repeatable(vector) -> None:
    def seeds_of(first: int) -> list[int]:
        environments = vector(
            "sync", partial(Misbehaving, "raises", length=None), on_failure="restart"
        )
        environments.reset(seed=first)
        seen = []
        for step in range(30):
            environments.step(np.array([2]))
            if step % 3 == 2:
                seen.append(environments.snapshot()[0]["seed"])
        return seen

    one, again, other = seeds_of(1), seeds_of(1), seeds_of(2)
    assert one == again
    assert len(set(one + other + [1, 2])) == 22


def test_failures_at_random_are_the_same_in_both_kinds(vector) -> None:
    makers = [partial(Misbehaving, "raises", probability=0.03)] * 3
    one, other = (vector(kind, *makers, on_failure="restart") for kind in KINDS)
    assert_same_streams(one, other, steps=80)
    assert one.restarts == other.restarts > 2
    assert json.dumps(one.snapshot()) == json.dumps(other.snapshot())
