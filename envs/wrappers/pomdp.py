"""Wrappers that hide part of every observation: dimensions, parts, cells out of sight."""

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import Space, spaces
from gymnasium.utils import RecordConstructorArgs

from envs.interface import Array, Environment, Info, Opening, Step, full_space
from envs.spaces import map_parts, one_line, parts_of

Keep = Literal["positions", "velocities"]

# Velocities by the environment's name without version, and the sizes of its observation.
_VELOCITIES: dict[str, tuple[Sequence[int], tuple[int, ...]]] = {
    "Acrobot": ((4, 5), (6,)),
    "CartPole": ((1, 3), (4,)),
    "LunarLander": ((2, 3, 5), (8,)),
    "LunarLanderContinuous": ((2, 3, 5), (8,)),
    "MountainCar": ((1,), (2,)),
    "MountainCarContinuous": ((1,), (2,)),
    "Pendulum": ((2,), (3,)),
    # MuJoCo: qpos, qvel, then forces or what follows from positions.
    "Ant": (range(13, 27), (27, 105)),
    "HalfCheetah": (range(8, 17), (17,)),
    "Hopper": (range(5, 11), (11,)),
    "InvertedDoublePendulum": (range(5, 8), (9, 11)),
    "InvertedPendulum": ((2, 3), (4,)),
    "Pusher": (range(7, 14), (23,)),
    "Reacher": ((6, 7), (10, 11)),
    "Swimmer": (range(3, 8), (8,)),
    "Walker2d": (range(8, 17), (17,)),
}
_WITH_FORCES = ("Ant", "InvertedDoublePendulum")
"""Forces follow the velocities; they are hidden with either."""


