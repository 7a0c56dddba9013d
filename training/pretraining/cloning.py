"""Behaviour cloning of a run's policy, acting in separate environments."""

from typing import Any

import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn

from agents.agent import Agent
from agents.mathematics.losses import masked_mean
from agents.trajectory import Trajectory
from conf.checking.steps import training_sequence_length
from training.building.instantiation import plain
from training.pretraining.fitting import HELD_OUT_LOSS, Fitting
from training.saving.checkpoint import prefixed


class Cloning(Fitting):
    """Trains an agent's actor on sequences of a policy's observations and actions.

        L = mean over valid steps of -log pi(a_t | o_t, s_t)

    Each sequence starts with the memory state s that the actor itself would have there. It is
    recomputed after every epoch, by reading the whole recording with the current weights.

    Source: Pomerleau (1991), "Efficient training of artificial neural networks for autonomous
    navigation".
    """

    key, source_key = "cloning", "source"

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Clone into this agent."""
        module = nn.ModuleDict({"actor": agent.actor, "policy_head": agent.policy_head})
        super().__init__(config, agent, module, training_sequence_length(plain(config)))

    def refresh(self) -> None:
        """Recompute the memory state before each sequence."""
        actor, num_envs = self.agent.actor, self.recording.num_envs
        windows = self.recording.num_steps // self.length
        state = actor.memory.initial_state(num_envs).to(self.agent.device)
        self._states = state.new_zeros(windows * num_envs, state.shape[1])  # [W B, S]
        if state.shape[1]:
            for numbers in torch.arange(windows * num_envs).split(num_envs):
                self._states[numbers] = state
                steps = self.read(numbers)
                _, state = actor(steps.step_observations, state, steps.is_first[:-1])

    def loss(self, numbers: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """Negative log-likelihood of the actions taken."""
        steps, policy = self._policy(numbers)
        return -masked_mean(policy.log_prob(steps.actions), steps.valid)

    def measure(self, numbers: Int[Tensor, " N"]) -> dict[str, Float[Tensor, " S"]]:
        """Measure the loss, and the accuracy (or squared error) of the mode."""
        steps, policy = self._policy(numbers)
        actions, mode = steps.actions, policy.mode()
        values = {HELD_OUT_LOSS: -policy.log_prob(actions)}
        if actions.is_floating_point():
            values["action_squared_error"] = (mode - actions).square().mean(-1)
        else:
            values["accuracy"] = (mode == actions).view(*steps.valid.shape, -1).all(-1).float()
        return {name: value[steps.valid] for name, value in values.items()}

    def weights(self) -> dict[str, Tensor]:
        """Return the actor by the agent's names, and a critic's extractor that is built alike."""
        weights = dict(self.module.state_dict())
        if self.config.critic.extractor is None:
            weights |= prefixed("critic.extractor", self.agent.actor.extractor.state_dict())
        return prefixed("agent", weights)

    def _policy(self, numbers: Int[Tensor, " N"]) -> tuple[Trajectory, Any]:
        """Read some sequences, `[L, N]`, and the policy there."""
        steps = self.read(numbers)
        state = self._states[numbers.to(self._states.device)]
        summary, _ = self.agent.actor(steps.step_observations, state, steps.is_first[:-1])
        networks = self.agent.networks
        return steps, networks.policy(summary, networks.legal(steps.step_observations))
