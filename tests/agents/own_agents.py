"""Agents as users write them, in a file of their own: a new one, one of two losses, a subclass."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.agent import Agent, Setup
from agents.dqn import DQN
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.rollout_learner import RolloutLearner
from agents.learning.sequences import Batch
from agents.learning.unroll import read_actor_critic, read_summary
from agents.mathematics.losses import masked_mean
from agents.mathematics.returns import lambda_returns
from agents.trajectory import Trajectory
from conf.schema.agents import DQNOptions
from conf.schema.types import Fraction, PositiveCount


@dataclass
class ReinforceOptions:
    """Of REINFORCE."""

    discount: Fraction
    rollout_length: PositiveCount
    baseline: float = 0.0


class Reinforce(Agent):
    """L = mean[-log pi(a_t | o_t) (G_t - b)], without values (Williams 1992)."""

    Options = ReinforceOptions
    trains: ClassVar = {"actor": ("actor", "policy_head")}

    def __init__(self, networks: Networks, options: ReinforceOptions, setup: Setup) -> None:
        super().__init__(networks, setup)
        self.options = options
        self.learner = RolloutLearner(networks, setup, num_epochs=1, num_minibatches=None)

    @torch.no_grad()
    def prepare(self, trajectory: Trajectory) -> tuple[Batch, dict[str, Tensor]]:
        rollout, nothing = self.learner.read(trajectory), torch.zeros_like(trajectory.rewards)
        returns = lambda_returns(
            rollout.rewards,
            nothing,
            trajectory.terminated,
            trajectory.truncated,
            discount=self.options.discount,
            gae_lambda=1.0,
        )
        advantages = returns - self.options.baseline
        return rollout.batch(old_values=nothing, advantages=advantages, returns=returns), {}

    def losses(self, batch: Batch, sequences: None) -> Losses:
        read = read_actor_critic(self.networks, batch)
        assert batch.advantages is not None
        loss = masked_mean(-read.log_probs * batch.advantages, batch.valid)
        return Losses({"actor": loss}, {"loss/policy": loss.detach()}, read.readings)


class Steering(Reinforce):
    """Two losses, of which one reads the other's network: -Q(s, pi(s)) and (Q(s, a) - r)^2.

    Q reads `[summary, action]`.
    """

    trains: ClassVar = {"actor": ("actor", "policy_head"), "critic": ("critic", "value_head")}

    def losses(self, batch: Batch, sequences: None) -> Losses:
        networks = self.networks
        assert batch.critic_state is not None
        summary, readings = read_summary(networks, "actor", batch, batch.actor_state[0])
        seen, own = read_summary(networks, "critic", batch, batch.critic_state[0])

        def value(actions: Tensor) -> Tensor:
            output: Tensor = networks.value_head(torch.cat([seen, actions], dim=-1))
            return output

        actions: Any = networks.policy_head(summary).mode()
        actor_loss = masked_mean(-value(actions), batch.valid)
        errors = networks.value_head.loss(value(batch.actions), batch.returns)
        losses = {"actor": actor_loss, "critic": masked_mean(errors, batch.valid)}
        metrics = {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        return Losses(losses, metrics, readings | own)


@dataclass
class ScaledDQNOptions(DQNOptions):
    """Of a subclass with one number more."""

    scale: float = 1.0


class ScaledDQN(DQN):
    """DQN whose loss is scaled."""

    Options = ScaledDQNOptions
    options: ScaledDQNOptions

    def losses(self, *inputs: Any) -> Losses:
        found = super().losses(*inputs)
        scaled = {name: self.options.scale * loss for name, loss in found.losses.items()}
        return dataclasses.replace(found, losses=scaled)
