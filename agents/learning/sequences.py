"""Cuts trajectories into sequences that can be shuffled, each with its initial memory state."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from networks.observations import map_observations

Selectable = TypeVar("Selectable", bound="Steps")
Sequences = Shaped[Tensor, "L N *O"] | dict[str, Shaped[Tensor, "L N ..."]]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """L steps of N sequences.

    Attributes:
        observations: None if all features are precomputed and no auxiliary loss reads them.
        next_observations: observations after each step; None if no loss reads them.
        actions: the policy's actions.
        valid: False on reset steps; None if there are none.
    """

    observations: Sequences | None = None
    next_observations: Sequences | None = None
    is_first: Bool[Tensor, "L N"]
    actions: Shaped[Tensor, "L N *A"]
    valid: Bool[Tensor, "L N"] | None

    def select(self: Selectable, sequences: Int[Tensor, " M"]) -> Selectable:
        """Select sequences with all their steps."""
        picked: dict[str, Any] = {}
        for name, part in vars(self).items():
            if isinstance(part, dict):
                part = {key: each.index_select(1, sequences) for key, each in part.items()}
            elif part is not None:
                part = part.index_select(1, sequences)
            picked[name] = part
        return type(self)(**picked)


@dataclass(frozen=True, kw_only=True)
class Batch(Steps):
    """A rollout cut into sequences, with their initial memory states and the returns.

    Attributes:
        actor_features, critic_features: precomputed features of a frozen extractor; None if the
            extractor learns.
        critic_features, critic_state, old_log_probs, advantages: None for agents that act by
            action values.
        old_values: values before the first gradient step.
        legal: legal actions; None if all are.
        other_returns: that an auxiliary loss fits values of its own to; None without such a loss.
    """

    valid: Bool[Tensor, "L N"]
    actor_features: Float[Tensor, "L N F"] | None = None
    critic_features: Float[Tensor, "L N F_c"] | None = None
    actor_state: Float[Tensor, "1 N S"]
    critic_state: Float[Tensor, "1 N S_c"] | None = None
    old_log_probs: Float[Tensor, "L N"] | None = None
    old_values: Float[Tensor, "L N"]
    advantages: Float[Tensor, "L N"] | None = None
    legal: Bool[Tensor, "L N ..."] | None = None
    returns: Float[Tensor, "L N"]
    other_returns: Float[Tensor, "L N"] | None = None


def cut(steps: Mapping[str, Any], sequence_length: int) -> dict[str, Any]:
    """Apply `to_sequences` to tensors `[T, B, ...]` by name, or dictionaries of them."""
    return {
        name: map_observations(lambda rows: to_sequences(rows, sequence_length), part)
        for name, part in steps.items()
    }


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
    """Yield a random partition of the indices into parts whose sizes differ by at most 1.

    Raises:
        ValueError: there are fewer sequences than minibatches.
    """
    if not 0 < num_minibatches <= num_sequences:
        raise ValueError(
            f"num_minibatches={num_minibatches}: there are only {num_sequences} sequences"
        )
    order = torch.from_numpy(generator.permutation(num_sequences))
    yield from order.tensor_split(num_minibatches)
