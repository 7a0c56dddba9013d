"""Builds backbones: inputs, extractor and memory."""

import math
from typing import Any

import gymnasium
from omegaconf import DictConfig
from torch.nn.modules.batchnorm import _BatchNorm

from agents.learning.parts import Networks
from conf.schema.memories import MemoryOptions
from networks.backbone import Backbone
from networks.inputs import make_input
from networks.layers import BatchRenorm
from networks.memory.memories import Memory
from training.building.extractors import build_extractor, make_normalization
from training.building.instantiation import make, plain
from training.building.optimizers import frozen_until


def build_backbones(
    config: DictConfig, observation_space: gymnasium.Space[Any], *, is_single: bool
) -> tuple[Backbone, Backbone]:
    """Build the actor's and the critic's: the same one if single, or with `share_backbone`."""
    inputs, own = make_input(observation_space), config.critic
    normalization = make_normalization(inputs, learns=config.normalize_observations)

    def build(key: str, extractor_config: DictConfig, memory_config: DictConfig) -> Backbone:
        options = plain(extractor_config) | {"freeze": False}
        extractor, width = build_extractor(key, options, inputs.shape, inputs.layout)
        return Backbone(
            inputs=inputs,
            normalization=normalization,
            extractor=extractor,
            feature_size=width,
            memory=make("memory", memory_config, Memory, width, read_here=MemoryOptions),
            frozen_until=frozen_until(extractor_config.get("freeze", False)),
            half_precision=config.precision == "bf16",
        )

    actor = build("extractor", config.extractor, config.memory)
    if is_single or config.share_backbone:
        return actor, actor
    key = "critic.extractor" if own.extractor else "extractor"
    return actor, build(key, own.extractor or config.extractor, own.memory or config.memory)


def refuse_batch_statistics(networks: Networks) -> None:
    """Refuse networks that act with running statistics and learn with minibatch statistics.

    The learning policy would differ from the acting one: probability ratios start far from 1, and
    advantages use other values. An extractor that is always frozen keeps its statistics.

    Raises:
        ValueError: one line that names the module and the remedy.
    """
    read = networks.backbones
    frozen = (each.extractor for each in read.values() if math.isinf(each.frozen_until))
    still = {module for extractor in frozen for module in extractor.modules()}
    heads = {"policy_head": networks.policy_head, "value_head": networks.value_head}
    for part, network in (*read.items(), *heads.items()):
        for place, module in network.named_modules():
            if isinstance(module, _BatchNorm | BatchRenorm) and module not in still:
                raise ValueError(
                    f"{part}: {place} is a {type(module).__name__}, which acts by running "
                    "statistics and learns by those of a minibatch: agents that learn from their "
                    "own policy's probabilities need LayerNorm or GroupNorm in its place"
                )


def refuse_idle(config: DictConfig, networks: Networks) -> None:
    """Refuse to freeze an extractor without weights, and losses that have nothing to train.

    Raises:
        ValueError: one line that names the key and the remedy.
    """
    backbones = networks.backbones.values()
    if any(True for each in backbones for _ in each.extractor.parameters()):
        return
    kind = config.extractor._target_
    if config.extractor.get("freeze", False):
        raise ValueError(
            f"extractor.freeze: {kind} has no weights to freeze; set extractor.freeze=false"
        )
    if config.auxiliary:
        raise ValueError(
            f"auxiliary: expected none, because {kind} has no weights that they could train; use "
            "extractor=mlp"
        )
