"""Parallelised Q-learning (Gallici et al. 2025, arXiv:2407.04811), with any memory.

Many environments replace the replay buffer. Layer normalisation replaces the target network:
targets are the network's own values, computed before the gradient steps.
"""

from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.rollout_learner import RolloutLearner
from agents.learning.schedules import Schedule, exploration_schedule
from agents.learning.sequences import Batch
from agents.learning.unroll import read_summary
from agents.mathematics.losses import (
    errors_by_position,
    largest_value,
    masked_mean,
    select_actions,
)
from agents.trajectory import Trajectory
from conf.schema.agents import PQNOptions
from networks.heads.distributions import mask_illegal


class PQN(Agent):
    """Q(lambda) on rollouts of many environments, with several epochs on fixed returns.

        G_t = r_t + d_t ((1 - l_t) max_a Q(o_{t+1}, a) + l_t G_{t+1})
        L = mean[(Q(o_t, a_t) - G_t)^2]

    Traces are not cut at non-greedy actions. Termination sets d_t to 0, truncation l_t.

    Source: Peng & Williams (1996); Daley & Amato (2019), arXiv:1810.09967, for the recursion.
    """

    Options = PQNOptions
    trains: ClassVar = {"critic": ("critic", "value_head")}
    acts_by_values = True
    learner: RolloutLearner
    epsilon: Schedule

    def __init__(self, networks: Networks, options: PQNOptions, setup: Setup) -> None:
        super().__init__(networks, setup)
        self.options = options
        self.epsilon = exploration_schedule(
            options.epsilon, options.final_epsilon, options.epsilon_fraction
        )
        self.learner = RolloutLearner(
            networks,
            setup,
            num_epochs=options.num_epochs,
            num_minibatches=options.num_minibatches,
        )

    @torch.no_grad()
    def prepare(self, trajectory: Trajectory) -> tuple[Batch, dict[str, Tensor]]:
        """Compute returns before the gradient steps."""
        rollout = self.learner.read(trajectory)
        head, options = self.networks.value_head, self.options
        values = head.value(head(rollout.critic_summary))  # [T + 1, B, A]
        values = mask_illegal(values, rollout.legal)
        returns = rollout.lambda_returns(
            values.amax(-1), discount=options.discount, gae_lambda=options.td_lambda
        )
        batch = rollout.batch(
            old_values=select_actions(values[:-1], trajectory.actions), returns=returns
        )
        return batch, {
            "value/max": largest_value(values[:-1], trajectory.valid),
            "schedule/epsilon": torch.tensor(self.epsilon(self.progress)),
        }

    def losses(self, batch: Batch, sequences: Int[Tensor, " M"]) -> Losses:
        """Compute the loss of a minibatch of sequences."""
        batch, head = batch.select(sequences), self.networks.value_head
        summary, readings = read_summary(
            self.networks, "actor", batch, batch.actor_state[0], known=batch.actor_features
        )
        output = select_actions(head(summary), batch.actions)
        loss = masked_mean(head.loss(output, batch.returns), batch.valid)
        with torch.no_grad():
            errors = head.error(output, batch.returns)
            metrics = {
                "loss/value": loss.detach(),
                "value/td_error": masked_mean(errors, batch.valid),
                **errors_by_position(errors, batch.valid),
            }
        return Losses({"critic": loss}, metrics, readings)
