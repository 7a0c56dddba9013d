"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), with any memory.

Details follow Huang et al. (2022), "The 37 implementation details of PPO"; comments name them.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.rollout_learner import RolloutLearner
from agents.learning.schedules import schedules_of
from agents.learning.sequences import Batch
from agents.learning.unroll import read_actor_critic
from agents.mathematics.losses import (
    Count,
    approximate_kl,
    clipped_surrogate,
    masked_mean,
    means,
    normalized_advantages,
)
from agents.trajectory import Trajectory
from conf.schema.agents import PPOOptions
from networks.ranks import average, count_valid


class PPO(Agent):
    """Clipped surrogate objective, generalised advantages, several epochs over sequences.

    A_t = G_t - V(o_t),  rho_t = pi(a_t | o_t) / pi_old(a_t | o_t)
    L = mean[-min(rho A, clip(rho, 1 - c, 1 + c) A) + c_v (V(o_t) - G_t)^2 - c_e H(pi)]
    """

    Options = PPOOptions
    trains: ClassVar = {"actor": ("actor", "policy_head"), "critic": ("critic", "value_head")}
    learner: RolloutLearner

    def __init__(self, networks: Networks, options: PPOOptions, setup: Setup) -> None:
        super().__init__(networks, setup)
        self.options = options
        self.may_stop = options.target_kl is not None
        if options.value_clip_range is not None and not networks.value_head.is_scalar:
            raise ValueError("agent.value_clip_range: expected null with this value head")
        self.schedules = schedules_of(options, "clip_range", "entropy_coefficient")
        self.learner = RolloutLearner(
            networks,
            setup,
            num_epochs=options.num_epochs,
            num_minibatches=options.num_minibatches,
        )

    @torch.no_grad()
    def prepare(self, trajectory: Trajectory) -> tuple[Batch, dict[str, Tensor]]:
        """Compute old log-probabilities, returns and advantages before the gradient steps."""
        rollout = self.learner.read(trajectory)
        policy = self.networks.policy(rollout.summary, rollout.legal, slice(-1))
        batch = rollout.advantages(
            self.networks,
            discount=self.options.discount,
            gae_lambda=self.options.gae_lambda,
            old_log_probs=policy.log_prob(trajectory.actions),
        )
        return batch, {}

    def losses(
        self,
        batch: Batch,
        sequences: Int[Tensor, " M"],
        *,
        clip_range: Float[Tensor, ""],
        entropy_coefficient: Float[Tensor, ""],
    ) -> Losses:
        """Compute the losses of a minibatch of sequences."""
        batch, options = batch.select(sequences), self.options
        assert batch.old_log_probs is not None and batch.advantages is not None
        advantages, valid = batch.advantages, batch.valid
        # Before the forward pass, where ranks are still in step: one wait fewer.
        count = count_valid(valid)
        if options.normalize_advantages:  # per minibatch, detail 7 of the 37
            advantages = normalized_advantages(advantages, valid, count)
        read = read_actor_critic(self.networks, batch)
        log_ratio = read.log_probs - batch.old_log_probs
        # The action of a reset step was ignored, so its ratio may be anything.
        log_ratio = torch.where(valid, log_ratio, 0.0)
        ratio = log_ratio.exp()
        surrogate = clipped_surrogate(ratio, advantages, clip_range)
        actor_loss = policy_loss = masked_mean(surrogate, valid, count)
        with torch.set_grad_enabled(options.entropy_coefficient > 0):  # else for metrics alone
            entropies = read.policy.entropy()
        if options.entropy_coefficient:
            entropy = masked_mean(entropies, valid, count)
            actor_loss = policy_loss - entropy_coefficient * entropy
        value_loss = masked_mean(self._value_loss(read.values, batch), valid, count)
        metrics: dict[str, Tensor] = {}
        stop = None
        if self.measures or options.target_kl is not None:
            kl, metrics = self._metrics(entropies, log_ratio, ratio, clip_range, valid, count)
            metrics |= {"loss/policy": policy_loss.detach(), "loss/value": value_loss.detach()}
            if options.target_kl is not None:
                # Checked before the step, as in Spinning Up: no update beyond the limit. A nan does
                # not stop; its step is counted as skipped.
                stop = average(kl) > 1.5 * options.target_kl
        return Losses(
            {"actor": actor_loss, "critic": options.value_coefficient * value_loss},
            metrics,
            read.readings,
            stop=stop,
        )

    @torch.no_grad()
    def _metrics(
        self,
        entropies: Float[Tensor, "L M"],
        log_ratio: Float[Tensor, "L M"],
        ratio: Float[Tensor, "L M"],
        clip_range: Float[Tensor, ""],
        valid: Bool[Tensor, "L M"],
        count: Count,
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Return the KL estimate and the policy's metrics."""
        is_clipped = ((ratio - 1).abs() > clip_range).to(ratio.dtype)
        each = entropies, approximate_kl(log_ratio), is_clipped
        entropy, kl, clip_fraction = means(valid, *each, count=count)
        return kl, {
            "policy/entropy": entropy,
            "policy/approximate_kl": kl,
            "policy/clip_fraction": clip_fraction,
        }

    def _value_loss(self, outputs: Float[Tensor, "L M *O"], batch: Batch) -> Float[Tensor, "L M"]:
        head, limit = self.networks.value_head, self.options.value_clip_range
        losses = head.loss(outputs, batch.returns)
        if limit is None:
            return losses
        change = (outputs - batch.old_values).clamp(-limit, limit)
        clipped = head.loss(batch.old_values + change, batch.returns)
        return torch.maximum(losses, clipped)  # detail 9 of the 37
