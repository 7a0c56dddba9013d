"""Makes the heads of values that a configuration describes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
from omegaconf import DictConfig

from networks.action_values import ActionLayers
from networks.greedy import EpsilonGreedyHead, make_action_values
from networks.heads import StateLayers, ValueHead, ValueLayers
from training.instantiation import make, plain

_OF_THE_LAYERS = ("hidden_sizes", "activation", "initialization", "gain")


def build_state_values(config: DictConfig, input_size: int) -> ValueHead:
    """Build the configured head of a value for each summary."""
    return _build(config, partial(StateLayers, input_size))


def build_action_values(
    config: DictConfig, space: gymnasium.Space[Any], input_size: int
) -> EpsilonGreedyHead:
    """Build what acts by the configured values of actions; `agent` says which layers they have.

    Raises:
        ValueError: actions of the space cannot have a value each.
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
        return _build(config, layers)

    return make_action_values(space, make_value_head)


def _build(config: DictConfig, layers: Callable[..., ValueLayers]) -> ValueHead:
    """Give the layers what is theirs of `value_head`, and the head the rest."""
    options = plain(config.value_head)
    of_the_layers = {name: options.pop(name) for name in _OF_THE_LAYERS}
    head: ValueHead = make("value_head", options, ValueHead, partial(layers, **of_the_layers))
    return head
