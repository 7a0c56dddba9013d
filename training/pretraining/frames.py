"""Recordings for pre-training: collecting observations, holding some out, files on disk.

Each observation is collected once, reset steps are left out. An observation has the number of its
contiguous stretch, so that held-out observations are not neighbours of training observations.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil, prod
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Int
from torch import Tensor

from envs.seeding import environment_seeds
from networks.observations import Observations
from training.process.memory import free_memory
from training.saving.checkpoint import open_checkpoint, part_of, prefixed, save_checkpoint
from training.saving.files import DamagedCheckpoint
from training.stream.collect import Collector, Player
from training.stream.storage import storage_dtype

STRETCHES = 64
"""Minimum number of stretches, of which some are held out."""
_SHARE_OF_MEMORY = 0.5


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


def named(observations: Observations) -> dict[str, Tensor]:
    """Name the tensors of observations, for a recording; `observations_of` takes them back."""
    parts = observations if isinstance(observations, dict) else {"": observations}
    return prefixed("observations", parts)


def observations_of(tensors: Mapping[str, Tensor]) -> Observations:
    """Return the observations of a recording."""
    parts = part_of(tensors, "observations")
    return parts.get("", parts)


def collect_frames(
    player: Player, collector: Collector, *, count: int, watch: Callable[[int], None]
) -> dict[str, Tensor]:
    """Step the environments until `count` observations are collected.

    Args:
        watch: called with the number of frames so far; an exception from it ends collecting.

    Returns:
        `observations`, raw, in the environment's dtype and the order of the stream, and each one's
        contiguous stretch by number in `stretches`; none spans two episodes.
    """
    stretches = Stretches(collector.environments.num_envs, ceil(count / STRETCHES))
    frames: dict[str, Tensor] = {}
    filled = 0
    while filled < count:
        trajectory = collector.collect(player)
        fresh = named(trajectory.step_observations)
        fresh["stretches"] = stretches.number(trajectory.is_first[:-1])
        if not frames:
            frames = {name: part.new_empty(count, *part.shape[2:]) for name, part in fresh.items()}
        end = min(filled + int(trajectory.valid.sum()), count)
        for name, part in fresh.items():
            frames[name][filled:end] = part[trajectory.valid][: end - filled]
        filled = end
        watch(filled)
    return frames


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


_PIECE = 64 * 2**20
"""Approximate bytes of one piece: memory holds it twice while it is written or read."""


def save_recording(directory: Path, tensors: Mapping[str, Tensor], *, env_steps: int) -> None:
    """Write tensors in pieces along their first dimension.

    Raises:
        OSError: it could not be written; no part of it is left.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    count = max(1, ceil(size / _PIECE))
    cut = {name: tensor.tensor_split(count) for name, tensor in tensors.items()}

    def piece(index: int) -> dict[str, Tensor]:
        return {name: pieces[index] for name, pieces in cut.items()}

    save_checkpoint(
        directory,
        tensors={},
        state={"env_steps": env_steps, "rows": {name: len(t) for name, t in tensors.items()}},
        step=env_steps,
        chunks={str(index): partial(piece, index) for index in range(count)},
    )


def load_recording(directory: Path) -> tuple[dict[str, Tensor], int] | None:
    """Read a recording and its environment steps; None if there is no intact one."""
    try:
        saved = open_checkpoint(directory)
        rows, whole = saved.state["rows"], dict[str, Tensor]()
        filled = dict.fromkeys(rows, 0)
        for piece in saved.chunks.values():
            for name, part in piece.items():
                if name not in whole:
                    whole[name] = part.new_empty(rows[name], *part.shape[1:])
                whole[name][filled[name] : filled[name] + len(part)] = part
                filled[name] += len(part)
    except DamagedCheckpoint:
        return None
    return whole, saved.state["env_steps"]
