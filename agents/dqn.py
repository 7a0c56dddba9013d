"""Deep Q-learning (Mnih et al. 2015), each of its variants a part, with any memory.

Double Q-learning and n-step returns belong to the target, dueling and noisy networks are layers,
C51 and quantile regression are value heads, priorities are the replay's, DRQN and R2D2 are
memories. Rainbow (Hessel et al. 2018, arXiv:1710.02298) is all of it at once.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.agent import Agent
from agents.learning.optimizer import Optimizer, Pace
from agents.learning.parts import ActionValues, Noise, taken
from agents.learning.replay_learner import (
    UpdateClock,
    Windows,
    learnt_steps,
    sequence_priorities,
    states_on_stride,
    warmed,
)
from agents.learning.reports import COUNTS, by_position, look, movement, summarized
from agents.learning.schedules import Schedule
from agents.learning.targets import QTarget
from agents.learning.unroll import read_features
from agents.mathematics.losses import masked_mean
from agents.replay.replay import Replay
from agents.trajectory import Trajectory
from networks.autoencoding.losses import Reading
from networks.heads.values import ValueHead

_METRICS = ("loss/value", "value/mean", "value/td_error")
"""Means that a gradient step reports, in its order."""


class DQN(Agent):
    """Learns the values of actions from replayed windows of its stream, and acts by them.

    Args:
        networks: all of them.
        replay: what it draws from.
        windows: how what it draws is read.
        clock: says when gradient steps are due, and copies of the target network.
        target: what values are to become.
        optimizer: makes the optimizer of the networks' parts.
        batch_size: windows per gradient step.
        polyak_rate: how far the target network follows after each gradient step (Lillicrap et al.
            2016, arXiv:1509.02971); 1: it does not, the clock has it copied.
        epsilon: share of random actions, over the run's progress.
        importance_exponent: beta of prioritised replay, over the run's progress.
        priority_max_share: of the largest error in a sequence's priority; the rest is their mean.
    """

    networks: ActionValues

    def __init__(
        self,
        *,
        networks: ActionValues,
        replay: Replay,
        windows: Windows,
        clock: UpdateClock,
        target: QTarget,
        optimizer: Callable[[Mapping[str, Sequence[nn.Parameter]]], Optimizer],
        generator: np.random.Generator,
        batch_size: int,
        polyak_rate: float,
        epsilon: Schedule,
        importance_exponent: Schedule,
        priority_max_share: float,
        compile: bool,
    ) -> None:
        """Take the parts and the numbers."""
        super().__init__(networks=networks, generator=generator, compile=compile)
        self.replay, self.windows, self.clock, self.target = replay, windows, clock, target
        self.batch_size, self.priority_max_share = batch_size, priority_max_share
        self.polyak_rate = polyak_rate
        self.epsilon, self.importance_exponent = epsilon, importance_exponent
        self.optimizer = optimizer(self.parts())
        positions = by_position(torch.zeros(windows.sequence_length, 1, dtype=torch.bool))
        self._metrics = (*_METRICS, *positions, *self.auxiliary.tags, *COUNTS)
        self.eval()  # dropout and the like are on in gradient steps only

    @property
    def value_head(self) -> ValueHead:
        """The values by which it acts."""
        return self.networks.value_head

    def reach(self, env_steps: int, *, total_env_steps: int) -> None:
        """Stand at a point of the run, and explore as much as is due there."""
        super().reach(env_steps, total_env_steps=total_env_steps)
        self.networks.policy_head.set_epsilon(self.epsilon(self.progress))

    def adopt(self) -> None:
        """Let the target begin with weights that came from elsewhere."""
        self.target.network.follow(1.0)

    def experience(self) -> Replay:
        """Return the replay, most of which never changes from one checkpoint to the next."""
        return self.replay

    def learn(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """Remember a trajectory, and take the gradient steps that are due."""
        self.thaw()
        # To a GPU goes what is read there: not every image that replay has to keep.
        is_read = self.windows.keeps_state or self.actor.normalization.learns
        seen = trajectory.to(self.device) if is_read else trajectory
        self.replay.add(trajectory, self._states(seen))
        valid = trajectory.valid
        device, scaling = self.device, self.target.reward_scaling
        scaling.observe(
            trajectory.rewards.to(device),
            trajectory.is_first[0].to(device),
            trajectory.ended.to(device),
            valid.to(device),
        )
        due, copies = self.clock.advance(int(valid.sum()), is_ready=self.replay.num_windows > 0)
        if copies:  # between blocks of gradient steps, never inside of one
            self.target.network.follow(1.0)
        metrics = self._improve(due) if due else {tag: torch.zeros(()) for tag in COUNTS}
        self.actor.observe(seen.step_observations, seen.valid)
        return metrics

    def _states(self, trajectory: Trajectory) -> Float[Tensor, "K B S"] | None:
        if not self.windows.keeps_state:
            return None
        states = states_on_stride(
            self.actor, trajectory, first_step=self.replay.cursor, stride=self.windows.stride
        )
        return states.cpu()

    def _improve(self, due: int) -> dict[str, Tensor]:
        before = self.optimizer.flat.clone() if self.is_watched else self.optimizer.flat
        beta = self.importance_exponent(self.progress)
        pace = self.optimizer.pace(self.progress, self.env_steps)
        auxiliary_weights = self.auxiliary.weights(self.progress).to(self.device)
        observed: dict[str, Tensor] = {}
        metrics: list[Tensor] = []
        # Compiled there is one step, which measures: that costs nothing in it.
        measures = self.is_watched or self._compile
        with self.training_mode():
            for _ in range(due):
                sample = self.replay.sample(
                    self.batch_size, self.generator, importance_exponent=beta
                )
                window, weights = sample.window.to(self.device), sample.weights.to(self.device)
                noise = self._noise()
                if self.value_head.learns_support or (self.is_watched and not metrics):
                    self._set_dropout(False)
                    state = warmed(self.actor, window, self.windows.burn_in)
                    observed = self.target.observe(window, state, noise)
                    self._set_dropout(True)
                values, priorities, gradients = self._gradient_step(
                    window, weights, noise, pace, auxiliary_weights, measures
                )
                if priorities is not None:
                    self.replay.update(sample.starts, priorities.cpu())
                metrics.append(values)
                if self.polyak_rate < 1:
                    self.target.network.follow(self.polyak_rate)
        if not self.is_watched:
            return summarized(COUNTS, torch.stack(metrics)[:, -len(COUNTS) :])
        report = summarized(self._metrics, torch.stack(metrics)) | observed
        report |= look(self.networks, self.target, self.windows, sample, self.device)
        report["schedule/epsilon"] = self.networks.policy_head.epsilon.clone()
        report["replay/size"] = torch.tensor(float(self.replay.num_steps))
        if priorities is not None:
            report["schedule/importance_exponent"] = torch.tensor(beta)
            report["replay/priority_mean"] = priorities.mean()
            report["replay/priority_max"] = priorities.max()
        return report | movement(
            self.optimizer, gradients=gradients, before=before, progress=self.progress
        )

    def _set_dropout(self, is_on: bool) -> None:
        if not self._is_alike_in_learning:
            self.train(is_on)

    def _noise(self) -> Noise:
        size = self.value_head.noise_size
        if not size:
            return None, None, None
        drawn = self.generator.standard_normal((3, size), dtype=np.float32)
        network, target, choosing = torch.from_numpy(drawn).to(self.device).unbind()
        return network, target, choosing

    def _step(
        self,
        window: Trajectory,
        weights: Float[Tensor, " N"],
        noise: Noise,
        pace: Pace,
        auxiliary_weights: Float[Tensor, " A"],
        measures: bool,
    ) -> tuple[Float[Tensor, " metrics"], Float[Tensor, " N"] | None, Float[Tensor, " P"]]:
        """Take one gradient step: a function of tensors, without a branch on data.

        Args:
            measures: whether anything but the counts is to be reported.
        """
        self._set_dropout(False)  # targets are those of acting
        state = warmed(self.actor, window, self.windows.burn_in)
        target = self.target(window, state, noise)
        self._set_dropout(True)
        steps = learnt_steps(window, self.windows.learnt, needs_next=self.auxiliary.needs_next)
        readings: dict[str, Reading] = {}
        features = read_features(self.networks, "actor", steps, known=None, readings=readings)
        summary, _ = self.actor.memory(features, state, steps.is_first)
        output = taken(self.value_head(summary, noise[0]), steps.actions)
        loss = masked_mean(self.value_head.loss(output, target) * weights, steps.valid)
        losses, auxiliary = {"critic": loss}, loss.new_zeros(0)
        if len(self.auxiliary):
            auxiliary = self.auxiliary(readings)
            losses["auxiliary"] = auxiliary @ auxiliary_weights
        metrics, priorities = [loss.detach()[None], auxiliary.detach()], None
        with torch.no_grad():
            if measures or self.replay.uses_priorities:
                errors = self.value_head.error(output, target)
            if measures:
                values = self.target.scale.inverse(self.value_head.value(output))
                means = masked_mean(torch.stack([values, errors]), steps.valid)
                positions = [mean[None] for mean in by_position(steps.valid, errors).values()]
                metrics[1:1] = [means, *positions]
            if self.replay.uses_priorities:
                share = self.priority_max_share
                priorities = sequence_priorities(errors, steps.valid, max_share=share)
        active = torch.ones((), dtype=torch.bool, device=loss.device)
        counts, gradients = self.optimizer.descend(losses, pace, active)
        return torch.cat([*metrics, counts]), priorities, gradients
