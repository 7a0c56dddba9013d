"""Learning from rollouts, shared by PPO, A2C and PQN."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agents.learning.learner import Learner
from agents.learning.parts import Networks
from agents.learning.sequences import Batch, cut, minibatches
from agents.mathematics.losses import explained_variance, masked_mean
from agents.mathematics.returns import lambda_returns
from agents.trajectory import Trajectory
from networks.normalization import RewardScaling

if TYPE_CHECKING:
    from agents.agent import Setup


@dataclass(frozen=True)
class Rollout:
    """A trajectory and the networks' outputs on it, before the first gradient step.

    Attributes:
        rewards: scaled.
        legal: legal actions of every observation; None if all are.
        summary: the actor's memory output of every step.
        critic_summary: the critic's, including the observation after the last step.
        steps: tensors of every step for batches, `[T, B, ...]` by name.
        states: memory states before each sequence, `[W, B, S]` by name.
    """

    trajectory: Trajectory
    rewards: Float[Tensor, "T B"]
    legal: Bool[Tensor, "T1 B ..."] | None
    summary: Float[Tensor, "T B H"]
    critic_summary: Float[Tensor, "T1 B H_c"]
    steps: dict[str, Any]
    states: dict[str, Tensor]
    sequence_length: int

    def lambda_returns(
        self, values: Float[Tensor, "T1 B"], *, discount: float, gae_lambda: float
    ) -> Float[Tensor, "T B"]:
        """Compute the returns of every step from the values of all observations."""
        ends = self.trajectory.terminated, self.trajectory.truncated
        return lambda_returns(
            self.rewards, values[1:], *ends, discount=discount, gae_lambda=gae_lambda
        )

    def advantages(
        self, networks: Networks, *, discount: float, gae_lambda: float, **steps: Tensor
    ) -> Batch:
        """Return a batch with the returns of state values and the advantages, `A_t = G_t - V_t`."""
        head = networks.value_head
        values = head.value(head(self.critic_summary))  # [T + 1, B]
        returns_of = partial(self.lambda_returns, discount=discount)
        returns = returns_of(values, gae_lambda=gae_lambda)
        return self.batch(
            old_values=values[:-1],
            advantages=returns - values[:-1],
            returns=returns,
            other_returns=networks.auxiliary.returns(self.critic_summary, returns_of),
            **steps,
        )

    def batch(self, **steps: Float[Tensor, "T B"] | None) -> Batch:
        """Cut everything into sequences; `steps` are the algorithm's own tensors."""
        known = {name: rows for name, rows in {**self.steps, **steps}.items() if rows is not None}
        states = {name: state.flatten(0, 1)[None] for name, state in self.states.items()}
        return Batch(**cut(known, self.sequence_length), **states)


