"""Applies backbones to trajectories and batches: summaries, states, auxiliary loss inputs."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.learning.parts import Networks
from agents.learning.sequences import Batch, Steps
from networks.autoencoding.losses import Reading
from networks.backbone import Backbone


def read_summary(
    networks: Networks,
    backbone: str,
    steps: Steps,
    state: Float[Tensor, "N S"],
    *,
    known: Float[Tensor, "L N F"] | None = None,
) -> tuple[Float[Tensor, "L N H"], dict[str, Reading]]:
    """Apply one backbone to sequences; also return the auxiliary losses' inputs, by backbone.

    Args:
        known: precomputed features of a frozen extractor.
    """
    module: Backbone = getattr(networks, backbone)
    features, readings = known, {}
    if not networks.auxiliary.is_empty:
        readings[backbone] = _read(networks, module, steps, known)
        features = readings[backbone].features
    elif features is None:
        assert steps.observations is not None  # None only with precomputed features
        features = module.features(steps.observations)
    summary, _ = module.memory(features, state, steps.is_first)
    return summary, readings


@dataclass(frozen=True)
class ActorCriticRead:
    """Outputs of an actor-critic on a batch.

    Attributes:
        policy: the action distribution of every step.
        log_probs: log-probabilities of the batch's actions.
        values: raw outputs of the value head.
    """

    policy: Any
    log_probs: Float[Tensor, "L N"]
    values: Float[Tensor, "L N *K"]
    readings: dict[str, Reading]


def read_actor_critic(networks: Networks, batch: Batch) -> ActorCriticRead:
    """Apply all networks to a batch."""
    summary, readings = read_summary(
        networks, "actor", batch, batch.actor_state[0], known=batch.actor_features
    )
    policy = networks.policy(summary, batch.legal)
    if batch.critic_state is not None:  # a separate critic
        summary, own = read_summary(
            networks, "critic", batch, batch.critic_state[0], known=batch.critic_features
        )
        readings |= own
    head, values = networks.value_head, networks.value_head(summary)
    if networks.auxiliary.needs_values:  # of the only backbone
        readings["actor"] = replace(
            readings["actor"],
            summary=summary,
            values=head.value(values),
            returns=batch.other_returns,
        )
    return ActorCriticRead(
        policy=policy,
        log_probs=policy.log_prob(batch.actions),
        values=values,
        readings=readings,
    )


def _read(
    networks: Networks, module: Backbone, steps: Steps, known: Float[Tensor, "L N F"] | None
) -> Reading:
    assert steps.valid is not None and steps.observations is not None
    rows = module.rows(steps.observations)
    features = module.extract(rows).view(*steps.is_first.shape, -1) if known is None else known
    next_rows = next_features = None
    if steps.next_observations is not None:
        with torch.no_grad():
            next_rows = module.rows(steps.next_observations)
            next_features = module.extract(next_rows).view(features.shape)
    return Reading(
        rows=rows,
        features=features,
        actions=networks.policy_head.encode(steps.actions),
        is_first=steps.is_first,
        valid=steps.valid,
        next_rows=next_rows,
        next_features=next_features,
    )
