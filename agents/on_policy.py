"""What on-policy actor-critics share: from a trajectory to a batch, from a batch to their losses.

Each algorithm adds its own loss and its own passes over the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.losses import explained_variance, masked_mean
from agents.optimizer import Optimizer
from agents.returns import lambda_returns
from agents.sequences import Batch, to_sequences
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.heads import ValueHead
from networks.normalization import NoRewardScaling, RewardScaling
from networks.observations import map_observations
from networks.policy_heads import PolicyHead

COUNTS = ("update/steps", "update/skipped")
"""What every gradient step reports last: whether it counted, whether it was not finite."""


@dataclass(frozen=True)
class ActorCritic:
    """The networks; actor and critic are one and the same object where they share everything."""

    actor: Backbone
    critic: Backbone
    policy_head: PolicyHead
    value_head: ValueHead

    @property
    def shares_backbone(self) -> bool:
        """Whether actor and critic read the stream with the same extractor and memory."""
        return self.critic is self.actor


def parts_of(networks: ActorCritic) -> dict[str, list[nn.Parameter]]:
    """Parameters of `extractor, memory, actor, critic`; both backbones' together."""
    backbones = {id(backbone): backbone for backbone in (networks.actor, networks.critic)}.values()
    return {
        "extractor": [p for backbone in backbones for p in backbone.extractor.parameters()],
        "memory": [p for backbone in backbones for p in backbone.memory.parameters()],
        "actor": list(networks.policy_head.parameters()),
        "critic": list(networks.value_head.parameters()),
    }


@torch.no_grad()
def prepare(
    networks: ActorCritic,
    trajectory: Trajectory,
    critic_state: Float[Tensor, "B S_c"],
    *,
    reward_scaling: RewardScaling | NoRewardScaling,
    discount: float,
    gae_lambda: float,
    sequence_length: int,
) -> Batch:
    """Recompute what acting saw, estimate advantages, and cut everything into sequences.

    Args:
        critic_state: memory of a critic of its own before the trajectory; overwritten with that
            before the next.
    """
    valid = trajectory.valid
    log_probs, values, actor_states, critic_states = _unroll(
        networks, trajectory, critic_state, sequence_length
    )
    reward_scaling.restart(trajectory.is_first[0])
    rewards = reward_scaling(trajectory.rewards, trajectory.ended, valid)
    returns = lambda_returns(
        rewards,
        values[1:],
        trajectory.terminated,
        trajectory.truncated,
        discount=discount,
        gae_lambda=gae_lambda,
    )
    steps = {
        "observations": trajectory.step_observations,
        "is_first": trajectory.is_first[:-1],
        "actions": trajectory.actions,
        "old_log_probs": log_probs,
        "old_values": values[:-1],
        "advantages": returns - values[:-1],
        "returns": returns,
        "valid": valid,
    }
    sequences: dict[str, Any] = {
        name: map_observations(lambda part: to_sequences(part, sequence_length), step)
        for name, step in steps.items()
    }
    return Batch(
        **sequences,
        actor_state=actor_states.flatten(0, 1)[None],
        critic_state=critic_states.flatten(0, 1)[None],
    )


def _unroll(
    networks: ActorCritic, trajectory: Trajectory, critic_state: Tensor, sequence_length: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log-probs `[T, B]`, values `[T + 1, B]` and both memories' states `[W, B, S]`."""
    observations, is_first = trajectory.step_observations, trajectory.is_first[:-1]
    summary, actor_states, after = networks.actor.unroll(
        observations, trajectory.state, is_first, sequence_length=sequence_length
    )
    log_probs = networks.policy_head(summary).log_prob(trajectory.actions)
    critic_states = actor_states
    if not networks.shares_backbone:
        summary, critic_states, after = networks.critic.unroll(
            observations, critic_state, is_first, sequence_length=sequence_length
        )
        # It goes on from before observations[T], which the next trajectory reads first.
        critic_state.copy_(after)
    last, _ = networks.critic(trajectory.last_observations, after, trajectory.is_first[-1:])
    values = networks.value_head.value(networks.value_head(torch.cat([summary, last])))
    return log_probs, values, actor_states, critic_states


def read(
    networks: ActorCritic, batch: Batch
) -> tuple[Float[Tensor, "L N"], Float[Tensor, "L N"], Float[Tensor, "L N *O"]]:
    """Return log-probabilities of the actions, entropies, and the value head's raw outputs."""
    summary, _ = networks.actor(batch.observations, batch.actor_state[0], batch.is_first)
    distribution = networks.policy_head(summary)
    if not networks.shares_backbone:
        summary, _ = networks.critic(batch.observations, batch.critic_state[0], batch.is_first)
    outputs = networks.value_head(summary)
    return distribution.log_prob(batch.actions), distribution.entropy(), outputs


def report(
    names: Sequence[str],
    steps: Float[Tensor, "U metrics"],
    *,
    batch: Batch,
    optimizer: Optimizer,
    gradients: Float[Tensor, " P"],
    learning_rate: Float[Tensor, ""],
) -> dict[str, Tensor]:
    """Make TensorBoard's scalars: means over the gradient steps that were computed, counts as sums.

    Args:
        names: of the metrics of one gradient step, `COUNTS` last.
        gradients: of the last step, packed; their norms are reported by part.
    """
    metrics = dict(zip(names, steps.mean(0).unbind(), strict=True))
    metrics.update(zip(COUNTS, steps[:, -2:].sum(0).unbind(), strict=True))
    metrics["value/mean"] = masked_mean(batch.old_values, batch.valid)
    metrics["value/explained_variance"] = explained_variance(
        batch.old_values, batch.returns, batch.valid
    )
    metrics["schedule/learning_rate"] = learning_rate
    norms = optimizer.norms(gradients)
    return metrics | {f"gradient_norm/{part}": norm for part, norm in norms.items()}