class RolloutLearner(Learner):
    """Trains on rollouts in minibatches of sequences.

    Keeps what carries over between rollouts: the memory state of a separate critic and the reward
    scaling.

    Args:
        num_epochs: passes over a rollout.
        num_minibatches: gradient steps per pass; None for one step on the whole rollout.
    """

    critic_state: Tensor

    def __init__(
        self,
        networks: Networks,
        setup: "Setup",
        *,
        num_epochs: int,
        num_minibatches: int | None,
    ) -> None:
        super().__init__()
        self._networks = networks
        self.reward_scaling = setup.reward_scaling
        self.sequence_length = setup.sequence_length
        self.num_epochs, self.num_minibatches = num_epochs, num_minibatches
        initial = networks.critic.memory.initial_state(setup.num_envs).detach().clone()
        self.register_buffer("critic_state", initial)

    def learn(self, agent: Any, trajectory: Trajectory) -> dict[str, Tensor]:
        """Take all gradient steps on a rollout and return metrics.

        Args:
            agent: also has `prepare(trajectory) -> (batch, metrics)`; its
                `losses(batch, sequences, ...)` are of the given sequences of the batch.
        """
        trajectory = trajectory.to(agent.device)
        batch, metrics = agent.prepare(trajectory)
        metrics |= agent.networks.value_head.observe(batch.returns, batch.valid)
        step, inputs = agent.gradient_step, agent.scheduled()
        with agent.training_mode():
            for sequences in self._minibatches(batch.valid.shape[1], agent):
                step(batch, sequences, **inputs)
                if agent.may_stop and step.is_stopped:
                    break
        agent.networks.observe(trajectory.step_observations, trajectory.valid)
        report: dict[str, Tensor] = step.report()
        if agent.is_watched:
            values, returns, valid = batch.old_values, batch.returns, batch.valid
            report["value/mean"] = masked_mean(values, valid)
            report["value/explained_variance"] = explained_variance(values, returns, valid)
        return {**metrics, **report}

    def _minibatches(self, count: int, agent: Any) -> Iterator[Int[Tensor, " M"] | None]:
        if self.num_minibatches is None:
            yield None
            return
        for _ in range(self.num_epochs):
            for sequences in minibatches(count, self.num_minibatches, agent.generator):
                yield sequences.to(agent.device)

    @torch.no_grad()
    def read(self, trajectory: Trajectory) -> Rollout:
        """Unroll the networks before the first gradient step, and scale the rewards."""
        networks, length, first = self._networks, self.sequence_length, trajectory.is_first
        seen = networks.critic.features(trajectory.observations)  # [T + 1, B, F]
        memory = networks.critic.memory
        state = trajectory.state if networks.shares_backbone else self.critic_state
        summary, states, after = memory.unroll(seen[:-1], state, first[:-1], sequence_length=length)
        last, _ = memory(seen[-1:], after, first[-1:])
        critic_summary, features = torch.cat([summary, last]), {"actor": seen}
        before = {"actor_state": states}
        if not networks.shares_backbone:
            # The state before observations[T], which the next trajectory reads first.
            self.critic_state.copy_(after)
            own = networks.actor.features(trajectory.step_observations)
            summary, own_states, _ = networks.actor.memory.unroll(
                own, trajectory.state, first[:-1], sequence_length=length
            )
            features = {"actor": own, "critic": seen}
            before = {"actor_state": own_states, "critic_state": states}
        legal = networks.legal(trajectory.observations)
        return Rollout(
            trajectory=trajectory,
            rewards=self._scaled_rewards(trajectory),
            legal=legal,
            summary=summary,
            critic_summary=critic_summary,
            steps={
                "is_first": first[:-1],
                "actions": trajectory.actions,
                "valid": trajectory.valid,
                "legal": None if legal is None else legal[:-1],
                **_gradient_inputs(networks, trajectory, features),
            },
            states=before,
            sequence_length=length,
        )

    def _scaled_rewards(self, trajectory: Trajectory) -> Float[Tensor, "T B"]:
        rewards, scaling = trajectory.rewards, self.reward_scaling
        if scaling is None:
            return rewards
        if isinstance(scaling, RewardScaling):
            scaling.observe(rewards, trajectory.is_first[0], trajectory.ended, trajectory.valid)
        return scaling(rewards)


def _gradient_inputs(
    networks: Networks, trajectory: Trajectory, features: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Choose the inputs of gradient steps: observations, or features of frozen extractors.

    Args:
        features: at least the T steps' features `[T, B, F]`, by backbone.

    Returns:
        What gradient steps need of `observations`, `next_observations` and `<backbone>_features`.
    """
    steps, auxiliary = len(trajectory.rewards), networks.auxiliary
    frozen = {name for name, backbone in networks.backbones.items() if backbone.is_frozen}
    inputs: dict[str, Any] = {f"{name}_features": features[name][:steps] for name in frozen}
    if len(frozen) < len(networks.backbones) or not auxiliary.is_empty:
        inputs["observations"] = trajectory.step_observations
    if auxiliary.needs_next:
        inputs["next_observations"] = trajectory.next_observations
    return inputs
