"""Masks and windows: what they hide, what they refuse, and the fully observed twin."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.wrappers.pomdp import Mask, MaskVelocity, Window
from envs.wrappers.sensors import Delay, Flicker


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


def test_something_must_be_hidden() -> None:
    with pytest.raises(ValueError, match=r"velocity: keep=velocities hides nothing of 2 dimens"):
        MaskVelocity(Stub(2), dimensions=[0, 1], keep="velocities")


def test_only_vectors_have_dimensions() -> None:
    with pytest.raises(ValueError, match=r"^pomdp\.mask_velocity: .*Discrete\(16\)"):
        MaskVelocity(gymnasium.make("FrozenLake-v1"), dimensions=[0])


MUJOCO = {  # size of the observation, positions, velocities
    "Ant-v5": (105, range(13), range(13, 27)),
    "Ant-v4": (27, range(13), range(13, 27)),
    "HalfCheetah-v5": (17, range(8), range(8, 17)),
    "Hopper-v5": (11, range(5), range(5, 11)),
    "InvertedDoublePendulum-v5": (9, range(5), range(5, 8)),
    "Reacher-v5": (10, [0, 1, 2, 3, 4, 5, 8, 9], [6, 7]),
    "Walker2d-v5": (17, range(8), range(8, 17)),
}


@pytest.mark.parametrize("id", MUJOCO)
def test_positions_or_velocities_of_mujoco(id: str) -> None:
    size, positions, velocities = MUJOCO[id]
    for keep, shown in (("positions", positions), ("velocities", velocities)):
        stub = Stub(size)
        stub.spec = gymnasium.envs.registration.EnvSpec(id)
        masked = MaskVelocity(stub, dimensions=None, keep=keep).reset()[0]
        assert np.flatnonzero(masked).tolist() == list(shown)


def test_a_body_with_more_positions_is_not_known() -> None:
    stub = Stub(18)  # HalfCheetah with exclude_current_positions_from_observation=false
    stub.spec = gymnasium.envs.registration.EnvSpec("HalfCheetah-v5")
    with pytest.raises(ValueError, match=r"shape \(18,\) are not known"):
        MaskVelocity(stub, dimensions=None)


@pytest.mark.parametrize("id", MUJOCO)
def test_the_table_is_mujocos(id: str) -> None:
    pytest.importorskip("mujoco")
    if id.endswith("v4"):
        return
    plain, masked = gymnasium.make(id), gymnasium.make(id)
    masked = MaskVelocity(masked, dimensions=None, keep="velocities")
    plain.reset(seed=0)
    masked.reset(seed=0)
    action = plain.action_space.sample()
    seen = masked.step(action)[0]
    plain.step(action)
    speeds = plain.unwrapped.data.qvel
    speeds = [*speeds, *speeds.clip(-10, 10)]  # Hopper and Walker2d clip them
    assert all(np.isclose(speeds, each).any() for each in seen[seen != 0])


PARTS = spaces.Dict(
    [
        ("speed", spaces.Box(1, 9, (3,), np.float64)),
        ("code", spaces.Discrete(4, start=2)),
        ("codes", spaces.MultiDiscrete([3, 3], start=[1, 2])),
        ("image", spaces.Box(0, 255, (2, 2, 3), np.uint8)),
        ("bits", spaces.MultiBinary(2)),
    ]
)


class Parts(Stub):
    """Random parts, the same after every seed."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = PARTS, spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        PARTS.seed(0)
        self.given = PARTS.sample()
        return self.given, {}


def test_a_mask_blanks_parts_and_dimensions() -> None:
    masked = Mask(Parts(), keys=["speed", "code", "codes", "bits"], dimensions=None)
    observation, _ = masked.reset()
    assert masked.observation_space.contains(observation)
    assert observation["speed"].tolist() == [0, 0, 0]
    assert observation["code"] == 2
    assert observation["codes"].tolist() == [1, 2]
    assert observation["bits"].tolist() == [0, 0]
    np.testing.assert_array_equal(observation["image"], masked.full_observation()["image"])

    masked = Mask(Parts(), keys=["image", "speed"], dimensions=[0, 2])
    observation, _ = masked.reset()
    full = masked.full_observation()
    assert masked.observation_space.contains(observation)
    assert not observation["image"][..., [0, 2]].any()
    np.testing.assert_array_equal(observation["image"][..., 1], full["image"][..., 1])
    assert observation["speed"].tolist() == [0, full["speed"][1], 0]
    assert observation["code"] == full["code"]
    assert Mask(Parts(), keys=["code"], dimensions=[0]).reset()[0]["code"] == 2


