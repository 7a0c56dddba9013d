"""Builds what agents with replayed action values are made of."""

from typing import Any

import gymnasium
from omegaconf import DictConfig

from agents.learning.parts import ActionValues
from agents.learning.replay_learner import UpdateClock, Windows
from agents.learning.schedules import Schedule, exploration_schedule
from agents.learning.targets import QTarget
from agents.replay.replay import Replay
from agents.replay.samplers import PrioritizedSampler, Sampler, UniformSampler
from conf.checking.steps import replay_stride, training_sequence_length, window_length
from envs.wrappers.frame_stack import frame_stacks
from networks.heads.values import NoScale, Rescaling
from training.building.backbones import build_backbone
from training.building.heads import build_action_values, build_auxiliary, build_reward_scaling
from training.building.instantiation import plain

_SLOPE = 1e-3
"""Of rescaled values far out (Kapturowski et al. 2019, appendix)."""
_OF_DQN = ("batch_size", "polyak_rate", "priority_max_share")
_OF_THE_TARGET = ("discount", "n_step", "double_q")


def build_networks(
    config: DictConfig,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> ActionValues:
    """Build a backbone and the values of actions on top of it."""
    actor = build_backbone(config, observation_space)
    policy_head = build_action_values(config, action_space, actor.memory.output_size)
    auxiliary = build_auxiliary(config, {"actor": actor}, action_size=policy_head.encoded_size)
    return ActionValues(actor, policy_head, auxiliary)


def build_epsilon(config: DictConfig) -> Schedule:
    """Build the share of random actions over a run's progress."""
    agent = config.agent
    return exploration_schedule(agent.epsilon, agent.final_epsilon, agent.epsilon_fraction)


def build_parts(
    config: DictConfig,
    networks: ActionValues,
    observation_space: gymnasium.Space[Any],
    *,
    num_envs: int,
) -> dict[str, Any]:
    """Build a replay, what is read of it and what it is learnt towards."""
    agent, state_size = config.agent, networks.actor.memory.state_size
    windows = Windows(
        burn_in=agent.burn_in,
        sequence_length=training_sequence_length(plain(config)),
        stride=replay_stride(plain(config)),
        keeps_state=agent.stored_state and state_size > 0,
    )
    target = QTarget(
        networks,
        windows=windows,
        reward_scaling=build_reward_scaling(config, num_envs=num_envs),
        scale=Rescaling(eps=_SLOPE) if agent.value_rescaling else NoScale(),
        **{name: agent[name] for name in _OF_THE_TARGET},
    )
    return {
        "replay": _build_replay(config, windows, observation_space, num_envs=num_envs),
        "windows": windows,
        "clock": UpdateClock(
            learning_starts=agent.learning_starts,
            replay_ratio=agent.replay_ratio,
            target_update_interval=agent.target_update_interval if agent.polyak_rate == 1 else None,
        ),
        "target": target,
        "epsilon": build_epsilon(config),
        # (N P)^-beta: the bias that is left is undone by the end (Schaul et al. 2016, section 3.4).
        "importance_exponent": exploration_schedule(agent.importance_exponent, 1.0, 1.0),
        **{name: agent[name] for name in _OF_DQN},
    }


def _build_replay(
    config: DictConfig,
    windows: Windows,
    observation_space: gymnasium.Space[Any],
    *,
    num_envs: int,
) -> Replay:
    agent = config.agent
    sampler: Sampler = UniformSampler()
    if agent.prioritized:
        sampler = PrioritizedSampler(priority_exponent=agent.priority_exponent)
    return Replay(
        buffer_size=agent.buffer_size,
        num_envs=num_envs,
        window_length=window_length(plain(config)),
        stride=windows.stride,
        valid_step=windows.burn_in if windows.sequence_length == 1 else None,
        state_horizon=windows.burn_in + windows.sequence_length,
        frame_stacks=frame_stacks(observation_space),
        keeps_state=windows.keeps_state,
        sampler=sampler,
    )
