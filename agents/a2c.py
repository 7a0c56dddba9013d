"""Advantage actor-critic (Mnih et al. 2016, arXiv:1602.01783), synchronous, with any memory.

One gradient step on every rollout: the policy has not moved since it acted, so nothing is clipped.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.agent import Agent
from agents.learning.actor_critic import ActorCritic, read
from agents.learning.on_policy import Preparation, report
from agents.learning.optimizer import Optimizer, Pace
from agents.learning.reports import COUNTS
from agents.learning.schedules import Schedule
from agents.learning.sequences import Batch
from agents.mathematics.losses import masked_mean, normalized_advantages
from agents.trajectory import Trajectory

_METRICS = ("loss/policy", "loss/value", "policy/entropy")
"""Means that a gradient step reports, in its order."""


class A2C(Agent):
    """Policy gradient with the advantages of n-step returns or of GAE.

    Args:
        networks: all of them.
        preparation: turns trajectories into batches; with `gae_lambda=1` it makes the paper's
            returns, which reach as far as the rollout does.
        optimizer: makes the optimizer of the networks' parts.
        entropy_coefficient: schedule over the run's progress.
    """

    networks: ActorCritic

    def __init__(
        self,
        *,
        networks: ActorCritic,
        preparation: Preparation,
        optimizer: Callable[[Mapping[str, Sequence[nn.Parameter]]], Optimizer],
        generator: np.random.Generator,
        value_coefficient: float,
        entropy_coefficient: Schedule,
        normalize_advantages: bool,
        compile: bool,
    ) -> None:
        """Take the parts and the numbers."""
        super().__init__(networks=networks, generator=generator, compile=compile)
        self.critic, self.value_head = networks.critic, networks.value_head
        self.preparation = preparation
        self.value_coefficient, self.entropy_coefficient = value_coefficient, entropy_coefficient
        self.normalize_advantages = normalize_advantages
        self.optimizer = optimizer(self.parts())
        self.eval()  # dropout and the like are on in gradient steps only

    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Take one gradient step on all of a trajectory."""
        self.thaw()
        trajectory = trajectory.to(self.device)
        batch = self.preparation(trajectory)
        observed = self.value_head.observe(batch.returns, batch.valid)
        before = self.optimizer.flat.clone()
        with self.training_mode():
            metrics, gradients = self._gradient_step(
                batch,
                self.optimizer.pace(self.progress, self.env_steps),
                self.auxiliary.weights(self.progress).to(self.device),
                self.now(self.entropy_coefficient),
            )
        self.actor.observe(trajectory.step_observations, trajectory.valid)
        return observed | report(
            (*_METRICS, *self.auxiliary.tags, *COUNTS),
            metrics[None],
            values=batch.old_values,
            returns=batch.returns,
            valid=batch.valid,
            optimizer=self.optimizer,
            gradients=gradients,
            before=before,
            progress=self.progress,
        )

    def _step(
        self,
        batch: Batch,
        pace: Pace,
        auxiliary_weights: Float[Tensor, " A"],
        entropy_coefficient: Float[Tensor, ""],
    ) -> tuple[Float[Tensor, " metrics"], Float[Tensor, " P"]]:
        """Take one gradient step: a function of tensors, without a branch on data."""
        outputs = read(self.networks, batch)
        advantages = batch.advantages  # of the values before the step: constants to the policy
        if self.normalize_advantages:
            advantages = normalized_advantages(advantages, batch.valid)
        steps = torch.stack(
            [
                -outputs.log_probs * advantages,
                self.value_head.loss(outputs.values, batch.returns),
                outputs.entropies,
            ]
        )
        terms = masked_mean(steps, batch.valid)
        policy_loss, value_loss, entropy = terms.unbind()
        losses = {
            "actor": policy_loss - entropy_coefficient * entropy,
            "critic": self.value_coefficient * value_loss,
        }
        if len(self.auxiliary):
            losses["auxiliary"] = outputs.auxiliary @ auxiliary_weights
        active = torch.ones_like(policy_loss, dtype=torch.bool)
        counts, gradients = self.optimizer.descend(losses, pace, active)
        return torch.cat([terms.detach(), outputs.auxiliary.detach(), counts]), gradients
