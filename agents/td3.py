"""Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477), with any memory."""

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.critics import Critics, Following, Subset
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner, Weights
from agents.mathematics.losses import masked_mean
from agents.trajectory import Trajectory
from conf.schema.agents import TD3Options
from networks.heads.box import DeterministicHead
from networks.heads.values import Metrics


class Noise(NamedTuple):
    """Standard normal noise of the target policy, and the critics that give the targets."""

    actions: Float[Tensor, "L N A"]
    critics: Subset


class TD3(Agent):
    """Learns a deterministic policy and critics of actions from replay.

        a' = clip(mu'(o_{t+1}) + clip(s e, -c, c), -1, 1),  e ~ N(0, 1)
        G_t = r_t + d min_c Q'_c(o_{t+1}, a')
        L_critic = sum_c mean[(Q_c(o_t, a_t) - G_t)^2]
        L_actor = -mean[Q_1(o_t, mu(o_t))],  every `policy_delay`-th gradient step

    mu' and Q' are the target networks, which follow together with the actor's steps. It explores
    with Gaussian noise on its actions.
    """

    Options = TD3Options
    trains: ClassVar = {"critic": ("critic", "value_head"), "actor": ("actor", "policy_head")}
    critic_trains_shared = True
    learner: ReplayLearner
    policy_head: DeterministicHead

    def __init__(self, networks: Networks, options: TD3Options, setup: Setup) -> None:
        self.delays = {"actor": options.policy_delay}
        super().__init__(networks, setup)
        self.options = options
        self.uniform_steps = options.learning_starts
        self.policy_head.exploration_noise = options.exploration_noise
        delay = options.policy_delay
        self.learner = ReplayLearner(networks, options, setup, policy_delay=delay)
        self.critics = Critics(
            networks, self.learner, subset=options.critic_subset, dropped=options.dropped_quantiles
        )
        size = self.policy_head.encoded_size
        self._noise_shape = (setup.sequence_length, options.batch_size, size)

    def losses(self, window: Trajectory, weights: Weights, noise: Noise) -> Losses:
        """Compute the losses of replayed windows, importance-weighted with prioritised replay."""
        critics = self.critics
        following = self.detached(self.following, window, noise)
        fitted = critics.fit(window, weights, following, measures=self.measures)
        losses, metrics, read = {"critic": fitted.loss}, fitted.metrics, fitted.read
        if "actor" in self.due:
            actions = self.policy_head(read.actor).mode()
            values = critics.first_value(read.critic.detach(), actions)
            losses["actor"] = -masked_mean(values, fitted.valid)
            metrics = metrics | {"loss/policy": losses["actor"].detach()}
        return Losses(losses, metrics, read.readings, priorities=fitted.priorities)

    def following(self, window: Trajectory, noise: Noise) -> Following:
        """Return what the targets are computed from."""
        critics, bootstrap = self.critics, self.learner.bootstrap(window)
        limit = self.options.target_noise_clip
        disturbance = (self.options.target_noise * noise.actions).clamp(-limit, limit)
        actions = critics.target_policy(window, bootstrap.steps) + disturbance
        return critics.following(window, bootstrap, actions.clamp(-1, 1), noise.critics)

    # ---- called by the replay learner

    def targets(self, window: Trajectory, noise: Noise) -> Float[Tensor, "L N"]:
        """Return the targets of the learnt steps' values."""
        return self.critics.targets(self.following(window, noise))

    def measure(self, window: Trajectory, state_after: Tensor | None) -> Metrics:
        """Compute `value/target_gap` and `policy/saturation` on windows."""
        return self.critics.measure(window)

    def noise(self) -> Noise:
        """Draw the randomness of a gradient step."""
        drawn = self.generator.standard_normal(self._noise_shape, dtype=np.float32)
        return Noise(torch.from_numpy(drawn).to(self.device), self.critics.draw(self.generator))
