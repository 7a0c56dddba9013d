"""An agent's initial weights: existing ones, and pre-training."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from agents.agent import Agent
from conf.checking.pretraining import frames_wanted
from networks.autoencoding.autoencoder import Encoder
from training.building.instantiation import plain
from training.saving.weights import load_weights, pretraining_behind, warm_start


class Start(NamedTuple):
    """Where an agent's initial weights come from.

    Attributes:
        notices: lines to print.
        env_steps: of the weights' pre-training, counted when runs are compared.
        seconds: of it, counted too.
    """

    notices: list[str]
    env_steps: int
    seconds: float


def take_weights(config: DictConfig, agent: Agent) -> Start:
    """Load into a new agent the weights that its configuration names.

    Raises:
        ValueError: in one line, why they cannot be loaded.
    """
    drawn = _frozen_encoders(config, agent)
    loaded: dict[str, Path] = {}
    if config.init_from is not None:
        loaded[warm_start(agent, Path(config.init_from))] = Path(config.init_from)
    loaded |= load_weights(config, agent)
    for key, (encoder, before) in drawn.items():
        now = encoder.state_dict()
        if all(torch.equal(tensor, now[name]) for name, tensor in before.items()):
            raise ValueError(
                f"{key}.freeze: an encoder that never learnt would be frozen, as no weights that "
                f"were given are of it; set {key}.weights=PATH, or {key}.freeze=false"
            )
    agent.weights_replaced()
    sources = {path.resolve() for path in loaded.values()}
    costs = [pretraining_behind(source) for source in sources]
    return Start(
        list(loaded), sum(steps for steps, _ in costs), sum(seconds for _, seconds in costs)
    )


def _frozen_encoders(
    config: DictConfig, agent: Agent
) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
    """List the keys of encoders that are frozen with random weights."""
    found: dict[str, tuple[nn.Module, dict[str, Tensor]]] = {}
    for name, backbone in agent.networks.backbones.items():
        is_own = name == "critic" and config.critic.extractor is not None
        encoder = backbone.extractor
        is_frozen = isinstance(encoder, Encoder) and math.isinf(backbone.frozen_until)
        if is_frozen and (is_own or frames_wanted(plain(config)) is None):
            drawn = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
            key = "critic.extractor" if name == "critic" else "extractor"
            found[key] = encoder, drawn
    return found
