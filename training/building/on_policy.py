"""Builds what on-policy actor-critics are made of."""

from collections.abc import Mapping
from typing import Any

import gymnasium
from omegaconf import DictConfig

from agents.learning.actor_critic import ActorCritic
from agents.learning.on_policy import Preparation
from agents.learning.schedules import schedule
from conf.checking.steps import training_sequence_length
from networks.heads.policy import make_policy_head
from training.building.backbones import build_backbones, refuse_batch_statistics
from training.building.heads import build_auxiliary, build_reward_scaling, build_state_values
from training.building.instantiation import plain

_OF_THE_RETURNS = ("discount", "gae_lambda")
_NOT_THE_AGENTS = {"_target_", "rollout_length", *_OF_THE_RETURNS}


def build_networks(
    config: DictConfig,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> ActorCritic:
    """Build an actor and a critic."""
    actor, critic = build_backbones(config, observation_space)
    policy_head = make_policy_head(
        action_space, actor.memory.output_size, **plain(config.policy_head)
    )
    value_head = build_state_values(config, critic.memory.output_size)
    backbones = {"actor": actor} | ({} if critic is actor else {"critic": critic})
    auxiliary = build_auxiliary(config, backbones, action_size=policy_head.encoded_size)
    networks = ActorCritic(actor, critic, policy_head, value_head, auxiliary)
    refuse_batch_statistics(networks)
    return networks


def build_parts(
    config: DictConfig,
    networks: ActorCritic,
    observation_space: gymnasium.Space[Any],
    *,
    num_envs: int,
) -> dict[str, Any]:
    """Build what prepares trajectories; the agent's other numbers go to it as they are."""
    preparation = Preparation(
        networks,
        reward_scaling=build_reward_scaling(config, num_envs=num_envs),
        num_envs=num_envs,
        sequence_length=training_sequence_length(plain(config)),
        **{name: config.agent[name] for name in _OF_THE_RETURNS},
    )
    options = {k: v for k, v in plain(config.agent).items() if k not in _NOT_THE_AGENTS}
    return {"preparation": preparation, **_with_schedules(options)}


def _with_schedules(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn each pair `x`, `x_schedule` into one schedule `x`, which ends at 0."""
    kinds = {
        key.removesuffix("_schedule"): kind
        for key, kind in options.items()
        if key.endswith("_schedule")
    }
    return {
        key: schedule(kinds[key], value, 0.0) if key in kinds else value
        for key, value in options.items()
        if not key.endswith("_schedule")
    }
