"""Collects observations for pre-training: each once, without reset steps.

Each has the number of its contiguous stretch, so that held-out observations are not neighbours of
training observations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, prod

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from envs.seeding import environment_seeds
from networks.observations import Observations, map_observations
from training.process.memory import free_memory
from training.stream.collect import Collector, Player
from training.stream.storage import storage_dtype

STRETCHES = 64
"""Minimum number of stretches, of which some are held out."""
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class Frames:
    """Observations at valid steps, in the order of the stream.

    Attributes:
        observations: raw, in the environment's dtype; a tensor, or tensors by name.
        stretches: each observation's contiguous stretch, by number; none spans two episodes.
        env_steps: environment steps taken to collect them.
    """

    observations: Shaped[Tensor, "N *O"] | dict[str, Shaped[Tensor, "N ..."]]
    stretches: Int[Tensor, " N"]
    env_steps: int

    def select(self, rows: Int[Tensor, " M"]) -> Observations:
        """Copy some of the observations."""
        return map_observations(lambda part: part.index_select(0, rows), self.observations)


class Stretches:
    """Numbers stretches of steps: a new one at each first observation and after `length` steps."""

    def __init__(self, num_envs: int, length: int) -> None:
        self._length = length
        self._current = np.full(num_envs, -1)
        self._age = np.full(num_envs, length)
        self._next = 0

    def number(self, is_first: Bool[Tensor, "T B"]) -> Int[Tensor, "T B"]:
        """Number the next T steps of every environment."""
        numbers = np.empty(is_first.shape, np.int64)
        for step, opens in enumerate(is_first.numpy()):
            opening = np.flatnonzero(opens | (self._age >= self._length))
            self._current[opening] = self._next + np.arange(len(opening))
            self._next += len(opening)
            self._age[opening] = 0
            self._age += 1
            numbers[step] = self._current
        return torch.from_numpy(numbers)


def collect_frames(
    player: Player, collector: Collector, *, count: int, watch: Callable[[int], None]
) -> Frames:
    """Step the environments until `count` observations are collected.

    Args:
        watch: called with the number of frames so far; an exception from it ends collecting.
    """
    stretches = Stretches(collector.environments.num_envs, ceil(count / STRETCHES))
    observations: Observations | None = None
    numbers = torch.empty(count, dtype=torch.int64)
    filled = 0
    while filled < count:
        trajectory = collector.collect(player)
        number, valid = stretches.number(trajectory.is_first[:-1]), trajectory.valid
        taken = min(int(valid.sum()), count - filled)
        rows = slice(filled, filled + taken)
        numbers[rows] = number[valid][:taken]
        fresh = _first_valid(trajectory.step_observations, valid, taken)
        if observations is None:
            observations = map_observations(
                lambda part: part.new_empty(count, *part.shape[1:]), fresh
            )
        _write(observations, rows, fresh)
        filled += taken
        watch(filled)
    assert observations is not None  # count is positive
    return Frames(observations, numbers, collector.env_steps)


def _first_valid(observations: Observations, valid: Tensor, count: int) -> Observations:
    return map_observations(lambda part: part[valid][:count], observations)


def _write(target: Observations, rows: slice, fresh: Observations) -> None:
    if isinstance(target, dict):
        assert isinstance(fresh, dict)
        for name, part in target.items():
            part[rows] = fresh[name]
    else:
        assert isinstance(fresh, Tensor)
        target[rows] = fresh


def hold_out(
    stretches: Int[Tensor, " N"], share: float, seed: int
) -> tuple[Int[Tensor, " M"], Int[Tensor, " K"]]:
    """Draw whole stretches up to a share; return the training rows and the held-out rows.

    Args:
        seed: of the run.

    Raises:
        ValueError: there is one stretch only.
    """
    names, belongs, counts = torch.unique(stretches, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError("too few frames to hold some out: they are of one stretch of time")
    generator = np.random.default_rng(environment_seeds(seed, 2, purpose="pretraining held out"))
    order = torch.from_numpy(generator.permutation(len(names)))
    before = torch.cumsum(counts[order], 0) - counts[order]
    is_held = torch.zeros(len(names), dtype=torch.bool)
    is_held[order[before < share * len(stretches)]] = True
    is_held[order[0]], is_held[order[-1]] = True, False
    return (~is_held[belongs]).nonzero().flatten(), is_held[belongs].nonzero().flatten()


def refuse_too_many(
    key: str, space: gymnasium.Space[object], count: int, *, copies: int = 1
) -> None:
    """Refuse frames if this many copies would take more than half of the free memory.

    Raises:
        ValueError: with the bytes needed and the number that fits.
    """
    free, each = free_memory(), copies * bytes_per_frame(space)
    if free is not None and each * count > _SHARE_OF_MEMORY * free:
        fitting = int(_SHARE_OF_MEMORY * free / each)
        raise ValueError(
            f"{key}: {count:,} frames of {each:,} bytes are {each * count / 1e9:,.1f} GB, more "
            f"than half of the {free / 1e9:,.1f} GB of memory that are free; at most {fitting:,} "
            "fit"
        )


def bytes_per_frame(space: gymnasium.Space[object]) -> int:
    """Return the stored size of one observation."""
    if isinstance(space, spaces.Dict):
        return sum(map(bytes_per_frame, space.spaces.values()))
    assert space.shape is not None and space.dtype is not None  # checked with the environment
    return prod(space.shape) * storage_dtype(space.dtype).itemsize
