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
from agents.compilation import compiled
from agents.losses import (
    approximate_kl,
    clipped_surrogate,
    explained_variance,
    masked_mean,
    normalized_advantages,
)
from agents.optimizer import Optimizer
from agents.returns import lambda_returns
from agents.schedules import Schedule
from agents.sequences import Batch, minibatches, to_sequences
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.heads import ValueHead
from networks.normalization import NoRewardScaling, RewardScaling
from networks.policy_heads import PolicyHead

_METRICS = (
    "loss/policy",
    "loss/value",
    "policy/entropy",
    "policy/approximate_kl",
    "policy/clip_fraction",
    "update/steps",
    "update/skipped",
)
"""What a gradient step reports, in its order."""


class PPO(Agent):
    """Clipped surrogate objective, generalised advantages, several epochs over sequences.

    Args:
        actor, critic: backbones; one and the same object shares extractor and memory.
        optimizer: makes the optimizer of the parts `extractor, memory, actor, critic`.
        num_envs: environments per trajectory, B.
        sequence_length: steps per sequence, the length of truncated backpropagation through time.
        clip_range, entropy_coefficient: schedules over the run's progress.
        value_clip_range: largest counted change of a value per update; None for no clipping.
        target_kl: learning from a trajectory stops once the policy has moved 1.5 times as far; None
            for never.
        compile: trace the gradient step with `torch.compile`.
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
        super().__init__(actor=actor, policy_head=policy_head, generator=generator)
        self.critic, self.value_head = critic, value_head
        self.reward_scaling = reward_scaling
        self.discount, self.gae_lambda = discount, gae_lambda
        self.sequence_length = sequence_length
        self.num_epochs, self.num_minibatches = num_epochs, num_minibatches
        self.clip_range, self.entropy_coefficient = clip_range, entropy_coefficient
        self.value_clip_range, self.value_coefficient = value_clip_range, value_coefficient
        self.normalize_advantages, self.target_kl = normalize_advantages, target_kl
        # The critic's own memory goes on from trajectory to trajectory beside the actor's.
        self.register_buffer(
            "critic_state", critic.memory.initial_state(num_envs).detach().clone().to(self.device)
        )
        self.optimizer = optimizer(self.parts())
        self._compile = compile
        self.eval()  # dropout and the like are on in gradient steps only
        self._renew()

    def _renew(self) -> None:
        super()._renew()
        self._gradient_step = self._step
        if self._compile:
            backbones = (self.actor, self.critic)
            self._gradient_step = compiled(
                self._step, backbones=backbones, optimizer=self.optimizer
            )

    @property
    def shares_backbone(self) -> bool:
        """Whether actor and critic read the stream with the same extractor and memory."""
        return self.critic is self.actor

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of `extractor, memory, actor, critic`; both backbones' together."""
        backbones = [self.actor] if self.shares_backbone else [self.actor, self.critic]
        return {
            "extractor": [p for backbone in backbones for p in backbone.extractor.parameters()],
            "memory": [p for backbone in backbones for p in backbone.memory.parameters()],
            "actor": list(self.policy_head.parameters()),
            "critic": list(self.value_head.parameters()),
        }

    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Take `num_epochs * num_minibatches` gradient steps on one trajectory."""
        batch = self._prepare(trajectory)
        device = self.device
        learning_rate = torch.tensor(self.optimizer.learning_rate(self.progress), device=device)
        clip_range = torch.tensor(self.clip_range(self.progress), device=device)
        entropy_coefficient = torch.tensor(self.entropy_coefficient(self.progress), device=device)
        active = torch.ones((), dtype=torch.bool, device=device)
        metrics: list[Tensor] = []
        with self.training_mode():
            for sequences in self._minibatches(batch.valid.shape[1]):
                values, gradients, active = self._gradient_step(
                    batch,
                    sequences.to(device),
                    learning_rate,
                    clip_range,
                    entropy_coefficient,
                    active,
                )
                metrics.append(values)
                if self.target_kl is not None and not active:
                    break
        self.actor.observe(trajectory.observations[:-1], trajectory.valid)
        return self._summary(batch, torch.stack(metrics), gradients, learning_rate)

    def _minibatches(self, num_sequences: int) -> Iterator[Int[Tensor, " M"]]:
        for _ in range(self.num_epochs):
            yield from minibatches(num_sequences, self.num_minibatches, self.generator)

    @torch.no_grad()
    def _prepare(self, trajectory: Trajectory) -> Batch:
        """Recompute what acting saw, estimate advantages, and cut everything into sequences."""
        valid = trajectory.valid
        log_probs, values, actor_states, critic_states = self._unroll(trajectory)
        self.reward_scaling.restart(trajectory.is_first[0])
        rewards = self.reward_scaling(trajectory.rewards, trajectory.ended, valid)
        returns = lambda_returns(
            rewards,
            values[1:],
            trajectory.terminated,
            trajectory.truncated,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
        )
        steps = {
            "observations": trajectory.observations[:-1],
            "is_first": trajectory.is_first[:-1],
            "actions": trajectory.actions,
            "old_log_probs": log_probs,
            "old_values": values[:-1],
            "advantages": returns - values[:-1],
            "returns": returns,
            "valid": valid,
        }
        return Batch(
            **{name: to_sequences(step, self.sequence_length) for name, step in steps.items()},
            actor_state=actor_states.flatten(0, 1)[None],
            critic_state=critic_states.flatten(0, 1)[None],
        )

    def _unroll(self, trajectory: Trajectory) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return log-probs `[T, B]`, values `[T + 1, B]` and both memories' states `[W, B, S]`."""
        observations, is_first = trajectory.observations[:-1], trajectory.is_first[:-1]
        length = self.sequence_length
        summary, actor_states, after = self.actor.unroll(
            observations, trajectory.state, is_first, sequence_length=length
        )
        log_probs = self.policy_head(summary).log_prob(trajectory.actions)
        critic_states = actor_states
        if not self.shares_backbone:
            summary, critic_states, after = self.critic.unroll(
                observations, self.critic_state, is_first, sequence_length=length
            )
            # It goes on from before observations[T], which the next trajectory reads first.
            self.critic_state.copy_(after)
        last, _ = self.critic(trajectory.observations[-1:], after, trajectory.is_first[-1:])
        values = self.value_head(torch.cat([summary, last]))
        return log_probs, values, actor_states, critic_states

    def _step(
        self,
        batch: Batch,
        sequences: Int[Tensor, " M"],
        learning_rate: Float[Tensor, ""],
        clip_range: Float[Tensor, ""],
        entropy_coefficient: Float[Tensor, ""],
        active: Bool[Tensor, ""],
    ) -> tuple[Float[Tensor, " metrics"], Float[Tensor, " P"], Bool[Tensor, ""]]:
        """Take one gradient step: a function of tensors, without a branch on data."""
        terms = self._terms(batch.select(sequences), clip_range)
        policy_loss, value_loss, entropy, kl, _ = terms.unbind()
        loss = policy_loss + self.value_coefficient * value_loss - entropy_coefficient * entropy
        if self.target_kl is not None:
            # Before the step, as in Spinning Up: what moved too far is not moved further.
            active = active & (kl <= 1.5 * self.target_kl)
        gradients = torch.autograd.grad(loss, self.optimizer.trainable)
        with torch.no_grad():
            counted, packed = self.optimizer.step(gradients, learning_rate, active)
        skipped = active.to(counted.dtype) - counted
        return torch.cat([terms.detach(), torch.stack([counted, skipped])]), packed, active

    def _terms(self, batch: Batch, clip_range: Float[Tensor, ""]) -> Float[Tensor, " terms"]:
        """Means over valid steps: policy and value loss, entropy, KL(old || new), clip fraction."""
        summary, _ = self.actor(batch.observations, batch.actor_state[0], batch.is_first)
        distribution = self.policy_head(summary)
        if not self.shares_backbone:
            summary, _ = self.critic(batch.observations, batch.critic_state[0], batch.is_first)
        values = self.value_head(summary)

        log_ratio = distribution.log_prob(batch.actions) - batch.old_log_probs
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
                self._value_loss(values, batch),
                distribution.entropy(),
                kl,
                is_clipped,
            ]
        )
        return masked_mean(steps, batch.valid)

    def _value_loss(self, values: Float[Tensor, "L M"], batch: Batch) -> Float[Tensor, "L M"]:
        losses = self.value_head.loss(values, batch.returns)
        if self.value_clip_range is None:
            return losses
        change = (values - batch.old_values).clamp(-self.value_clip_range, self.value_clip_range)
        clipped = self.value_head.loss(batch.old_values + change, batch.returns)
        return torch.maximum(losses, clipped)  # detail 9 of the 37

    def _summary(
        self,
        batch: Batch,
        metrics: Float[Tensor, "U metrics"],
        gradients: Float[Tensor, " P"],
        learning_rate: Float[Tensor, ""],
    ) -> dict[str, Tensor]:
        """Average over the gradient steps that were computed; gradient norms are the last one's."""
        means = dict(zip(_METRICS, metrics.mean(0).unbind(), strict=True))
        means["update/steps"], means["update/skipped"] = metrics[:, -2:].sum(0).unbind()
        means["value/mean"] = masked_mean(batch.old_values, batch.valid)
        means["value/explained_variance"] = explained_variance(
            batch.old_values, batch.returns, batch.valid
        )
        means["schedule/learning_rate"] = learning_rate
        norms = self.optimizer.norms(gradients)
        return means | {f"gradient_norm/{part}": norm for part, norm in norms.items()}
