"""Builds what PQN is made of."""

from typing import Any

import gymnasium
from omegaconf import DictConfig

from agents.learning.parts import ActionValues
from conf.checking.steps import training_sequence_length
from training.building.heads import build_reward_scaling
from training.building.instantiation import plain
from training.building.q_learning import build_epsilon, build_networks

__all__ = ["build_networks", "build_parts"]
_OF_THE_AGENT = ("discount", "td_lambda", "num_epochs", "num_minibatches")


def build_parts(
    config: DictConfig,
    networks: ActionValues,
    observation_space: gymnasium.Space[Any],
    *,
    num_envs: int,
) -> dict[str, Any]:
    """Build what it takes beside its networks."""
    return {
        "reward_scaling": build_reward_scaling(config, num_envs=num_envs),
        "sequence_length": training_sequence_length(plain(config)),
        "epsilon": build_epsilon(config),
        **{name: config.agent[name] for name in _OF_THE_AGENT},
    }
