"""A policy to call: an agent, its normalisation, and memory for each environment it acts in."""

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from networks.mirror import Array
from training.environments import build_environments


class Policy:
    """Maps observations to the environment's actions, remembering one slot per environment.

    Attributes:
        config: what it was built from.
        agent: the networks and the rule by which they learn.
    """

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Start with no slots; the first call makes them."""
        self.config, self.agent = config, agent
        self._shape = agent.actor.inputs.observation_shape
        self._state: Tensor | None = None
        self._is_first = np.zeros(0, dtype=bool)

    def predict(self, observation: Any, *, deterministic: bool = True) -> Any:
        """Choose the action for one observation, or one for each of a batch of environments.

        The memory goes on from call to call. A batch of a new size starts all slots anew.

        Raises:
            ValueError: the observation has another shape than the policy was built for.
        """
        observations = np.array(observation)  # a copy: what was handed in may be read-only
        is_single = observations.shape == self._shape
        batch = observations[None] if is_single else observations
        if batch.ndim == 0 or batch.shape[1:] != self._shape:
            raise ValueError(
                f"expected an observation of shape {self._shape} or a batch of them, "
                f"got shape {observations.shape}"
            )
        if self._state is None or len(self._state) != len(batch):
            self._state = self.agent.initial_state(len(batch))
            self._is_first = np.ones(len(batch), dtype=bool)
        if batch.dtype == np.float64:
            batch = batch.astype(np.float32)
        actions, self._state = self.agent.act(
            torch.from_numpy(np.ascontiguousarray(batch)),
            self._state,
            torch.from_numpy(self._is_first),
            explore=not deterministic,
        )
        self._is_first = np.zeros(len(batch), dtype=bool)
        chosen = self.agent.to_environment(actions)
        return chosen[0] if is_single else chosen

    def reset(self, mask: Array | None = None) -> None:
        """Say that the next observations open episodes: everywhere, or where `mask [B]` is True.

        Raises:
            ValueError: the mask has not one entry per slot.
        """
        if mask is None:
            self._state = None
            return
        chosen = np.asarray(mask, dtype=bool)
        if chosen.shape != self._is_first.shape:
            raise ValueError(f"expected a mask of shape {self._is_first.shape}, got {chosen.shape}")
        self._is_first = self._is_first | chosen

    def environments(self, num_envs: int) -> VectorEnv[Any, Any, Any]:
        """Make environments that emit what this policy reads: as configured, wrappers included."""
        return build_environments(self.config, num_envs=num_envs)
