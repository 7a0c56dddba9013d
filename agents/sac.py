"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), with any memory.

With discrete actions it takes expectations over all of them (Christodoulou 2019, arXiv:1910.07207).
"""

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.agent import Agent, Setup
from agents.learning.critics import (
    Critics,
    Subset,
    measure_critics,
    observe_critic_targets,
)
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner
from agents.mathematics.losses import masked_mean
from agents.mathematics.returns import Bootstrap
from agents.trajectory import Trajectory
from conf.schema.agents import SACOptions
from networks.heads.policy import CategoricalHead

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
        self.uniform_steps = options.learning_starts
        copied = (networks.critic, networks.value_head)
        self.learner = ReplayLearner(networks, options, setup, copied=copied, updates_per_copy=1)
        subset, dropped = options.critic_subset, options.dropped_quantiles
        self.critics = Critics(networks, self.learner, subset=subset, dropped=dropped)
        self._follows_mean = subset is not None or dropped > 0
        self._is_discrete = isinstance(self.policy_head, CategoricalHead)
        size = self.policy_head.encoded_size
        usual = _ENTROPY_SHARE * math.log(size) if self._is_discrete else -float(size)
        chosen, usual = options.target_entropy, usual * options.target_entropy_scale
        self._target_entropy = usual if isinstance(chosen, str) else chosen
        self._share = isinstance(chosen, str) and _ENTROPY_SHARE * options.target_entropy_scale
        self._noise_shape = (2, setup.sequence_length, options.batch_size, size)

    @classmethod
    def own_parts(cls, options: SACOptions) -> dict[str, nn.Module]:
        """Make the temperature."""
        learns = options.temperature == "auto"
        initial = options.initial_temperature if learns else float(options.temperature)
        return {"temperature": Temperature(initial, learns=learns)}

    def losses(
        self, window: Trajectory, weights: Float[Tensor, " N"] | None, noise: Noise
    ) -> Losses:
        """Compute the losses of replayed windows, importance-weighted with prioritised replay."""
        states, bootstrap, following = self.detached(self.following, window, noise)
        fitted = self.critics.fit(
            window, weights, states, bootstrap, following, noise.critics, measures=self.measures
        )
        losses, metrics, read = {"critic": fitted.loss}, fitted.metrics, fitted.read
        if "actor" in self.due:
            log_alpha = self.temperature.log
            alpha = log_alpha.detach().exp()
            legal = self.networks.legal(window.observations, self.learner.learnt)
            policy = self.networks.policy(read.actor, legal)
            cost, entropy = self._actor(policy, read.critic.detach(), noise.here, alpha)
            losses["actor"] = masked_mean(cost, fitted.valid)
            entropy = masked_mean(entropy.detach(), fitted.valid)
            target: Any = self._target_entropy
            if legal is not None and self._share:  # of the entropy of random legal actions
                target = self._share * masked_mean(legal.sum(-1).log(), fitted.valid)
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

    def following(
        self, window: Trajectory, noise: Noise
    ) -> tuple[dict[str, Tensor], Bootstrap, Float[Tensor, "L N *K"]]:
        """Return memory states before the learnt steps, and the inputs of the targets.

        The entropy's bonus is added to the rewards, so that it stands inside the discount.
        """
        learner, critics = self.learner, self.critics
        states, bootstrap = critics.states(window), learner.bootstrap(window)
        steps = bootstrap.steps
        policy = self.networks.policy(
            self.actor.at(window.observations, window.state, window.is_first, steps),
            self.networks.legal(window.observations, steps),
        )
        if self._is_discrete:
            summary = learner.target_summary(window, steps)
            values = critics.lowest_of_every_action(summary, noise.critics)
            following = (policy.log_probabilities.exp() * values).sum(-1)
            entropy = policy.entropy()
        else:
            actions, log_probs = policy.sample_with_log_prob(noise.next)
            following = critics.following(window, steps, actions, noise.critics)
            entropy = -log_probs
        bonus = bootstrap.discounts * self.temperature.log.exp() * entropy
        return states, bootstrap._replace(rewards=bootstrap.rewards + bonus), following

    # ---- called by the replay learner

    observe_targets, measure = observe_critic_targets, measure_critics

    def noise(self) -> Noise:
        """Draw standard normal noise for the sampled actions of a gradient step."""
        critics = self.critics.draw(self.generator)
        if self._is_discrete:
            return Noise(None, None, critics)
        drawn = self.generator.standard_normal(self._noise_shape, dtype=np.float32)
        following, here = torch.from_numpy(drawn).to(self.device)
        return Noise(following, here, critics)
