"""Frame stacking."""

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from envs.interface import Array, Info, Opening, Step
from envs.spaces import MAX_DIMENSIONS, is_grid, map_parts, one_line, parts_of

Frames = spaces.Box | spaces.MultiDiscrete[Any]

_MARK = "frame_stack"


def frame_stacks(observation_space: gymnasium.Space[Any]) -> dict[str, int]:
    """Return the parts of an observation that are frame stacks, with their numbers of frames.

    Each stack is the previous one without its oldest frame and with a new one, or repeats one
    frame. A wrapper that changes a stack has its own `observation_space`, which is not marked.

    Args:
        observation_space: of one environment. Without parts, the name is "".
    """
    parts = parts_of(observation_space).items()
    return {name: vars(part)[_MARK] for name, part in parts if _MARK in vars(part)}


def mark_stack(space: Frames, size: int) -> Frames:
    """Mark a space's first axis as a frame stack; copies keep the mark."""
    vars(space)[_MARK] = size
    return space


class FrameStack(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Stacks the last `size` observations to `[size, *frame]`, oldest first.

    Vectors, images and grids of codes can be stacked; a grid `(H, W)` gets a channel axis,
    `[size, H, W, 1]`. All such parts of a Dict observation are stacked, others are unchanged. An
    episode's first observation fills the stack. Unlike Gymnasium's `FrameStackObservation`, this
    copies every frame, so that environments which reuse one array for all observations are stacked
    correctly too.

    Raises:
        ValueError: nothing can be stacked.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, size: int) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        super().__init__(env)
        space = env.observation_space
        parts = parts_of(space).items()
        stacked = {name: _stacked(part, size) for name, part in parts if _can_stack(part)}
        if not stacked:
            raise ValueError(
                f"env.frame_stack={size}: only vectors, images and grids of codes can be stacked, "
                f"not {one_line(space)}; set env.frame_stack=1"
            )
        self.observation_space = map_parts(stacked.get, space)
        self._frames = {name: np.zeros(each.shape, each.dtype) for name, each in stacked.items()}

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Fills the stack with the first observation of the episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        for name, frames in self._frames.items():
            frames[:] = self._newest(observation, name)
        return self._shown(observation), info

    def step(self, action: Any) -> Step:
        """Drops the oldest frame and appends the newest."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        for name, frames in self._frames.items():
            frames[:-1] = frames[1:]
            frames[-1] = self._newest(observation, name)
        return self._shown(observation), reward, terminated, truncated, info

    def _newest(self, observation: Any, name: str) -> Array:
        frame = np.asarray(observation[name] if name else observation)
        return frame.reshape(self._frames[name].shape[1:])

    def _shown(self, observation: Any) -> Any:
        return map_parts(lambda name, part: copy.copy(self._frames.get(name, part)), observation)


def _can_stack(space: gymnasium.Space[Any]) -> bool:
    is_array = isinstance(space, spaces.Box) or is_grid(space)
    return is_array and len(space.shape or ()) < MAX_DIMENSIONS


def _stacked(space: gymnasium.Space[Any], size: int) -> Frames:
    def repeat(array: Array) -> Array:
        return np.repeat(array[None], size, axis=0)

    if isinstance(space, spaces.Box):
        box = spaces.Box(repeat(space.low), repeat(space.high), dtype=space.dtype.type)
        return mark_stack(box, size)
    assert isinstance(space, spaces.MultiDiscrete)
    shape = space.shape if len(space.shape) > 2 else (*space.shape, 1)
    grid = spaces.MultiDiscrete(
        repeat(space.nvec.reshape(shape)),
        dtype=space.dtype.type,
        start=repeat(space.start.reshape(shape)),
    )
    return mark_stack(grid, size)
