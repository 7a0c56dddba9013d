"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), with any memory.

Details follow Huang et al. (2022), "The 37 implementation details of PPO"; those that matter here
carry a comment.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from agents.agent import Agent
from agents.learning.actor_critic import ActorCritic, read
from agents.learning.on_policy import Preparation, report
from agents.learning.optimizer import Optimizer, Pace
from agents.learning.reports import COUNTS
from agents.learning.schedules import Schedule
from agents.learning.sequences import Batch, minibatches
from agents.mathematics.losses import (
    approximate_kl,
    clipped_surrogate,
    masked_mean,
    normalized_advantages,
)
from agents.trajectory import Trajectory

_METRICS = (
    "loss/policy",
    "loss/value",
    "policy/entropy",
    "policy/approximate_kl",
    "policy/clip_fraction",
)
"""Means that a gradient step reports, in its order."""


class PPO(Agent):
    """Clipped surrogate objective, generalised advantages, several epochs over sequences.

    Args:
        networks: all of them.
        preparation: turns trajectories into batches.
        optimizer: makes the optimizer of the networks' parts.
        clip_range, entropy_coefficient: schedules over the run's progress.
        value_clip_range: largest counted change of a value per update, of scalar value heads only;
            None for no clipping.
        target_kl: learning from a trajectory stops once the policy has moved 1.5 times as far; None
            for never.
    """

    networks: ActorCritic

    def __init__(
        self,
        *,
        networks: ActorCritic,
        preparation: Preparation,
        optimizer: Callable[[Mapping[str, Sequence[nn.Parameter]]], Optimizer],
        generator: np.random.Generator,
        num_epochs: int,
        num_minibatches: int,
        clip_range: Schedule,
        value_clip_range: float | None,
        value_coefficient: float,
        entropy_coefficient: Schedule,
        normalize_advantages: bool,
        target_kl: float | None,
        compile: bool,
    ) -> None:
        """Take the parts and the numbers."""
        super().__init__(networks=networks, generator=generator, compile=compile)
        self.critic, self.value_head = networks.critic, networks.value_head
        self.preparation = preparation
        self.num_epochs, self.num_minibatches = num_epochs, num_minibatches
        self.clip_range, self.entropy_coefficient = clip_range, entropy_coefficient
        self.value_clip_range, self.value_coefficient = value_clip_range, value_coefficient
        if value_clip_range is not None and not self.value_head.is_scalar:
            raise ValueError("agent.value_clip_range: expected null with this value head")
        self.normalize_advantages, self.target_kl = normalize_advantages, target_kl
        self.optimizer = optimizer(self.parts())
        self.eval()  # dropout and the like are on in gradient steps only

    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Take `num_epochs * num_minibatches` gradient steps on one trajectory."""
        self.thaw()
        trajectory = trajectory.to(self.device)
        batch = self.preparation(trajectory)
        observed = self.value_head.observe(batch.returns, batch.valid)
        before = self.optimizer.flat.clone()
        constants = (
            self.optimizer.pace(self.progress, self.env_steps),
            self.auxiliary.weights(self.progress).to(self.device),
            self.now(self.clip_range),
            self.now(self.entropy_coefficient),
        )
        active = torch.ones((), dtype=torch.bool, device=self.device)
        metrics: list[Tensor] = []
        with self.training_mode():
            for sequences in self._minibatches(batch.valid.shape[1]):
                values, gradients, active = self._gradient_step(
                    batch, sequences.to(self.device), active, *constants
                )
                metrics.append(values)
                if self.target_kl is not None and not active:
                    break
        self.actor.observe(trajectory.step_observations, trajectory.valid)
        return observed | report(
            (*_METRICS, *self.auxiliary.tags, *COUNTS),
            torch.stack(metrics),
            values=batch.old_values,
            returns=batch.returns,
            valid=batch.valid,
            optimizer=self.optimizer,
            gradients=gradients,
            before=before,
            progress=self.progress,
        )

    def _minibatches(self, num_sequences: int) -> Iterator[Int[Tensor, " M"]]:
        for _ in range(self.num_epochs):
            yield from minibatches(num_sequences, self.num_minibatches, self.generator)

    def _step(
        self,
        batch: Batch,
        sequences: Int[Tensor, " M"],
        active: Bool[Tensor, ""],
        pace: Pace,
        auxiliary_weights: Float[Tensor, " A"],
        clip_range: Float[Tensor, ""],
        entropy_coefficient: Float[Tensor, ""],
    ) -> tuple[Float[Tensor, " metrics"], Float[Tensor, " P"], Bool[Tensor, ""]]:
        """Take one gradient step: a function of tensors, without a branch on data."""
        terms, auxiliary = self._terms(batch.select(sequences), clip_range)
        policy_loss, value_loss, entropy, kl, _ = terms.unbind()
        losses = {
            "actor": policy_loss - entropy_coefficient * entropy,
            "critic": self.value_coefficient * value_loss,
        }
        if len(self.auxiliary):
            losses["auxiliary"] = auxiliary @ auxiliary_weights
        if self.target_kl is not None:
            # Before the step, as in Spinning Up: what moved too far is not moved further.
            active = active & ~(kl > 1.5 * self.target_kl)  # nan goes on, to be counted as skipped
        counts, gradients = self.optimizer.descend(losses, pace, active)
        return torch.cat([terms.detach(), auxiliary.detach(), counts]), gradients, active

    def _terms(
        self, batch: Batch, clip_range: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, " terms"], Float[Tensor, " A"]]:
        """Means over valid steps, in the order of `_METRICS`; and the auxiliary losses."""
        outputs = read(self.networks, batch)
        log_ratio = outputs.log_probs - batch.old_log_probs
        # The action of a step that only resets was ignored: it may be anything, and so its ratio.
        log_ratio = torch.where(batch.valid, log_ratio, 0.0)
        ratio = log_ratio.exp()
        advantages = batch.advantages
        if self.normalize_advantages:  # per minibatch, detail 7 of the 37
            advantages = normalized_advantages(advantages, batch.valid)
        with torch.no_grad():
            kl = approximate_kl(log_ratio)
            is_clipped = ((ratio - 1).abs() > clip_range).to(ratio.dtype)
        # One mean for all of them: small networks pay per operation, not per number.
        steps = torch.stack(
            [
                clipped_surrogate(ratio, advantages, clip_range),
                self._value_loss(outputs.values, batch),
                outputs.entropies,
                kl,
                is_clipped,
            ]
        )
        return masked_mean(steps, batch.valid), outputs.auxiliary

    def _value_loss(self, outputs: Float[Tensor, "L M *O"], batch: Batch) -> Float[Tensor, "L M"]:
        losses = self.value_head.loss(outputs, batch.returns)
        if self.value_clip_range is None:
            return losses
        change = (outputs - batch.old_values).clamp(-self.value_clip_range, self.value_clip_range)
        clipped = self.value_head.loss(batch.old_values + change, batch.returns)
        return torch.maximum(losses, clipped)  # detail 9 of the 37
