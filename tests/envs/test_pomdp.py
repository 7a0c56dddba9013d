"""The velocity mask: which dimensions it zeroes, and what it refuses."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.wrappers.pomdp import MaskVelocity


class Stub(gymnasium.Env):
    """Constant ones, in the shape of an environment whose package may be missing."""

    def __init__(self, size: int, low: float = -9.0) -> None:
        self.observation_space = spaces.Box(low, 9, (size,), np.float64)
        self.action_space = spaces.Discrete(2)
        self.given = np.ones(size)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.given, {}

    def step(self, action: Any) -> Any:
        return self.given, 0.0, False, False, {}


@pytest.mark.parametrize(
    ("id", "hidden"),
    [
        ("CartPole-v0", [1, 3]),
        ("CartPole-v1", [1, 3]),
        ("MountainCar-v0", [1]),
        ("MountainCarContinuous-v0", [1]),
        ("Pendulum-v1", [2]),
        ("Acrobot-v1", [4, 5]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
def test_known_velocities(id: str, hidden: list[int]) -> None:
    plain = gymnasium.make(id)
    masked = MaskVelocity(gymnasium.make(id), dimensions=None)
    plain.reset(seed=0)
    masked.reset(seed=0)
    action = plain.action_space.sample() * 0 + 1  # any that moves
    for _ in range(3):
        seen = masked.step(action)[0]
        expected = plain.step(action)[0].copy()  # MountainCarContinuous shows its own state
        assert np.all(expected[hidden] != 0)
        expected[hidden] = 0
        np.testing.assert_array_equal(seen, expected)
        assert seen.dtype == expected.dtype


@pytest.mark.parametrize("name", ["LunarLander", "LunarLanderContinuous"])
def test_known_velocities_of_lunar_lander(name: str) -> None:
    stub = Stub(8)
    stub.spec = gymnasium.envs.registration.EnvSpec(f"{name}-v3")
    assert MaskVelocity(stub, dimensions=None).reset()[0].tolist() == [1, 1, 0, 0, 1, 0, 1, 1]


def test_chosen_dimensions_and_an_untouched_original() -> None:
    stub = Stub(3, low=0.5)
    masked = MaskVelocity(stub, dimensions=[0, 2])
    observation, _ = masked.reset()
    assert observation.tolist() == [0, 1, 0]
    assert masked.observation_space.contains(observation)  # although 0 < 0.5
    assert masked.observation_space.low.tolist() == [0, 0.5, 0]
    assert stub.given.tolist() == [1, 1, 1]
    assert stub.observation_space.low.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("id", ["phys2d/CartPole-v1", "Other-v1"])
def test_unknown_environments_need_dimensions(id: str) -> None:
    stub = Stub(4)
    stub.spec = gymnasium.envs.registration.EnvSpec(id)
    with pytest.raises(
        ValueError, match=r"^pomdp\.mask_velocity\.dimensions: .*=\[1,3\]"
    ) as caught:
        MaskVelocity(stub, dimensions=None)
    assert id in str(caught.value)
    assert MaskVelocity(stub, dimensions=[3]).reset()[0].tolist() == [1, 1, 1, 0]


def test_the_known_table_does_not_fit_a_changed_observation() -> None:
    changed = gymnasium.wrappers.TimeAwareObservation(gymnasium.make("CartPole-v1"))
    with pytest.raises(ValueError, match=r"shape \(5,\) are not known"):
        MaskVelocity(changed, dimensions=None)


@pytest.mark.parametrize("dimensions", [[], [4], [-1], [1, 1]])
def test_dimensions_must_fit(dimensions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^pomdp\.mask_velocity\.dimensions=.* from 0 to 3$"):
        MaskVelocity(Stub(4), dimensions=dimensions)


def test_only_vectors_have_dimensions() -> None:
    with pytest.raises(ValueError, match=r"^pomdp\.mask_velocity: .*Discrete\(16\)"):
        MaskVelocity(gymnasium.make("FrozenLake-v1"), dimensions=[0])