class PartialObservation(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs, ABC):
    """Base of wrappers that hide something, in a vector, an image or the parts of a Dict.

    Random numbers come from a generator of its own, seeded by `reset`: the environment below plays
    as it would without the wrapper.

    Attributes:
        full_observation_space: of `full_observation`.
    """

    def __init__(self, env: Environment, **options: Any) -> None:
        RecordConstructorArgs.__init__(self, **options)
        super().__init__(env)
        self._seed: int | None = None
        self._generator: np.random.Generator | None = None
        self._full: Any = None
        full = full_space(env)
        self.full_observation_space = env.observation_space if full is None else full

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts an episode of the environment and of what is hidden from it."""
        if seed is not None:
            self._seed, self._generator = seed, None
        self._full, info = self.env.reset(seed=seed, options=options)
        self._begin()
        return self._shown(self._full), info

    def step(self, action: Any) -> Step:
        """Steps, and hides."""
        self._full, reward, terminated, truncated, info = self.env.step(action)
        return self._shown(self._full), reward, terminated, truncated, info

    def full_observation(self) -> Any:
        """Returns what the fully observed twin would show now: below every such wrapper."""
        if self.env.has_wrapper_attr("full_observation"):
            return self.env.get_wrapper_attr("full_observation")()
        return copy.deepcopy(self._full)

    def _begin(self) -> None:
        """Forgets the last episode."""

    @property
    def _random(self) -> np.random.Generator:
        """The generator, made when it is needed: every episode has one, and few wrappers draw."""
        if self._generator is None:
            name = zlib.crc32(type(self).__name__.encode())  # wrappers draw different numbers
            seed = None if self._seed is None else [self._seed, name]
            self._generator = np.random.default_rng(seed)
        return self._generator

    @abstractmethod
    def _shown(self, observation: Any) -> Any:
        """Returns a new observation without what is hidden."""


class Mask(PartialObservation):
    """Blanks the same dimensions of every observation: numbers are zero, codes their first one.

    The observation keeps its shape, so the same network fits with and without the mask.

    Args:
        keys: masked parts of a Dict observation; null for all.
        dimensions: masked indices of the last axis (of a vector, of an image's channels); null for
            everything.

    Raises:
        ValueError: keys or dimensions do not fit the observation, or neither is given.
    """

    _key = "pomdp.mask"

    def __init__(
        self, env: Environment, *, keys: Sequence[str] | None, dimensions: Sequence[int] | None
    ) -> None:
        super().__init__(env, keys=keys, dimensions=dimensions)
        parts = parts_of(env.observation_space)
        self._blank: dict[str, tuple[Any, Any]] = {}  # by part: what is hidden, and zeros for it
        if keys is None and dimensions is None:
            raise ValueError("pomdp.mask: expected keys or dimensions, or everything is hidden")
        if keys is not None and not {*keys} <= parts.keys() - {""}:
            known = ", ".join(parts.keys() - {""}) or "none"
            raise ValueError(f"pomdp.mask.keys={list(keys)}: expected parts among {known}")
        for key in parts if keys is None else keys:
            shape, hidden = parts[key].shape or (), np.array(True)
            if dimensions is not None:
                _check(self._key, dimensions, size=([1, *shape])[-1])
                hidden = np.isin(np.arange(shape[-1]), dimensions) if shape else hidden
            self._blank[key] = hidden, blank_of(parts[key])
        self.observation_space = map_parts(self._space, env.observation_space)

    def _space(self, key: str, space: Space[Any]) -> Space[Any]:
        return with_blank(space, self._blank[key][0]) if key in self._blank else space

    def _shown(self, observation: Any) -> Any:
        return map_parts(self._part, observation)

    def _part(self, key: str, part: Any) -> Any:
        if key not in self._blank:
            return copy.copy(part)
        (hidden, blank), shown = self._blank[key], np.array(part)
        np.copyto(shown, blank, "unsafe", hidden)
        return shown[()]  # a number, if it was one


class MaskVelocity(Mask):
    """Sets velocities to zero, or everything else: the rest must be inferred from the past.

    The vector keeps its size, so the same network fits with and without the mask.

    Args:
        dimensions: indices of the velocities; null for the known ones of the environment's id.
        keep: what stays visible. Forces, where MuJoCo shows them, are never kept.

    Raises:
        ValueError: the environment is not known, or the indices do not fit its observation.

        Source: RL Baselines3 Zoo, `MaskVelocityWrapper`; the `-P` and `-V` tasks of Ni et al.
        (2022), arXiv:2110.05038.
    """

    _key = "pomdp.mask_velocity"

    def __init__(
        self, env: Environment, *, dimensions: Sequence[int] | None, keep: Keep = "positions"
    ) -> None:
        RecordConstructorArgs.__init__(self, dimensions=dimensions, keep=keep)  # the first counts
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(
                "pomdp.mask_velocity: expected observations that are a vector, not "
                f"{one_line(space)}"
            )
        size = space.shape[0]
        if dimensions is None:
            velocities, forces = _known_dimensions(env)
        else:
            _check(self._key, dimensions, size=size)
            velocities, forces = list(dimensions), []
        others = sorted({*range(size)} - {*velocities})
        hidden = velocities + forces if keep == "positions" else others
        if not hidden:
            raise ValueError(f"{self._key}: keep={keep} hides nothing of {size} dimensions")
        super().__init__(env, keys=None, dimensions=hidden)


class Window(PartialObservation):
    """Shows only the cells around the agent: a square window of a grid `[H, W, C]`.

    Cells outside of the grid are zeros. While the agent is not in the grid, the window stays.

    Args:
        size: cells of the window's side, odd.
        channel: the channel that is largest in the agent's cell.

    Raises:
        ValueError: the observation is no such grid.
    """

    def __init__(self, env: Environment, *, size: int, channel: int) -> None:
        super().__init__(env, size=size, channel=channel)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(
                f"pomdp.window: expected grids [height, width, channels], not {one_line(space)}"
            )
        if size % 2 == 0 or not channel < space.shape[2]:
            raise ValueError(
                f"pomdp.window: expected an odd size and a channel below {space.shape[2]}, got "
                f"size={size} and channel={channel}"
            )
        self._radius, self._channel = size // 2, channel
        zeros = np.zeros((size, size, 1), space.dtype)
        low, high = np.minimum(space.low.min((0, 1)), 0), np.maximum(space.high.max((0, 1)), 0)
        self.observation_space = spaces.Box(low + zeros, high + zeros, dtype=space.dtype.type)

    def _begin(self) -> None:
        height, width, _ = self._full.shape
        self._center = height // 2, width // 2

    def _shown(self, observation: Array) -> Array:
        agent = observation[..., self._channel]
        if agent.any():
            row, column = np.unravel_index(np.argmax(agent), agent.shape)
            self._center = int(row), int(column)
        radius, (row, column) = self._radius, self._center
        padded = np.pad(observation, [(radius, radius), (radius, radius), (0, 0)])
        return padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1].copy()


def blank_of(space: Space[Any]) -> Any:
    """Returns an observation that shows nothing: zeros, or the first code."""
    if isinstance(space, spaces.Dict):
        return {key: blank_of(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return space.start
    start = space.start if isinstance(space, spaces.MultiDiscrete) else 0
    return np.full(space.shape or (), start, space.dtype)


def with_blank(space: Space[Any], hidden: Any) -> Space[Any]:
    """Returns a space that has zeros too, where something is hidden: a mask of the last axis."""
    if not isinstance(space, spaces.Box):
        return space
    low = np.where(hidden, np.minimum(space.low, 0), space.low)
    high = np.where(hidden, np.maximum(space.high, 0), space.high)
    return spaces.Box(low, high, dtype=space.dtype.type)


def _known_dimensions(env: Environment) -> tuple[list[int], list[int]]:
    """Returns the indices of velocities and of forces."""
    spec, (size,) = env.spec, env.observation_space.shape or (0,)
    known = _VELOCITIES.get(spec.name) if spec and not spec.namespace else None
    is_original = env.observation_space.shape == env.unwrapped.observation_space.shape
    if spec is None or known is None or not is_original or size not in known[1]:
        raise ValueError(
            f"pomdp.mask_velocity.dimensions: the velocities of {spec.id if spec else env} with "
            f"observations of shape {env.observation_space.shape} are not known; name their "
            "indices, as 'pomdp.mask_velocity.dimensions=[1,3]'"
        )
    velocities = list(known[0])
    forces = range(velocities[-1] + 1, size) if spec.name in _WITH_FORCES else ()
    return velocities, list(forces)


def _check(key: str, dimensions: Sequence[int], *, size: int) -> None:
    is_valid = len(set(dimensions)) == len(dimensions) > 0
    if not is_valid or not all(0 <= dimension < size for dimension in dimensions):
        raise ValueError(
            f"{key}.dimensions={list(dimensions)}: expected different indices from 0 to {size - 1}"
        )
