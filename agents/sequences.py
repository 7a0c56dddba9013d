"""Cuts a trajectory into sequences that can be shuffled, each with its own initial state."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def to_sequences(steps: Shaped[Tensor, "T B *X"], sequence_length: int) -> Shaped[Tensor, "L N *X"]:
    """Cut T steps of B environments into `N = T / L * B` sequences of L steps, still time-major.

    Sequence `w * B + b` holds the steps `w * L ... w * L + L - 1` of environment b.

    Raises:
        ValueError: `sequence_length` does not divide T.
    """
    total, batch = steps.shape[:2]
    if total % sequence_length:
        raise ValueError(f"sequence_length={sequence_length} does not divide {total} steps")
    windows: Tensor = steps.unflatten(0, (-1, sequence_length))  # [W, L, B, *X]
    return windows.transpose(0, 1).reshape(
        sequence_length, total // sequence_length * batch, *steps.shape[2:]
    )


def minibatches(
    num_sequences: int, num_minibatches: int, generator: np.random.Generator
) -> Iterator[Int[Tensor, " N"]]:
    """Yield a random partition of the indices, in parts whose sizes differ by 1 at most."""
    order = torch.from_numpy(generator.permutation(num_sequences))
    yield from order.tensor_split(num_minibatches)
