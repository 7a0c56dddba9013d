"""Behaviour cloning: a policy learns the actions of another one."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.behaviour import Behaviour
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner
from agents.mathematics.losses import masked_mean
from agents.trajectory import Trajectory
from conf.schema.agents import CloningOptions


class Cloning(Agent):
    """Maximises the likelihood of a behaviour policy's actions.

        L = mean over valid steps of -log pi(a_t | o_t, s_t)

    The state s is the one that the learning memory has there, in the source's episodes. Evaluation
    plays the clone, and measures it on the source's steps in episodes of evaluation.

    Source: Pomerleau (1991), "Efficient training of artificial neural networks for autonomous
    navigation".
    """

    Options = CloningOptions
    trains: ClassVar = {"actor": ("actor", "policy_head")}
    evaluated = ("policy", "behaviour")
    learner: ReplayLearner

    def __init__(self, networks: Networks, options: CloningOptions, setup: Setup) -> None:
        super().__init__(networks, setup)
        self.learner = ReplayLearner(networks, options, setup, policy_delay=None)
        self.behaviour = Behaviour(self, explores=not options.deterministic, is_random=False)

    def losses(self, window: Trajectory, weights: None, noise: None) -> Losses:
        """Compute the loss of replayed windows."""
        learner, networks = self.learner, self.networks
        state = self.detached(learner.burn_in_state, window)
        summary, readings = learner.read(window, "actor", state)
        policy = networks.policy(summary, networks.legal(window.observations, learner.learnt))
        log_probs = policy.log_prob(window.actions[learner.learnt])
        loss = -masked_mean(log_probs, learner.valid(window))
        return Losses({"actor": loss}, {"loss/policy": loss.detach()}, readings)

    @torch.no_grad()
    def held_out(self, trajectory: Trajectory) -> dict[str, Float[Tensor, " N"]]:
        """Measure valid steps of the source.

        Returns:
            `held_out_loss`, and `accuracy`, the share of steps whose most likely action is the
            source's; for continuous actions `action_squared_error`.
        """
        seen, networks = trajectory.to(self.device), self.networks
        summary, _ = self.actor(seen.step_observations, seen.state, seen.is_first[:-1])
        policy: Any = networks.policy(summary, networks.legal(seen.step_observations))
        actions, mode = seen.actions, policy.mode()
        found = {"held_out_loss": -policy.log_prob(actions)}
        if actions.is_floating_point():
            found["action_squared_error"] = (mode - actions).square().mean(-1)
        else:
            is_same = (mode == actions).view(*seen.valid.shape, -1).all(-1)
            found["accuracy"] = is_same.float()
        return {name: values[seen.valid] for name, values in found.items()}
