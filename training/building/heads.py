"""Builds value heads, reward scaling and auxiliary losses."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium
from omegaconf import DictConfig
from torch import nn

from agents.learning.parts import AuxiliaryLosses
from agents.learning.schedules import schedule
from networks.autoencoding.losses import AuxiliaryLoss, Source
from networks.backbone import Backbone
from networks.extractors.structure import Unmirrored
from networks.heads.action_values import ActionLayers
from networks.heads.greedy import EpsilonGreedyHead, make_action_values
from networks.heads.values import StateLayers, ValueHead, ValueLayers
from networks.normalization import RewardClipping, RewardScaling
from training.building.instantiation import make, plain, unmirrored, with_factories


def build_reward_scaling(
    config: DictConfig, *, num_envs: int
) -> RewardScaling | RewardClipping | None:
    """Build the reward scaling of `normalize_rewards` or `clip_rewards`."""
    if config.normalize_rewards:
        return RewardScaling(num_envs=num_envs, discount=config.agent.discount)
    if config.clip_rewards is not None:
        return RewardClipping(limit=config.clip_rewards)
    return None


_OF_THE_AGENT = ("weight", "weight_schedule")
"""Keys of each loss that the agent reads."""


def build_auxiliary(
    config: DictConfig, backbones: Mapping[str, Backbone], *, action_size: int
) -> AuxiliaryLosses:
    """Build each loss once for every distinct backbone.

    Raises:
        ValueError: a loss cannot be built for this extractor, or is not a loss.
    """
    options: dict[str, dict[str, Any]] = plain(config.auxiliary)
    return AuxiliaryLosses(
        {
            name: {
                loss: _build_loss(loss, options[loss], backbone, action_size) for loss in options
            }
            for name, backbone in backbones.items()
        },
        {
            loss: schedule(own["weight_schedule"], own["weight"], 0.0)
            for loss, own in options.items()
        },
    )


def _build_loss(name: str, options: dict[str, Any], backbone: Backbone, action_size: int) -> Any:
    own = {key: value for key, value in options.items() if key not in _OF_THE_AGENT}
    source = Source(
        inputs=backbone.inputs,
        extractor=backbone.extractor,
        feature_size=backbone.feature_size,
        action_size=action_size,
    )
    key = f"auxiliary.{name}"
    try:
        return make(key, with_factories(key, own, nn.Module), AuxiliaryLoss, source)
    except ValueError as error:
        if isinstance(error.__cause__, Unmirrored):
            raise ValueError(unmirrored(key, error.__cause__)) from error
        raise


_OF_THE_LAYERS = ("hidden_sizes", "activation", "initialization", "gain")


def build_state_values(config: DictConfig, input_size: int) -> ValueHead:
    """Build the configured head for state values."""
    return _build_value_head(config, partial(StateLayers, input_size))


def build_action_values(
    config: DictConfig, space: gymnasium.Space[Any], input_size: int
) -> EpsilonGreedyHead:
    """Build the epsilon-greedy head of action values, with the layers that `agent` chooses.

    Raises:
        ValueError: the action space does not allow a value for each action.
    """
    agent = config.agent

    def make_value_head(num_actions: int) -> ValueHead:
        layers = partial(
            ActionLayers,
            input_size,
            num_actions=num_actions,
            dueling=agent.dueling,
            noisy=agent.get("noisy", False),
            noisy_sigma=agent.get("noisy_sigma", 0.0),
        )
        return _build_value_head(config, layers)

    return make_action_values(space, make_value_head)


def _build_value_head(config: DictConfig, layers: Callable[..., ValueLayers]) -> ValueHead:
    """Build the layers from their keys in `value_head`, and the head from the rest."""
    options = plain(config.value_head)
    of_the_layers = {name: options.pop(name) for name in _OF_THE_LAYERS}
    head: ValueHead = make("value_head", options, ValueHead, partial(layers, **of_the_layers))
    return head
