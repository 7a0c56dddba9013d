"""Advantage actor-critic (Mnih et al. 2016, arXiv:1602.01783), synchronous, with any memory.

One gradient step on every rollout: the policy has not moved since it acted, so nothing is clipped.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.agent import Agent
from agents.losses import masked_mean, normalized_advantages
from agents.on_policy import COUNTS, ActorCritic, parts_of, prepare, read, report
from agents.optimizer import Optimizer
from agents.schedules import Schedule
from agents.sequences import Batch
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.heads import ValueHead
from networks.normalization import NoRewardScaling, RewardScaling
from networks.policy_heads import PolicyHead

_METRICS = ("loss/policy", "loss/value", "policy/entropy", *COUNTS)
"""What a gradient step reports, in its order."""


class A2C(Agent):
    """Policy gradient with the advantages of n-step returns or of GAE.

    Args:
        actor, critic: backbones; one and the same object shares extractor and memory.
        optimizer: makes the optimizer of the parts `extractor, memory, actor, critic`.
        num_envs: environments per trajectory, B.
        sequence_length: steps per sequence, the length of truncated backpropagation through time.
        gae_lambda: 1 for the paper's returns, which reach as far as the rollout does.
        entropy_coefficient: schedule over the run's progress.
    """

    critic_state: Tensor

    def __init__(
        self,
        *,
        actor: Backbone,
        critic: Backbone,
        policy_head: PolicyHead,
        value_head: ValueHead,
        optimizer: Callable[[Mapping[str, Sequence[nn.Parameter]]], Optimizer],
        reward_scaling: RewardScaling | NoRewardScaling,
        generator: np.random.Generator,
        num_envs: int,
        sequence_length: int,
        discount: float,
        gae_lambda: float,
        value_coefficient: float,
        entropy_coefficient: Schedule,
        normalize_advantages: bool,
        compile: bool,
    ) -> None:
        """Take the parts and the numbers."""
        super().__init__(actor=actor, policy_head=policy_head, generator=generator, compile=compile)
        self.critic, self.value_head = critic, value_head
        self.networks = ActorCritic(actor, critic, policy_head, value_head)
        self.reward_scaling = reward_scaling
        self.discount, self.gae_lambda = discount, gae_lambda
        self.sequence_length = sequence_length
        self.value_coefficient, self.entropy_coefficient = value_coefficient, entropy_coefficient
        self.normalize_advantages = normalize_advantages
        # The critic's own memory goes on from trajectory to trajectory beside the actor's.
        self.register_buffer(
            "critic_state", critic.memory.initial_state(num_envs).detach().clone().to(self.device)
        )
        self.optimizer = optimizer(self.parts())
        self.eval()  # dropout and the like are on in gradient steps only

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of `extractor, memory, actor, critic`; both backbones' together."""
        return parts_of(self.networks)

    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Take one gradient step on all of a trajectory."""
        batch = prepare(
            self.networks,
            trajectory,
            self.critic_state,
            reward_scaling=self.reward_scaling,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
            sequence_length=self.sequence_length,
        )
        observed = self.value_head.observe(batch.returns, batch.valid)
        learning_rate = self.now(self.optimizer.learning_rate)
        with self.training_mode():
            metrics, gradients = self._gradient_step(
                batch, learning_rate, self.now(self.entropy_coefficient)
            )
        self.actor.observe(trajectory.step_observations, trajectory.valid)
        return observed | report(
            _METRICS,
            metrics[None],
            batch=batch,
            optimizer=self.optimizer,
            gradients=gradients,
            learning_rate=learning_rate,
        )

    def _step(
        self,
        batch: Batch,
        learning_rate: Float[Tensor, ""],
        entropy_coefficient: Float[Tensor, ""],
    ) -> tuple[Float[Tensor, " metrics"], Float[Tensor, " P"]]:
        """Take one gradient step: a function of tensors, without a branch on data."""
        log_probs, entropies, outputs = read(self.networks, batch)
        advantages = batch.advantages  # of the values before the step: constants to the policy
        if self.normalize_advantages:
            advantages = normalized_advantages(advantages, batch.valid)
        steps = torch.stack(
            [-log_probs * advantages, self.value_head.loss(outputs, batch.returns), entropies]
        )
        terms = masked_mean(steps, batch.valid)
        policy_loss, value_loss, entropy = terms.unbind()
        loss = policy_loss + self.value_coefficient * value_loss - entropy_coefficient * entropy
        active = torch.ones_like(loss, dtype=torch.bool)
        counts, gradients = self.optimizer.descend(loss, learning_rate, active)
        return torch.cat([terms.detach(), counts]), gradients
