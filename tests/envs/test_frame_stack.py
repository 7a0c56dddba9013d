"""Stacks: their order, their fill at a reset, every kind of frame, the parts of a Dict."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from envs.wrappers.adapters import PreviousInputs
from envs.wrappers.frame_stack import FrameStack, frame_stacks
from tests.envs.conftest import make_with


class Numbered(gymnasium.Env):
    """Shows frame t at step t, in one array that it overwrites; ends after four steps."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space = space

    def _show(self, step: int) -> Any:
        self.now = step
        parts = self.observation_space
        if not isinstance(parts, spaces.Dict):
            self.shown[...] = step
            return self.shown
        for name, part in self.shown.items():
            if isinstance(part, np.ndarray):
                part[...] = step
            else:
                self.shown[name] = step
        return self.shown

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(0)
        self.shown = self.observation_space.sample()
        return self._show(0), {}

    def step(self, action):
        shown = self._show(self.now + 1)
        return shown, 0.0, self.now == 4, False, {}


FRAMES = {
    "vector": (spaces.Box(0, 9, (2,), np.float64), (4, 2)),
    "number": (spaces.Box(0, 9, ()), (4,)),
    "grey": (spaces.Box(0, 255, (5, 6), np.uint8), (4, 5, 6)),
    "colour": (spaces.Box(0, 255, (5, 6, 3), np.uint8), (4, 5, 6, 3)),
    "grid": (spaces.MultiDiscrete(np.full((5, 6, 2), [9, 8])), (4, 5, 6, 2)),
    "grid of one channel": (spaces.MultiDiscrete(np.full((5, 6), 9)), (4, 5, 6, 1)),
    "small codes": (spaces.MultiDiscrete(np.full((5, 6, 2), 9), dtype=np.uint8), (4, 5, 6, 2)),
}


@pytest.mark.parametrize("which", FRAMES)
def test_a_stack_begins_full_and_keeps_its_order(which: str) -> None:
    space, shape = FRAMES[which]
    environment = FrameStack(Numbered(space), size=4)
    assert type(environment.observation_space) is type(space)
    assert environment.observation_space.shape == shape
    assert environment.observation_space.dtype == space.dtype
    stacks = [environment.reset()[0]] + [environment.step(0)[0] for _ in range(4)]
    assert all(environment.observation_space.contains(stack) for stack in stacks)
    expected = [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4]]
    for stack, frames in zip(stacks, expected, strict=True):  # the final stack has the old frames
        assert stack.shape == shape
        assert [sorted(set(np.ravel(frame).tolist())) for frame in stack] == [[t] for t in frames]
    assert not environment.reset()[0].any()


def test_a_stack_fills_with_values_other_than_zero_too() -> None:
    environment = FrameStack(gymnasium.make("CartPole-v1"), size=3)
    stack, _ = environment.reset(seed=0)
    assert np.all(stack[0] != 0)
    np.testing.assert_array_equal(stack[0], stack[2])


def test_frames_keep_their_own_layout() -> None:
    class Drawn(Numbered):
        def _show(self, step):
            self.now = step
            return np.arange(90, dtype=np.uint8).reshape(5, 6, 3) + step

    stack, _ = FrameStack(Drawn(FRAMES["colour"][0]), size=2).reset()
    np.testing.assert_array_equal(stack[1], np.arange(90).reshape(5, 6, 3))


def test_bounds_and_starts_are_those_of_each_frame() -> None:
    low, high = np.float32([-1, 0]), np.float32([1, 9])
    space = FrameStack(Numbered(spaces.Box(low, high)), size=2).observation_space
    assert space == spaces.Box(np.stack([low, low]), np.stack([high, high]))
    grid = spaces.MultiDiscrete(np.full((5, 5, 2), [3, 4]), start=np.full((5, 5, 2), [1, 0]))
    stacked = FrameStack(Numbered(grid), size=2).observation_space
    assert (stacked.nvec == [3, 4]).all()
    assert (stacked.start == [1, 0]).all()


def test_what_the_user_does_to_a_stack_does_not_reach_the_next() -> None:
    environment = FrameStack(Numbered(FRAMES["vector"][0]), size=2)
    environment.reset()[0][:] = 99
    assert environment.step(0)[0][:, 0].tolist() == [0, 1]


PARTS = spaces.Dict(
    [
        ("z", spaces.Discrete(9)),
        ("camera", FRAMES["colour"][0]),
        ("map", FRAMES["grid"][0]),
        ("bits", spaces.MultiBinary(3)),
        ("a", FRAMES["vector"][0]),
    ]
)


def test_of_an_observation_with_parts_those_that_are_arrays_are_stacked() -> None:
    parts = spaces.Dict([(name, part) for name, part in PARTS.items() if name != "bits"])
    environment = FrameStack(Numbered(parts), size=3)
    assert list(environment.observation_space.spaces) == ["z", "camera", "map", "a"]
    assert environment.observation_space["z"] == PARTS["z"]
    observations = [environment.reset()[0]] + [environment.step(0)[0] for _ in range(3)]
    assert all(environment.observation_space.contains(each) for each in observations)
    assert [each["z"] for each in observations] == [0, 1, 2, 3]
    for name in ("camera", "map", "a"):
        frames = [each[name].reshape(3, -1)[:, 0].tolist() for each in observations]
        assert frames == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped|.*is probably too|.*recommend")
@pytest.mark.parametrize(
    "space", [FRAMES["colour"][0], FRAMES["grid"][0], PARTS], ids=["image", "grid", "parts"]
)
def test_gymnasiums_checker_passes(space) -> None:
    class Anything(gymnasium.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            if seed is not None:
                self.observation_space.seed(seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 0.0, False, False, {}

    check_env(FrameStack(Anything(), size=3), skip_render_check=True)


def test_a_space_says_which_parts_are_stacks() -> None:
    camera = FrameStack(Numbered(FRAMES["colour"][0]), size=3)
    assert frame_stacks(camera.observation_space) == {"": 3}
    assert frame_stacks(FRAMES["colour"][0]) == {}
    parts = FrameStack(Numbered(PARTS), size=2).observation_space
    assert frame_stacks(parts) == {"camera": 2, "map": 2, "a": 2}
    assert frame_stacks(PARTS) == {}
    beside = PreviousInputs(camera, action=True, reward=True).observation_space
    assert frame_stacks(beside) == {"observation": 3}
    # There stacks become part of a vector.
    vector = FrameStack(Numbered(FRAMES["vector"][0]), size=3)
    added = PreviousInputs(vector, action=True, reward=False).observation_space
    assert frame_stacks(added) == {}


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_what_a_space_says_of_stacks_reaches_the_training_process(vectorization: Any) -> None:
    environments = make_with(
        make=partial(gymnasium.make, "CartPole-v1"), vectorization=vectorization, frame_stack=3
    )
    assert frame_stacks(environments.single_observation_space) == {"": 3}
    environments.close()
