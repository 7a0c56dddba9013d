"""An agent's initial weights: existing ones, and pre-training."""

import copy
import math
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig

from agents.agent import Agent
from conf.checking.pretraining import frames_wanted
from networks.autoencoding.autoencoder import Encoder
from training.building.instantiation import plain
from training.saving.checkpoint import part_of
from training.saving.weights import load_weights, pretraining_behind, read_tensors, warm_start


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
    encoders = _frozen_encoders(config, agent)
    drawn = copy.deepcopy(encoders)
    loaded: dict[str, Path] = {}
    if config.init_from is not None:
        loaded[warm_start(agent, Path(config.init_from))] = Path(config.init_from)
    loaded |= load_weights(config, agent)
    for key, encoder in encoders.items():
        if all(map(torch.equal, encoder.parameters(), drawn[key].parameters())):
            raise ValueError(
                f"{key}.freeze: an encoder that never learnt would be frozen, as no weights that "
                f"were given are of it; set {key}.weights=PATH, or {key}.freeze=false"
            )
    agent.weights_replaced()
    costs = [pretraining_behind(source) for source in {path.resolve() for path in loaded.values()}]
    return Start(list(loaded), sum(own for own, _ in costs), sum(own for _, own in costs))


def _frozen_encoders(config: DictConfig, agent: Agent) -> dict[str, Encoder]:
    """List the frozen encoders that will not be pre-trained, by the keys of their extractors."""
    found = {}
    if frames_wanted(plain(config)) is None:
        found["extractor"] = agent.networks.actor
    if config.critic.extractor is not None:
        found["critic.extractor"] = agent.networks.critic
    return {
        key: each.extractor
        for key, each in found.items()
        if isinstance(each.extractor, Encoder) and math.isinf(each.frozen_until)
    }


def take_pretrained(config: DictConfig, agent: Agent, directory: Path) -> tuple[int, float]:
    """Load a pre-trained encoder into an agent, and into its critic if it is built alike.

    Returns:
        Its environment steps and seconds, with those of the weights that it began with.
    """
    tensors = read_tensors("extractor", directory)
    agent.actor.normalization.load_state_dict(part_of(tensors, "normalization"))
    alike = agent.networks.backbones.values() if config.critic.extractor is None else [agent.actor]
    for backbone in alike:
        backbone.extractor.load_state_dict(part_of(tensors, "encoder"))
    agent.weights_replaced()
    return pretraining_behind(directory)
