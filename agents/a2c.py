"""Advantage actor-critic (Mnih et al. 2016, arXiv:1602.01783), synchronous, with any memory.

One gradient step per rollout. It is on-policy, so nothing is clipped.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.rollout_learner import RolloutLearner
from agents.learning.schedules import schedules_of
from agents.learning.sequences import Batch
from agents.learning.unroll import read_actor_critic
from agents.mathematics.losses import masked_mean, normalized_advantages
from agents.trajectory import Trajectory
from conf.schema.agents import A2COptions


class A2C(Agent):
    """Policy gradient with the advantages of n-step returns (`gae_lambda=1`) or of GAE.

    A_t = G_t - V(o_t)
    L = mean[-log pi(a_t | o_t) A_t + c_v (V(o_t) - G_t)^2 - c_e H(pi)]
    """

    Options = A2COptions
    trains: ClassVar = {"actor": ("actor", "policy_head"), "critic": ("critic", "value_head")}
    learner: RolloutLearner

    def __init__(self, networks: Networks, options: A2COptions, setup: Setup) -> None:
        super().__init__(networks, setup)
        self.options = options
        self.schedules = schedules_of(options, "entropy_coefficient")
        self.learner = RolloutLearner(networks, setup, num_epochs=1, num_minibatches=None)

    @torch.no_grad()
    def prepare(self, trajectory: Trajectory) -> tuple[Batch, dict[str, Tensor]]:
        """Compute returns and advantages before the gradient step."""
        rollout = self.learner.read(trajectory)
        discount, gae_lambda = self.options.discount, self.options.gae_lambda
        return rollout.advantages(self.networks, discount=discount, gae_lambda=gae_lambda), {}

    def losses(
        self, batch: Batch, sequences: None, *, entropy_coefficient: Float[Tensor, ""]
    ) -> Losses:
        """Compute the losses of one rollout."""
        read, options = read_actor_critic(self.networks, batch), self.options
        assert batch.advantages is not None
        advantages = batch.advantages  # from the values before the step: no gradient
        if options.normalize_advantages:
            advantages = normalized_advantages(advantages, batch.valid)
        valid = batch.valid
        actor_loss = policy_loss = masked_mean(-read.log_probs * advantages, valid)
        entropy = masked_mean(read.policy.entropy(), valid)
        if options.entropy_coefficient:
            actor_loss = policy_loss - entropy_coefficient * entropy
        value_loss = masked_mean(self.networks.value_head.loss(read.values, batch.returns), valid)
        return Losses(
            {"actor": actor_loss, "critic": options.value_coefficient * value_loss},
            {
                "loss/policy": policy_loss.detach(),
                "loss/value": value_loss.detach(),
                "policy/entropy": entropy.detach(),
            },
            read.readings,
        )
