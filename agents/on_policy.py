"""What on-policy actor-critics share: from a trajectory to a batch, from gradient steps to scalars.

Each algorithm adds its own loss and its own passes over the batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.actor_critic import ActorCritic
from agents.losses import explained_variance, masked_mean
from agents.optimizer import Optimizer
from agents.reports import movement, summarized
from agents.returns import lambda_returns
from agents.sequences import Batch, to_sequences
from agents.trajectory import Trajectory
from networks.normalization import NoRewardScaling, RewardClipping, RewardScaling
from networks.observations import map_observations


class Preparation(nn.Module):
    """Turns trajectories into batches: what acting saw, advantages, sequences.

    Holds what goes on from one trajectory to the next: a separate critic's memory and the scale of
    rewards.

    Args:
        num_envs: environments per trajectory, B.
        sequence_length: steps per sequence, the length of truncated backpropagation through time.
        gae_lambda: of the advantages (Schulman et al. 2016, arXiv:1506.02438).
    """

    critic_state: Tensor

    def __init__(
        self,
        networks: ActorCritic,
        *,
        reward_scaling: RewardScaling | RewardClipping | NoRewardScaling,
        num_envs: int,
        discount: float,
        gae_lambda: float,
        sequence_length: int,
    ) -> None:
        """Start with an empty memory."""
        super().__init__()
        self._networks = networks
        self.reward_scaling = reward_scaling
        self.discount, self.gae_lambda = discount, gae_lambda
        self.sequence_length = sequence_length
        initial = networks.critic.memory.initial_state(num_envs).detach().clone()
        self.register_buffer("critic_state", initial)

    @torch.no_grad()
    def forward(self, trajectory: Trajectory) -> Batch:
        """Recompute what acting saw, estimate advantages, and cut everything into sequences."""
        steps, states = self._read(trajectory)
        values = steps.pop("values")
        self.reward_scaling.observe(
            trajectory.rewards, trajectory.is_first[0], trajectory.ended, trajectory.valid
        )
        returns = lambda_returns(
            self.reward_scaling(trajectory.rewards),
            values[1:],
            trajectory.terminated,
            trajectory.truncated,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
        )
        steps |= {
            "is_first": trajectory.is_first[:-1],
            "actions": trajectory.actions,
            "old_values": values[:-1],
            "advantages": returns - values[:-1],
            "returns": returns,
            "valid": trajectory.valid,
        }
        return Batch(
            **{name: self._sequences(step) for name, step in steps.items()},
            **{name: state.flatten(0, 1)[None] for name, state in states.items()},
        )

    def _sequences(self, steps: Any) -> Any:
        if steps is None:
            return None
        return map_observations(lambda part: to_sequences(part, self.sequence_length), steps)

    def _read(self, trajectory: Trajectory) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Unroll the networks; return what a batch holds of every step, and both memories' states.

        Values are `[T + 1, B]`, the states before each sequence `[W, B, S]`.
        """
        networks, length = self._networks, self.sequence_length
        actor, critic, is_first = networks.actor, networks.critic, trajectory.is_first
        # The last observation is read by the critic alone, which the actor may be.
        read = trajectory.observations if networks.shares_backbone else trajectory.step_observations
        features = critic_features = actor.features(read)
        summary, actor_states, after = actor.memory.unroll(
            features[: len(trajectory.rewards)],
            trajectory.state,
            is_first[:-1],
            sequence_length=length,
        )
        log_probs = networks.policy_head(summary).log_prob(trajectory.actions)
        critic_states = actor_states
        if not networks.shares_backbone:
            critic_features = critic.features(trajectory.observations)
            summary, critic_states, after = critic.memory.unroll(
                critic_features[:-1], self.critic_state, is_first[:-1], sequence_length=length
            )
            # It goes on from before observations[T], which the next trajectory reads first.
            self.critic_state.copy_(after)
        last, _ = critic.memory(critic_features[-1:], after, is_first[-1:])
        values = networks.value_head.value(networks.value_head(torch.cat([summary, last])))
        steps = {
            "old_log_probs": log_probs,
            "values": values,
            **self._inputs(trajectory, features, critic_features),
        }
        return steps, {"actor_state": actor_states, "critic_state": critic_states}

    def _inputs(
        self, trajectory: Trajectory, actor_features: Tensor, critic_features: Tensor
    ) -> dict[str, Any]:
        """Choose what gradient steps read: observations, or features that stay what they are."""
        networks, steps = self._networks, len(trajectory.rewards)
        is_known = all(backbone.is_frozen for backbone in networks.backbones.values())
        return {
            "observations": (
                None if is_known and not len(networks.auxiliary) else trajectory.step_observations
            ),
            "next_observations": (
                trajectory.next_observations if networks.auxiliary.needs_next else None
            ),
            "actor_features": actor_features[:steps] if networks.actor.is_frozen else None,
            "critic_features": (
                critic_features[:steps]
                if networks.critic.is_frozen and not networks.shares_backbone
                else None
            ),
        }


def report(
    names: Sequence[str],
    steps: Float[Tensor, "U metrics"],
    *,
    batch: Batch,
    optimizer: Optimizer,
    gradients: Float[Tensor, " P"],
    before: Float[Tensor, " P"],
    progress: float,
) -> dict[str, Tensor]:
    """Make TensorBoard's scalars: means over the gradient steps that were computed, counts as sums.

    Args:
        names: of the metrics of one gradient step, `COUNTS` last.
        gradients, before: as `agents.reports.movement` takes them.
    """
    metrics = summarized(names, steps)
    metrics["value/mean"] = masked_mean(batch.old_values, batch.valid)
    metrics["value/explained_variance"] = explained_variance(
        batch.old_values, batch.returns, batch.valid
    )
    return metrics | movement(optimizer, gradients=gradients, before=before, progress=progress)
