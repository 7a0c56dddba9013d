"""Parallelised Q-learning (Gallici et al. 2025, arXiv:2407.04811), with any memory.

Many environments in place of a replay, a normalised network in place of a target network: with
layer normalisation the values that a network learns from are its own, of a moment ago.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from agents.agent import Agent
from agents.learning.on_policy import report
from agents.learning.optimizer import Optimizer, Pace
from agents.learning.parts import ActionValues, taken
from agents.learning.reports import COUNTS, by_position, highest
from agents.learning.schedules import Schedule
from agents.learning.sequences import Steps, cut, minibatches
from agents.learning.unroll import inputs, read_features, unroll
from agents.mathematics.losses import masked_mean
from agents.mathematics.returns import lambda_returns
from agents.trajectory import Trajectory
from networks.autoencoding.losses import Reading
from networks.heads.values import ValueHead
from networks.normalization import NoRewardScaling, RewardClipping, RewardScaling


@dataclass(frozen=True)
class Rollout(Steps):
    """A trajectory cut into sequences, and what its values are fitted to.

    Attributes:
        actor_features: of a frozen extractor; None of one that learns.
        actor_state: of the memory before each sequence.
        old_values: of the actions taken, before the first gradient step.
        returns: Q(lambda)'s.
    """

    actor_features: Float[Tensor, "L N F"] | None
    actor_state: Float[Tensor, "1 N S"]
    old_values: Float[Tensor, "L N"]
    returns: Float[Tensor, "L N"]


class PQN(Agent):
    """Q(lambda) on rollouts of many environments: several epochs, fixed returns.

    Args:
        networks: all of them.
        reward_scaling: of what is learnt from.
        optimizer: makes the optimizer of the networks' parts.
        sequence_length: steps per sequence, the length of truncated backpropagation through time.
        td_lambda: of the returns.
        epsilon: share of random actions, over the run's progress.
    """

    networks: ActionValues

    def __init__(
        self,
        *,
        networks: ActionValues,
        reward_scaling: RewardScaling | RewardClipping | NoRewardScaling,
        optimizer: Callable[[Mapping[str, Sequence[nn.Parameter]]], Optimizer],
        generator: np.random.Generator,
        sequence_length: int,
        discount: float,
        td_lambda: float,
        num_epochs: int,
        num_minibatches: int,
        epsilon: Schedule,
        compile: bool,
    ) -> None:
        """Take the parts and the numbers."""
        super().__init__(networks=networks, generator=generator, compile=compile)
        self.reward_scaling = reward_scaling
        self.sequence_length = sequence_length
        self.discount, self.td_lambda = discount, td_lambda
        self.num_epochs, self.num_minibatches = num_epochs, num_minibatches
        self.epsilon = epsilon
        self.optimizer = optimizer(self.parts())
        positions = by_position(torch.zeros(sequence_length, 1, dtype=torch.bool))
        self._metrics = ("loss/value", "value/td_error", *positions, *self.auxiliary.tags, *COUNTS)
        self.eval()  # dropout and the like are on in gradient steps only

    @property
    def value_head(self) -> ValueHead:
        """The values by which it acts."""
        return self.networks.value_head

    def reach(self, env_steps: int, *, total_env_steps: int) -> None:
        """Stand at a point of the run, and explore as much as is due there."""
        super().reach(env_steps, total_env_steps=total_env_steps)
        self.networks.policy_head.set_epsilon(self.epsilon(self.progress))

    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Take `num_epochs * num_minibatches` gradient steps on one trajectory."""
        self.thaw()
        trajectory = trajectory.to(self.device)
        rollout, largest = self._prepare(trajectory)
        observed = self.value_head.observe(rollout.returns, rollout.valid)
        before = self.optimizer.flat.clone()
        pace = self.optimizer.pace(self.progress, self.env_steps)
        auxiliary_weights = self.auxiliary.weights(self.progress).to(self.device)
        metrics: list[Tensor] = []
        with self.training_mode():
            for _ in range(self.num_epochs):
                num_sequences = rollout.valid.shape[1]
                for chosen in minibatches(num_sequences, self.num_minibatches, self.generator):
                    values, gradients = self._gradient_step(
                        rollout, chosen.to(self.device), pace, auxiliary_weights
                    )
                    metrics.append(values)
        self.actor.observe(trajectory.step_observations, trajectory.valid)
        observed |= {
            "value/max": largest,
            "schedule/epsilon": self.networks.policy_head.epsilon.clone(),
        }
        return observed | report(
            self._metrics,
            torch.stack(metrics),
            values=rollout.old_values,
            returns=rollout.returns,
            valid=rollout.valid,
            optimizer=self.optimizer,
            gradients=gradients,
            before=before,
            progress=self.progress,
        )

    @torch.no_grad()
    def _prepare(self, trajectory: Trajectory) -> tuple[Rollout, Float[Tensor, ""]]:
        """Value a trajectory with the parameters that acted; also return the largest value.

            G_t = r_t + d_t ((1 - l_t) max_a Q(s_{t+1}, a) + l_t G_{t+1})

        Nothing is cut where an action was not greedy. Termination zeroes d, truncation l.

        Source: Peng & Williams (1996); Daley & Amato (2019), arXiv:1810.09967, for the recursion.
        """
        read = unroll(
            self.actor, trajectory, trajectory.state, sequence_length=self.sequence_length
        )
        values = self.value_head.value(self.value_head(read.summary))  # [T + 1, B, A]
        valid, is_first = trajectory.valid, trajectory.is_first
        self.reward_scaling.observe(trajectory.rewards, is_first[0], trajectory.ended, valid)
        returns = lambda_returns(
            self.reward_scaling(trajectory.rewards),
            values[1:].amax(-1),
            trajectory.terminated,
            trajectory.truncated,
            discount=self.discount,
            gae_lambda=self.td_lambda,
        )
        steps = {
            "is_first": is_first[:-1],
            "actions": trajectory.actions,
            "valid": valid,
            "old_values": taken(values[:-1], trajectory.actions),
            "returns": returns,
            **inputs(self.networks, trajectory, {"actor": read.features}),
        }
        largest = highest(values[:-1], valid)
        state = read.states.flatten(0, 1)[None]
        return Rollout(**cut(steps, self.sequence_length), actor_state=state), largest

    def _step(
        self,
        rollout: Rollout,
        sequences: Int[Tensor, " M"],
        pace: Pace,
        auxiliary_weights: Float[Tensor, " A"],
    ) -> tuple[Float[Tensor, " metrics"], Float[Tensor, " P"]]:
        """Take one gradient step: a function of tensors, without a branch on data."""
        batch = rollout.select(sequences)
        readings: dict[str, Reading] = {}
        features = read_features(
            self.networks, "actor", batch, known=batch.actor_features, readings=readings
        )
        summary, _ = self.actor.memory(features, batch.actor_state[0], batch.is_first)
        output = taken(self.value_head(summary), batch.actions)
        loss = masked_mean(self.value_head.loss(output, batch.returns), batch.valid)
        losses, auxiliary = {"critic": loss}, loss.new_zeros(0)
        if len(self.auxiliary):
            auxiliary = self.auxiliary(readings)
            losses["auxiliary"] = auxiliary @ auxiliary_weights
        with torch.no_grad():
            errors = self.value_head.error(output, batch.returns)
            means = [masked_mean(errors, batch.valid), *by_position(batch.valid, errors).values()]
            terms = torch.stack([loss.detach(), *means])
        active = torch.ones((), dtype=torch.bool, device=loss.device)
        counts, gradients = self.optimizer.descend(losses, pace, active)
        return torch.cat([terms, auxiliary.detach(), counts]), gradients
