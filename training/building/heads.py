"""Builds heads, reward scaling and auxiliary losses."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from gymnasium import spaces
from omegaconf import DictConfig
from torch import nn

from agents.learning.parts import AuxiliaryLosses
from agents.learning.schedules import schedule
from conf.schema.agents import AgentOptions
from conf.schema.extractors import AuxiliaryOptions, BlocksOptions
from conf.schema.heads import GaussianHeadOptions
from conf.schema.registry import options_for
from networks.autoencoding.losses import AuxiliaryLoss, Source
from networks.backbone import Backbone
from networks.heads.acting import PolicyHead
from networks.heads.action_values import ActionLayers
from networks.heads.box import BoxHead
from networks.heads.critics import CriticLayers
from networks.heads.greedy import EpsilonGreedyHead, joint_actions
from networks.heads.policy import (
    BernoulliHead,
    CategoricalHead,
    MultiCategoricalHead,
    policy_head_class,
)
from networks.heads.values import ValueHead, ValueLayers
from networks.normalization import RewardClipping, RewardScaling
from training.building.instantiation import Space, find, make, plain, with_factories

Described = type[AgentOptions]
"""The options of an agent's class, whose attributes describe the algorithm."""


def build_reward_scaling(config: DictConfig, num_envs: int) -> Any:
    """Build the reward scaling of `normalize_rewards` or `clip_rewards`; None for neither."""
    if config.normalize_rewards:
        return RewardScaling(num_envs=num_envs, discount=config.agent.discount)
    return None if config.clip_rewards is None else RewardClipping(limit=config.clip_rewards)


def build_auxiliary(
    config: DictConfig, backbones: Mapping[str, Backbone], *, action_size: int
) -> AuxiliaryLosses:
    """Build each loss once for every distinct backbone.

    Raises:
        ValueError: a loss cannot be built for this extractor, or is not a loss.
    """
    options: dict[str, dict[str, Any]] = plain(config.auxiliary)
    losses: dict[str, dict[str, AuxiliaryLoss]] = {name: {} for name in backbones}
    for name, backbone in backbones.items():
        read = backbone.inputs, backbone.extractor, backbone.feature_size
        source = Source(*read, action_size, backbone.memory.output_size)
        for loss, own in options.items():
            key = f"auxiliary.{loss}"
            node = with_factories(key, own, nn.Module)
            losses[name][loss] = make(key, node, AuxiliaryLoss, source, read_here=AuxiliaryOptions)
    weights = {
        loss: schedule(own["weight_schedule"], own["weight"], 0.0) for loss, own in options.items()
    }
    return AuxiliaryLosses(losses, weights)


def build_policy_head(
    config: DictConfig, agent: Described, space: Space, input_size: int
) -> PolicyHead:
    """Build the configured policy head.

    Raises:
        ValueError: it does not fit the action space or the agent; the message names the key and the
            remedy.
    """
    options = plain(config.policy_head)
    target = options.pop("_target_")
    chosen = None if target == "auto" else find("policy_head", target, PolicyHead)
    kind = policy_head_class(chosen, space)
    if chosen is None and issubclass(kind, BoxHead):
        kind = find("policy_head", agent.box_heads[0], PolicyHead)
    if agent.weighs_every_action and issubclass(kind, MultiCategoricalHead | BernoulliHead):
        kind = CategoricalHead  # makes several choices as one
    if chosen is None:
        return kind(space, input_size, GaussianHeadOptions(**options))
    if kind is not chosen:  # of several classes for one choice
        target = f"{kind.__module__}.{kind.__qualname__}"
    return make("policy_head", {**options, "_target_": target}, PolicyHead, space, input_size)


def build_critics(config: DictConfig, agent: Described, space: Space, input_size: int) -> ValueHead:
    """Build the critics of actions: of the one that they read, or of every discrete action.

    Raises:
        ValueError: the agent needs continuous actions, or values would be linear in them, or an
            expectation over actions would be the target of a distribution.
    """
    num_actions = None if isinstance(space, spaces.Box) else joint_actions(space)
    if num_actions is None:
        input_size += math.prod(space.shape or ())
        if not config.value_head.hidden_sizes:
            raise ValueError(
                "value_head.hidden_sizes: expected layers, such as [256, 256]: without one a "
                "critic's values would be linear in the action"
            )
    elif not agent.weighs_every_action:
        name = config.agent._target_.rpartition(".")[2].lower()
        raise ValueError(
            f"action space {space}: agent={name} follows the gradient of values with respect to "
            "continuous actions; use agent=sac, agent=dqn or agent=ppo"
        )
    elif not options_for(plain(config), "value_head").fits_returns:
        raise ValueError(
            "value_head: expected mse, huber, two_hot or hl_gauss, because with discrete actions "
            "the targets are expected values over all of them, which are numbers"
        )
    elif not config.agent.get("target_networks", True):
        raise ValueError(
            "agent.target_networks: expected true with discrete actions, whose critics do not read "
            f"actions; got false for the action space {space}"
        )
    count = config.agent.get("num_critics", 1)
    layers = partial(CriticLayers, input_size, num_critics=count, num_actions=num_actions)
    return build_value_head(config, layers)


def build_action_values(config: DictConfig, space: Space, input_size: int) -> EpsilonGreedyHead:
    """Build the epsilon-greedy head of action values, with the layers that `agent` chooses.

    Raises:
        ValueError: the action space does not allow a value for each action.
    """
    agent = config.agent
    layers = partial(
        ActionLayers,
        input_size,
        num_actions=joint_actions(space),
        dueling=agent.dueling,
        noisy=agent.get("noisy", False),
        noisy_sigma=agent.get("noisy_sigma", 0.0),
    )
    return EpsilonGreedyHead(space, build_value_head(config, layers))


def build_value_head(config: DictConfig, layers: Callable[..., ValueLayers]) -> ValueHead:
    """Build the configured head; the layers' sizes are known already."""
    options = plain(config.value_head)
    own = BlocksOptions(**{field.name: options[field.name] for field in fields(BlocksOptions)})
    layers = partial(layers, options=own)
    return make("value_head", options, ValueHead, layers, read_here=BlocksOptions)
