"""Two shares of an observation: the policy's is what it was, the twin's what nothing hides."""

import functools
import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.wrappers.pomdp import MaskVelocity
from envs.wrappers.privileged import PrivilegedObservation

MASKED = [functools.partial(MaskVelocity, dimensions=None)]
ACTIONS = np.array([1, 0])


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_both_shares_are_of_the_same_moment(make, kind: str) -> None:
    """In final observations and after the reset that follows, too."""
    words = {"vectorization": kind, "time_limit": 3}
    plain = make(**words)
    shared = make(**words, pomdp=MASKED, is_privileged=True)
    assert list(shared.single_observation_space.spaces) == ["actor.", "critic."]
    twins, seen = plain.reset(seed=[3, 4])[0], shared.reset(seed=[3, 4])[0]
    for _ in range(6):
        assert seen in shared.observation_space
        np.testing.assert_array_equal(seen["critic."], twins)
        np.testing.assert_array_equal(seen["actor."], twins * [1, 0, 1, 0])
        (twins, *outcome, _), (seen, *others, _) = plain.step(ACTIONS), shared.step(ACTIONS)
        for one, two in zip(outcome, others, strict=True):
            np.testing.assert_array_equal(one, two)


def test_what_is_stacked_or_added_is_the_policys_alone(make) -> None:
    shared = make(pomdp=MASKED, frame_stack=2, previous_reward=True, is_privileged=True)
    assert {name: part.shape for name, part in shared.single_observation_space.items()} == {
        "actor.": (9,),
        "critic.": (4,),
    }


@pytest.mark.parametrize("kind", ["sync", "native"])
def test_tasks_tell_their_hidden_variables(make, kind: str) -> None:
    words = {"id": "neurl/TMaze-v0", "kwargs": {"length": 2}, "num_envs": 30}
    task = make(**words, vectorization=kind, is_privileged=True)
    names = ["actor.", "critic.hidden", "critic.observation"]
    assert sorted(task.single_observation_space.spaces) == names
    seen, _ = task.reset(seed=0)
    np.testing.assert_array_equal(seen["actor."], seen["critic.hidden"])  # shown at the start
    assert set(seen["actor."]) == {0, 1}
    goal = seen["critic.hidden"].copy()
    seen, *_ = task.step(np.full(30, 2))
    assert seen in task.observation_space
    assert set(seen["actor."]) == {2}
    np.testing.assert_array_equal(seen["critic.observation"], seen["actor."])
    np.testing.assert_array_equal(seen["critic.hidden"], goal)


def test_a_native_task_resumes_with_both_shares(make) -> None:
    words = {"id": "neurl/TMaze-v0", "kwargs": {"length": 2}, "vectorization": "native"}
    task, other = (make(**words, is_privileged=True) for _ in range(2))
    task.reset(seed=5)
    task.step(np.array([2, 2]))
    other.restore(json.loads(json.dumps(task.snapshot())))
    for name, part in task.current_observations().items():
        np.testing.assert_array_equal(other.current_observations()[name], part)


class Nested(gymnasium.Env[Any, Any]):
    """Shows one of the parts of what it is, by a name that a share could have."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Dict({"critic": spaces.Discrete(3)})
    full_observation_space = spaces.Dict(
        {"place": spaces.Tuple([spaces.Discrete(5), spaces.Box(0, 9, (2,))])}
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return {"critic": 2}, {}

    def step(self, action: Any) -> Any:
        return {"critic": 1}, 0.0, False, False, {}

    def full_observation(self) -> Any:
        return {"place": (4, np.ones(2, np.float32))}


def test_nested_twins_become_parts(make) -> None:
    env = PrivilegedObservation(Nested())
    seen, _ = env.reset(seed=0)
    assert seen in env.observation_space
    assert seen["actor.critic"] == 2
    assert seen["critic.place/0"] == 4
    assert seen["critic.place/1"].tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["sync", "async", "native"])
def test_an_environment_that_hides_nothing_is_refused(refusal, kind: str) -> None:
    message = refusal(vectorization=kind, is_privileged=True)
    assert "critic.observation=full: this environment hides nothing" in message
    assert "full_observation_space" in message
