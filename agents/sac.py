"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), with any memory.

With discrete actions it takes expectations over all of them (Christodoulou 2019, arXiv:1910.07207).
"""

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.agent import Agent, Setup
from agents.learning.critics import Critics, Following, Subset
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner, Weights
from agents.mathematics.losses import masked_mean
from agents.trajectory import Trajectory
from conf.schema.agents import SACOptions
from networks.heads.distributions import Legal
from networks.heads.policy import CategoricalHead
from networks.heads.values import Metrics

_ENTROPY_SHARE = 0.89
"""Target entropy of discrete actions, relative to that of uniformly random ones."""


class Noise(NamedTuple):
    """Noise of the sampled actions (None with discrete ones), and the targets' critics."""

    next: Float[Tensor, "L N A"] | None
    here: Float[Tensor, "L N A"] | None
    critics: Subset


class Temperature(nn.Module):
    """The weight of the entropy, `alpha = exp(log_alpha)`."""

    def __init__(self, initial: float, *, learns: bool) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(initial)), requires_grad=learns)


class SAC(Agent):
    """Learns a stochastic policy and critics of actions from replay.

        G_t = r_t + d (min_c Q'_c(o_{t+1}, a') - alpha log pi(a' | o_{t+1})),  a' ~ pi(o_{t+1})
        L_critic = sum_c mean[(Q_c(o_t, a_t) - G_t)^2]
        L_actor = mean[alpha log pi(a | o_t) - min_c Q_c(o_t, a)],  a ~ pi(o_t)
        L_temperature = -mean[log alpha (log pi(a | o_t) + H)]

    Q' are the target networks and H is the target entropy. With n-step targets, entropy counts at
    the last step alone. With a random subset of critics, or dropped quantiles, the actor follows
    the mean of all critics, as published (`agents.learning.critics`).
    """

    Options = SACOptions
    trains: ClassVar = {
        "critic": ("critic", "value_head"),
        "actor": ("actor", "policy_head"),
        "temperature": ("temperature",),
    }
    critic_trains_shared = True
    learner: ReplayLearner
    temperature: Temperature

    def __init__(self, networks: Networks, options: SACOptions, setup: Setup) -> None:
        if options.policy_delay > 1:
            self.delays = dict.fromkeys(("actor", "temperature"), options.policy_delay)
        super().__init__(networks, setup)
        self.options = options
        self.uniform_steps = options.learning_starts
        self.learner = ReplayLearner(networks, options, setup, policy_delay=None)
        subset, dropped = options.critic_subset, options.dropped_quantiles
        self.critics = Critics(networks, self.learner, subset=subset, dropped=dropped)
        self._follows_mean = subset is not None or dropped > 0
        self._is_discrete = isinstance(self.policy_head, CategoricalHead)
        self._size = self.policy_head.encoded_size
        self._noise_shape = (2, setup.sequence_length, options.batch_size, self._size)

    @classmethod
    def own_parts(cls, options: SACOptions) -> dict[str, nn.Module]:
        """Make the temperature."""
        learns = options.temperature == "auto"
        initial = options.initial_temperature if learns else float(options.temperature)
        return {"temperature": Temperature(initial, learns=learns)}

    def losses(self, window: Trajectory, weights: Weights, noise: Noise) -> Losses:
        """Compute the losses of replayed windows, importance-weighted with prioritised replay."""
        legal = self.networks.legal(window.observations)  # of every step of the windows
        following = self.detached(self.following, window, noise, legal)
        fitted = self.critics.fit(window, weights, following, measures=self.measures)
        losses, metrics, read = {"critic": fitted.loss}, fitted.metrics, fitted.read
        if "actor" in self.due:
            log_alpha = self.temperature.log
            alpha = log_alpha.detach().exp()
            policy = self.networks.policy(read.actor, legal, self.learner.learnt)
            cost, entropy = self._actor(policy, read.critic.detach(), noise.here, alpha)
            losses["actor"] = masked_mean(cost, fitted.valid)
            entropy = masked_mean(entropy.detach(), fitted.valid)
            target = self._target_entropy(legal, fitted.valid)
            losses["temperature"] = log_alpha * (entropy - target)
            metrics = metrics | {
                "loss/policy": losses["actor"].detach(),
                "policy/entropy": entropy,
                "policy/temperature": alpha,
            }
        return Losses(losses, metrics, read.readings, priorities=fitted.priorities)

    def _actor(
        self, policy: Any, summary: Tensor, noise: Tensor | None, alpha: Tensor
    ) -> tuple[Float[Tensor, "L N"], Float[Tensor, "L N"]]:
        """Return the actor's loss at each step, and its entropy (or an estimate of it)."""
        if self._is_discrete:
            probabilities, values = policy.log_probabilities.exp(), self._followed(summary, None)
            entropy = policy.entropy()
            return -(probabilities * values.detach()).sum(-1) - alpha * entropy, entropy
        actions, log_probs = policy.sample_with_log_prob(noise)
        return alpha * log_probs - self._followed(summary, actions), -log_probs

    def _followed(self, summary: Tensor, actions: Tensor | None) -> Float[Tensor, "L N *V"]:
        values = self.critics.values(summary, actions)
        return values.mean(2) if self._follows_mean else values.amin(2)

    def _target_entropy(
        self, legal: Legal | None, valid: Bool[Tensor, "L N"] | None
    ) -> float | Float[Tensor, ""]:
        """Return H: the configured one, or in relation to uniformly random legal actions."""
        chosen, scale = self.options.target_entropy, self.options.target_entropy_scale
        if not isinstance(chosen, str):
            return chosen
        if not self._is_discrete:
            return -scale * self._size
        share = scale * _ENTROPY_SHARE
        if legal is None:
            return share * math.log(self._size)
        return share * masked_mean(legal[self.learner.learnt].sum(-1).log(), valid)

    def following(self, window: Trajectory, noise: Noise, legal: Legal | None) -> Following:
        """Return what the targets are computed from.

        The entropy's bonus is added to the rewards, so that it stands inside the discount.

        Args:
            legal: actions at every step of the windows; None for all.
        """
        critics, bootstrap = self.critics, self.learner.bootstrap(window)
        steps = bootstrap.steps
        state = self.learner.first_state(window, "actor")
        summary = self.actor.at(window.observations, state, window.is_first, steps)
        policy = self.networks.policy(summary, legal, steps)
        if self._is_discrete:
            shares, entropy = policy.log_probabilities.exp(), policy.entropy()
            found = critics.expected(window, bootstrap, shares, noise.critics)
        else:
            actions, log_probs = policy.sample_with_log_prob(noise.next)
            found = critics.following(window, bootstrap, actions, noise.critics)
            entropy = -log_probs
        bonus = bootstrap.discounts * self.temperature.log.exp() * entropy
        return found._replace(bootstrap=bootstrap._replace(rewards=bootstrap.rewards + bonus))

    # ---- called by the replay learner

    def targets(self, window: Trajectory, noise: Noise) -> Float[Tensor, "L N"]:
        """Return the targets of the learnt steps' values."""
        legal = self.networks.legal(window.observations)
        return self.critics.targets(self.following(window, noise, legal))

    def measure(self, window: Trajectory, state_after: Tensor | None) -> Metrics:
        """Compute `value/target_gap` and `policy/saturation` on windows."""
        return self.critics.measure(window)

    def noise(self) -> Noise:
        """Draw standard normal noise for the sampled actions of a gradient step."""
        critics = self.critics.draw(self.generator)
        if self._is_discrete:
            return Noise(None, None, critics)
        drawn = self.generator.standard_normal(self._noise_shape, dtype=np.float32)
        following, here = torch.from_numpy(drawn).to(self.device)
        return Noise(following, here, critics)
