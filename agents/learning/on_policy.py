"""What on-policy actor-critics share: from a trajectory to a batch, from gradient steps to scalars.

Each algorithm adds its own loss and its own passes over the batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.actor_critic import ActorCritic
from agents.learning.optimizer import Optimizer
from agents.learning.reports import movement, summarized
from agents.learning.sequences import Batch, cut
from agents.learning.unroll import inputs, unroll
from agents.mathematics.losses import explained_variance, masked_mean
from agents.mathematics.returns import lambda_returns
from agents.trajectory import Trajectory
from networks.normalization import NoRewardScaling, RewardClipping, RewardScaling


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
            **cut(steps, self.sequence_length),
            **{name: state.flatten(0, 1)[None] for name, state in states.items()},
        )

    def _read(self, trajectory: Trajectory) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Unroll the networks; return what a batch holds of every step, and both memories' states.

        Values are `[T + 1, B]`, the states before each sequence `[W, B, S]`.
        """
        networks, length = self._networks, self.sequence_length
        state = trajectory.state if networks.shares_backbone else self.critic_state
        critic = unroll(networks.critic, trajectory, state, sequence_length=length)
        if networks.shares_backbone:
            features, summary, actor_states = critic.features, critic.summary[:-1], critic.states
        else:
            # It goes on from before observations[T], which the next trajectory reads first.
            self.critic_state.copy_(critic.after)
            features = networks.actor.features(trajectory.step_observations)
            summary, actor_states, _ = networks.actor.memory.unroll(
                features, trajectory.state, trajectory.is_first[:-1], sequence_length=length
            )
        steps = {
            "old_log_probs": networks.policy_head(summary).log_prob(trajectory.actions),
            "values": networks.value_head.value(networks.value_head(critic.summary)),
            "critic_features": None,
            **inputs(networks, trajectory, {"actor": features, "critic": critic.features}),
        }
        return steps, {"actor_state": actor_states, "critic_state": critic.states}


def report(
    names: Sequence[str],
    steps: Float[Tensor, "U metrics"],
    *,
    values: Float[Tensor, "L N"],
    returns: Float[Tensor, "L N"],
    valid: Bool[Tensor, "L N"],
    optimizer: Optimizer,
    gradients: Float[Tensor, " P"],
    before: Float[Tensor, " P"],
    progress: float,
) -> dict[str, Tensor]:
    """Make TensorBoard's scalars: means over the gradient steps that were computed, counts as sums.

    Args:
        names: of the metrics of one gradient step, `COUNTS` last.
        values: before the first step, in units of return.
        returns: what they were fitted to.
        gradients, before: as `agents.learning.reports.movement` takes them.
    """
    metrics = summarized(names, steps)
    metrics["value/mean"] = masked_mean(values, valid)
    metrics["value/explained_variance"] = explained_variance(values, returns, valid)
    return metrics | movement(optimizer, gradients=gradients, before=before, progress=progress)
