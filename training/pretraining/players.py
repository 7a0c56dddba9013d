"""Behaviour policies for data collection: uniform random, or a finished run's policy."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from omegaconf import DictConfig, OmegaConf

from conf.checking.pretraining import RANDOM
from envs.seeding import environment_seeds
from networks.heads.acting import PolicyHead
from networks.mirror import Array
from training.evaluation.policy import refuse_other_spaces
from training.evaluation.restore import load_agent
from training.stream.collect import Player
from training.stream.storage import Arrays


class UniformPlayer:
    """Samples actions uniformly, in the policy's own action space."""

    def __init__(self, policy_head: PolicyHead, generator: np.random.Generator) -> None:
        """Act in the head's action space; its weights are not used."""
        self.policy_head, self._generator = policy_head, generator

    def initial_state(self, batch_size: int) -> Array:
        """Return an empty state."""
        return np.zeros((batch_size, 0), np.float32)

    def act(
        self, observations: Arrays, state: Array, is_first: Array, *, explore: bool
    ) -> tuple[Array, Array]:
        """Sample actions, independent of observations."""
        return self.policy_head.uniform(self._generator, len(is_first)), state


def make_player(
    key: str, config: DictConfig, policy_head: PolicyHead, environments: VectorEnv[Any, Any, Any]
) -> Player:
    """Build the behaviour policy: uniformly random, or the policy of the run `source`.

    Args:
        key: of the configuration, that names the source.
        policy_head: of the agent to be trained.

    Raises:
        ValueError: there is no such run, or it has other spaces.
    """
    # Not the environments' seeds: the policy must not draw the same numbers as its environment.
    source = OmegaConf.select(config, key)
    seeds = environment_seeds(config.seed, 2, purpose="pretraining policy")
    generator = np.random.default_rng(seeds)
    if source == RANDOM:
        return UniformPlayer(policy_head, generator)
    try:
        _, agent = load_agent(
            Path(source),
            checkpoint="last",
            device=config.device,
            trusted_packages=config.trusted_packages,
        )
        refuse_other_spaces(agent, environments)
    except ValueError as error:
        raise ValueError(f"{key}={source}: {error}") from error
    agent.generator = generator
    return agent
