"""Recordings: every step of a behaviour policy, read in windows, of which some are held out."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from agents.replay.chunks import Chunk, chunks_of, layout_of, restore
from agents.replay.ring import Ring, StepLayout, arrays_of, in_words
from agents.trajectory import Trajectory
from training.process.memory import free_memory

_STRETCHES = 64
"""Stretches of time, of which some are held out."""


class Recording:
    """All steps of B environments, in a ring that is never overwritten.

    Window `w * B + b` of L steps is environment b's, from step `w * L` on.

    Attributes:
        num_steps: of each environment, reset steps included.
    """

    def __init__(self, layout: StepLayout, *, num_rows: int, num_envs: int) -> None:
        """Allocate a row for each step of every environment, and one more; unused ones are free."""
        self._ring = Ring(layout, num_rows=num_rows, num_envs=num_envs, stride=1, keeps_state=False)
        self.num_steps, self.num_envs = 0, num_envs

    def add(self, trajectory: Trajectory) -> None:
        """Append a trajectory, which starts where the last one ended."""
        self._ring.write(self.num_steps, trajectory, arrays_of(trajectory.observations), None)
        self.num_steps += len(trajectory.rewards)

    @property
    def valid(self) -> Bool[np.ndarray, "T B"]:
        """False on reset steps."""
        return ~self._ring.fields["is_first"][1 : self.num_steps + 1]

    def windows(self, numbers: Int[Tensor, " N"], length: int) -> Trajectory:
        """Read windows of `length` steps, `[L, N]`, without memory states."""
        window, environment = np.divmod(numbers.numpy(), self.num_envs)
        steps = window * length + np.arange(length + 1)[:, None]
        rows = steps * self.num_envs + environment
        return self._ring.window(rows, torch.zeros(len(numbers), 0), {})

    def split(
        self, length: int, frames: int, share: float, generator: np.random.Generator
    ) -> tuple[Int[Tensor, " M"], Int[Tensor, " K"]]:
        """Draw windows to learn from, and others to measure on, in contiguous stretches of time.

        Args:
            frames: how many windows are used at most, the earliest; those that only reset are not.
            share: of the windows to measure on.

        Raises:
            ValueError: there is one window only.
        """
        is_valid = torch.from_numpy(self.valid).unflatten(0, (-1, length))  # [W, L, B]
        numbers = is_valid.any(1).flatten().nonzero().flatten()[:frames]
        numbers = numbers[(numbers % self.num_envs).argsort(stable=True)]  # one after another
        count = min(_STRETCHES, len(numbers))
        if count < 2:
            raise ValueError(f"too few frames to hold some out: one sequence of {length} steps")
        drawn = generator.permutation(count)[: min(max(1, round(share * count)), count - 1)]
        stretch = torch.arange(len(numbers)) * count // len(numbers)
        is_held_out = torch.isin(stretch, torch.from_numpy(drawn))
        return numbers[~is_held_out], numbers[is_held_out]

    def chunks(self) -> dict[str, Callable[[], Chunk]]:
        """Return what reads the recording in pieces, for a checkpoint."""
        return chunks_of(self._ring, first=0, first_step=0, newest=self.num_steps)

    @classmethod
    def load(cls, chunks: Mapping[str, Chunk], num_steps: int) -> "Recording":
        """Restore a recording from its chunks."""
        first = next(iter(chunks.values()))
        layout, num_envs = layout_of(first, state_size=0), first["rewards"].shape[1]
        recording = cls(layout, num_rows=num_steps + 1, num_envs=num_envs)
        restore(recording._ring, chunks, first=0, first_step=0, newest=num_steps)
        recording.num_steps = num_steps
        return recording


def refuse_too_many(key: str, count: int, layout: StepLayout) -> None:
    """Refuse frames that would take more than half of the free memory.

    Raises:
        ValueError: with the bytes needed and the number that fits.
    """
    free, each = free_memory(), layout.step_bytes
    if free is not None and each * count > free // 2:
        raise ValueError(
            f"{key}: {count:,} frames of {each:,} bytes are more than half of the "
            f"{in_words(free)} of memory that are free; at most {free // 2 // each:,} fit"
        )
