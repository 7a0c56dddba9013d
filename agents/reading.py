"""Reads a batch's features with a backbone, and notes what auxiliary losses need of them."""

import torch
from jaxtyping import Float
from torch import Tensor

from agents.networks import Networks
from agents.sequences import Sequences, Steps
from networks.auxiliary import Reading


def read_features(
    networks: Networks,
    backbone: str,
    steps: Steps,
    *,
    known: Float[Tensor, "L N F"] | None,
    readings: dict[str, Reading],
) -> Float[Tensor, "L N F"]:
    """Extract a backbone's features; what auxiliary losses need of it goes into `readings`.

    Args:
        known: the features, where a frozen extractor made them before.
    """
    if known is not None and not len(networks.auxiliary):
        return known
    module = networks.backbones[backbone]
    rows = module.rows(_present(steps.observations))
    features = module.extract(rows).view(*steps.is_first.shape, -1) if known is None else known
    if len(networks.auxiliary):
        next_rows = next_features = None
        if steps.next_observations is not None:
            with torch.no_grad():
                next_rows = module.rows(steps.next_observations)
                next_features = module.extract(next_rows).view(features.shape)
        readings[backbone] = Reading(
            rows=rows,
            features=features,
            actions=networks.policy_head.encode(steps.actions),
            is_first=steps.is_first,
            valid=steps.valid,
            next_rows=next_rows,
            next_features=next_features,
        )
    return features


def _present(observations: Sequences | None) -> Sequences:
    assert observations is not None  # left out only where nothing reads them
    return observations
