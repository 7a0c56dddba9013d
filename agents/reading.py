"""What backbones read: trajectories as acting saw them, batches for losses on features."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.auxiliary import AuxiliaryLosses
from agents.sequences import Batch
from agents.trajectory import Trajectory
from networks.auxiliary import Reading
from networks.backbone import Backbone


def read_features(
    backbone: Backbone,
    batch: Batch,
    known: Float[Tensor, "L N F"] | None,
    *,
    auxiliary: AuxiliaryLosses,
    encode: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, "L N F"], Reading | None]:
    """Extract a backbone's features, and say what its auxiliary losses are to be given.

    Args:
        known: the features, of a frozen extractor.
        encode: turns the policy's actions into numbers (`PolicyHead.encode`).

    Returns:
        the features; the losses' input, None where there are no losses.
    """
    if known is not None and not len(auxiliary):
        return known, None
    assert batch.observations is not None  # left out only where nothing reads them
    rows = backbone.rows(batch.observations)
    features = backbone.extract(rows).view(*batch.is_first.shape, -1) if known is None else known
    if not len(auxiliary):
        return features, None
    next_rows = next_features = None
    if batch.next_observations is not None:
        with torch.no_grad():
            next_rows = backbone.rows(batch.next_observations)
            next_features = backbone.extract(next_rows).view(features.shape)
    return features, Reading(
        rows=rows,
        features=features,
        actions=encode(batch.actions),
        is_first=batch.is_first,
        valid=batch.valid,
        next_rows=next_rows,
        next_features=next_features,
    )


def auxiliary_losses(
    auxiliary: AuxiliaryLosses,
    readings: Mapping[str, Reading | None],
    features: Float[Tensor, "L N F"],
) -> Float[Tensor, " A"]:
    """Return every auxiliary loss of what backbones read, by backbone; none of none.

    Args:
        features: any, to tell where tensors lie.
    """
    given = {name: reading for name, reading in readings.items() if reading is not None}
    losses: Tensor = auxiliary(given) if given else features.new_zeros(0)
    return losses


@dataclass(frozen=True)
class Unrolled:
    """A trajectory as one backbone reads it, the observation after the last step included.

    Attributes:
        states: of the memory before each sequence.
        after: the state before `observations[T]`, which the next trajectory reads first.
    """

    features: Float[Tensor, "T1 B F"]
    summary: Float[Tensor, "T1 B H"]
    states: Float[Tensor, "W B S"]
    after: Float[Tensor, "B S"]


@torch.no_grad()
def unroll(
    backbone: Backbone,
    trajectory: Trajectory,
    state: Float[Tensor, "B S"],
    *,
    sequence_length: int,
) -> Unrolled:
    """Read a trajectory with the present parameters.

    Args:
        state: of the memory before `observations[0]`.
        sequence_length: steps between the states that are kept.
    """
    features = backbone.features(trajectory.observations)
    summary, states, after = backbone.memory.unroll(
        features[:-1], state, trajectory.is_first[:-1], sequence_length=sequence_length
    )
    last, _ = backbone.memory(features[-1:], after, trajectory.is_first[-1:])
    return Unrolled(features, torch.cat([summary, last]), states, after)


def inputs(
    trajectory: Trajectory,
    features: Mapping[str, Float[Tensor, "T0 B F"]],
    *,
    backbones: Mapping[str, Backbone],
    auxiliary: AuxiliaryLosses,
) -> dict[str, Any]:
    """Choose what gradient steps read: observations, or features that stay what they are.

    Args:
        features: of every step's observation, by backbone.
        backbones: all of them by name.

    Returns:
        `observations`, `next_observations` and, by backbone, `<name>_features`; None where
        gradient steps do without.
    """
    steps = len(trajectory.rewards)
    is_known = all(backbone.is_frozen for backbone in backbones.values())
    observations = None if is_known and not len(auxiliary) else trajectory.step_observations
    return {
        "observations": observations,
        "next_observations": trajectory.next_observations if auxiliary.needs_next else None,
        **{
            f"{name}_features": features[name][:steps] if backbone.is_frozen else None
            for name, backbone in backbones.items()
        },
    }
