"""Deep Q-learning (Mnih et al. 2015) and its variants, with any memory.

Double Q-learning and n-step returns change the target. Dueling and noisy networks are layers of the
value head. C51 and quantile regression are value heads. Prioritised replay is a sampler of the
replay. DRQN and R2D2 add a memory. Rainbow (Hessel et al. 2018, arXiv:1710.02298) combines them.
"""

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner, Weights
from agents.learning.schedules import Schedule, exploration_schedule
from agents.mathematics.losses import (
    errors_by_position,
    largest_value,
    masked_mean,
    means,
    select_actions,
)
from agents.mathematics.returns import Bootstrap
from agents.trajectory import Trajectory
from conf.schema.agents import DQNOptions
from networks.heads.distributions import mask_illegal
from networks.heads.values import Metrics, Rescaling, bootstrapped
from networks.memory.memories import pick_steps

Noise = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Noise of noisy layers in one gradient step: for the online network, for the target network, and
for the online network's action selection in double Q-learning."""

_SLOPE = 1e-3  # eps of value rescaling (Kapturowski et al. 2019, appendix)


class DQN(Agent):
    """Learns action values from replayed sequences and acts epsilon-greedily.

        G_t = r_t + d r_{t+1} + ... + d^n Q'(o_{t+n}, argmax_a Q(o_{t+n}, a))
        L = mean[(Q(o_t, a_t) - G_t)^2]

    Q' is the target network. With `double_q` the online network Q selects the action (van Hasselt
    et al. 2016, arXiv:1509.06461), otherwise the target network does. Distributional value heads
    fit the distribution that Q' predicts.

    Both networks start a window from the memory state stored while acting: a zero state would know
    nothing of the episode so far.
    """

    Options = DQNOptions
    trains: ClassVar = {"critic": ("critic", "value_head")}
    acts_by_values = True
    learner: ReplayLearner
    epsilon: Schedule

    def __init__(self, networks: Networks, options: DQNOptions, setup: Setup) -> None:
        super().__init__(networks, setup)
        self.options = options
        self.epsilon = exploration_schedule(
            options.epsilon, options.final_epsilon, options.epsilon_fraction
        )
        self.scale = Rescaling(eps=_SLOPE) if options.value_rescaling else None
        self._noise_size = networks.value_head.noise_size
        self.learner = ReplayLearner(networks, options, setup, policy_delay=None)

    def losses(self, window: Trajectory, weights: Weights, noise: Noise) -> Losses:
        """Compute the loss of replayed windows, importance-weighted with prioritised replay."""
        head, learner = self.networks.value_head, self.learner
        state, bootstrap, following = self.detached(self._following, window, noise)
        target = head.target(bootstrap.rewards, bootstrap.discounts, following, self.scale)
        outputs, readings = learner.values(window, state, noise[0])
        output = select_actions(outputs, window.actions[learner.learnt])
        valid = learner.valid(window)
        losses = head.loss(output, target)
        loss = masked_mean(losses if weights is None else losses * weights, valid)
        metrics, priorities = {"loss/value": loss.detach()}, None
        if learner.replay.uses_priorities:
            priorities = learner.priorities(head.error(output, target), valid)
        if self.measures:
            metrics |= self._metrics(output.detach(), target, valid)
        return Losses({"critic": loss}, metrics, readings, priorities=priorities)

    def _following(
        self, window: Trajectory, noise: Noise
    ) -> tuple[Float[Tensor, "N S"], Bootstrap, Float[Tensor, "L N *K"]]:
        """Return the inputs of the targets.

        Returns:
            The online network's memory state before the learnt steps; the n-step rewards, discounts
            and bootstrap steps; the target network's output for the action selected there.
        """
        learner, head, learnt = self.learner, self.networks.value_head, self.learner.learnt
        state, bootstrap = learner.burn_in_state(window), learner.bootstrap(window)
        outputs = learner.target_values(window, bootstrap.steps, noise[1])
        legal = self.networks.legal(window.observations, bootstrap.steps)
        if self.options.double_q:
            rest = slice(learnt.start, None)
            summary = self.actor.at(
                pick_steps(window.observations, rest),
                state,
                window.is_first[rest],
                bootstrap.steps_from(learnt.start),
            )
            best = mask_illegal(head.value(head(summary, noise[2])), legal).argmax(-1)
        elif head.is_scalar:
            return state, bootstrap, mask_illegal(outputs, legal).amax(-1)
        else:
            best = mask_illegal(head.value(outputs), legal).argmax(-1)
        following = select_actions(outputs, best)
        return state, bootstrap, following

    def _returns(self, output: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the values of raw outputs, in units of return."""
        values = self.networks.value_head.value(output)
        return values if self.scale is None else self.scale.inverse(values)

    # ---- called by the replay learner

    def noise(self) -> Noise:
        """Draw the noise of noisy layers for a gradient step."""
        size = self._noise_size
        if not size:
            return None, None, None
        drawn = self.generator.standard_normal((3, size), dtype=np.float32)
        network, target, choosing = torch.from_numpy(drawn).to(self.device).unbind()
        return network, target, choosing

    def targets(self, window: Trajectory, noise: Noise) -> Float[Tensor, "L N"]:
        """Return the targets of the learnt steps' values."""
        _, bootstrap, following = self._following(window, noise)
        value = self.networks.value_head.value(following)
        return bootstrapped(bootstrap.rewards, bootstrap.discounts, value, self.scale)

    @torch.no_grad()
    def _metrics(
        self,
        output: Float[Tensor, "L N *K"],
        target: Float[Tensor, "..."],
        valid: Bool[Tensor, "L N"] | None,
    ) -> Metrics:
        errors = self.networks.value_head.error(output, target)
        value, error = means(valid, self._returns(output), errors)
        own = {"value/mean": value, "value/td_error": error}
        return own | errors_by_position(errors, valid)

    @torch.no_grad()
    def measure(self, window: Trajectory, state_after: Float[Tensor, "N S"] | None) -> Metrics:
        """Compute metrics on windows.

        Returns:
            `value/max`; `value/target_gap`, the mean absolute difference to the target network's
            values; and, if a state is stored at the end of the learnt steps,
            `replay/state_staleness`, the distance of the current network's state from the stored
            one, relative to the norm of the stored one.
        """
        learnt, learner = self.learner.learnt, self.learner
        state = learner.burn_in_state(window)
        summary, after = self.actor(
            pick_steps(window.observations, learnt), state, window.is_first[learnt]
        )
        valid, actions = window.valid[learnt], window.actions[learnt]
        values = self._returns(self.networks.value_head(summary))
        targets = self._returns(learner.target_values(window, learnt, None))
        gaps = (select_actions(values, actions) - select_actions(targets, actions)).abs()
        legal = self.networks.legal(window.observations, learnt)
        metrics = {
            "value/max": largest_value(mask_illegal(values, legal), valid),
            "value/target_gap": masked_mean(gaps, valid),
            "schedule/epsilon": torch.tensor(self.epsilon(self.progress)),
        }
        if state_after is not None:
            kept = state_after.to(after.device)
            distance = (after - kept).norm(dim=-1) / kept.norm(dim=-1).clamp(min=1e-6)
            metrics["replay/state_staleness"] = distance.nanmean()  # nan: not stored yet
        return metrics