@pytest.mark.parametrize(
    ("keys", "dimensions", "message"),
    [
        (None, None, r"pomdp\.mask: expected keys or dimensions"),
        (["position"], None, r"pomdp\.mask\.keys=\['position'\]: expected parts among .*speed"),
        (["speed"], [3], r"pomdp\.mask\.dimensions=\[3\]: expected different indices from 0 to 2"),
        (["code"], [1], r"pomdp\.mask\.dimensions=\[1\]: .* from 0 to 0"),
    ],
)
def test_masks_that_do_not_fit(keys: Any, dimensions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mask(Parts(), keys=keys, dimensions=dimensions)


class Walker(gymnasium.Env):
    """A grid of 4 x 6 cells: the agent in channel 1, each cell's number in channel 0."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(1, 30, (4, 6, 2), np.int16)
        self.action_space = spaces.Discrete(24)

    def _grid(self, cell: int | None) -> np.ndarray:
        grid = np.zeros((4, 6, 2), np.int16)
        grid[..., 0] = np.arange(1, 25).reshape(4, 6)
        if cell is not None:
            grid[cell // 6, cell % 6, 1] = 1
        return grid

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self._grid(None), {}

    def step(self, action: Any) -> Any:
        return self._grid(None if action == 0 else int(action)), 0.0, False, False, {}


def test_a_window_follows_the_agent() -> None:
    window = Window(Walker(), size=3, channel=1)
    first, _ = window.reset()
    assert window.observation_space.contains(first)
    assert first[..., 0].tolist() == [[9, 10, 11], [15, 16, 17], [21, 22, 23]]  # the middle
    corner = window.step(23)[0]
    assert corner[..., 0].tolist() == [[17, 18, 0], [23, 24, 0], [0, 0, 0]]
    assert corner[1, 1, 1] == 1
    assert window.step(0)[0][..., 0].tolist() == corner[..., 0].tolist()  # out of sight: it stays
    assert window.step(1)[0][..., 0].tolist() == [[0, 0, 0], [1, 2, 3], [7, 8, 9]]
    assert window.reset()[0].tolist() == first.tolist()
    assert window.full_observation().shape == (4, 6, 2)


@pytest.mark.parametrize(("size", "channel"), [(4, 0), (3, 2)])
def test_windows_that_do_not_fit(size: int, channel: int) -> None:
    with pytest.raises(
        ValueError, match=r"^pomdp\.window: expected an odd size and a channel below"
    ):
        Window(Walker(), size=size, channel=channel)
    with pytest.raises(ValueError, match=r"^pomdp\.window: expected grids"):
        Window(gymnasium.make("CartPole-v1"), size=3, channel=0)


def test_every_wrapper_knows_the_twin() -> None:
    """Through any number of wrappers, down to what a memory task hides."""
    plain, masked = gymnasium.make("CartPole-v1"), gymnasium.make("CartPole-v1")
    masked = Delay(MaskVelocity(masked, dimensions=None), steps=2, is_random=False)
    masked = Flicker(masked, probability=0.5, shows="blank")
    full = plain.reset(seed=0)[0]
    masked.reset(seed=0)
    for _ in range(5):
        np.testing.assert_array_equal(masked.get_wrapper_attr("full_observation")(), full)
        full = plain.step(1)[0]
        masked.step(1)
    assert masked.full_observation_space == plain.observation_space

    task = Flicker(gymnasium.make("neurl/TMaze-v0"), probability=1.0, shows="blank")
    assert task.reset(seed=0)[0] == 0
    assert task.full_observation_space.contains(task.full_observation())
    assert task.full_observation().keys() == {"observation", "hidden"}
