"""Builds backbones: inputs, extractor and memory."""

import copy
import math
from typing import Any, Literal

import torch
from gymnasium import spaces
from omegaconf import DictConfig
from torch.nn.modules.batchnorm import _BatchNorm

from agents.learning.parts import Networks
from conf.schema.memories import MemoryOptions
from envs.spaces import one_line
from networks.backbone import Backbone
from networks.inputs import ObservationInput, make_input
from networks.layers import BatchRenorm
from networks.memory.memories import Memory
from networks.observations import share_of
from training.building.extractors import Own, build_extractor, copy_extractor, make_normalization
from training.building.instantiation import Space, make, plain
from training.building.optimizers import frozen_until

Reader = Literal["actor", "critic"]
Front = tuple[ObservationInput, Any]
_NO_MEMORY = {"_target_": "networks.memory.NoMemory", "sequence_length": 1}
"""Of a critic that sees everything, unless one is chosen."""


def build_backbones(
    config: DictConfig, whole: Space, is_single: bool, *, freezes: bool = True, given: Own = None
) -> tuple[Backbone, Backbone]:
    """Build the actor's and the critic's: the same one if single, or with `share_backbone`.

    Args:
        freezes: whether `freeze` is meant for this agent.
        given: copied as the extractor of both, unless the critic has one of its own.
    """
    own = config.critic

    def front(space: Space) -> Front:
        """Build the input scaling and the normalisation."""
        inputs = make_input(space)
        return inputs, make_normalization(inputs, learns=config.normalize_observations)

    def build(reader: Reader, front: Front, key: str, extractor: Any, memory: Any) -> Backbone:
        inputs, normalization = front
        options = plain(extractor) | {"freeze": False}
        if given is not None and key == "extractor":
            built, width = copy_extractor(given, inputs.shape)
        else:
            built, width = build_extractor(key, options, inputs.shape, inputs.layout)
        return Backbone(
            reader=reader,
            inputs=inputs,
            normalization=normalization,
            extractor=built,
            feature_size=width,
            memory=build_memory(
                "critic.memory" if memory is own.memory else "memory", memory, width
            ),
            frozen_until=frozen_until(freezes and extractor.get("freeze", False)),
        )

    read = front(read_space(whole, "actor"))
    actor = build("actor", read, "extractor", config.extractor, config.memory)
    if is_single or config.share_backbone:
        return actor, actor
    space, memory, key = read_space(whole, "critic"), config.memory, "extractor"
    if own.get("observation") == "full":
        read, memory, key = front(space), _NO_MEMORY, "critic.extractor"
    if own.extractor:
        key = "critic.extractor"
    extractor = own.extractor or config.extractor
    return actor, build("critic", read, key, extractor, own.memory or memory)


@torch.no_grad()
def build_memory(key: str, config: Any, width: int) -> Memory:
    """Build a memory of features of a size, and try it on two steps.

    Raises:
        ValueError: it cannot read them, or its outputs or states are not of the sizes that it says.
    """
    memory = make(key, config, Memory, width, read_here=MemoryOptions)
    kind, features = f"{key}: {type(memory).__name__}", torch.zeros(2, 2, width)
    try:
        tried = copy.deepcopy(memory).eval()  # zeros must not change what it counts, or draw
        outputs, state = tried(features, tried.initial_state(2), features.new_zeros(2, 2).bool())
        made = " and ".join(f"{[*each.shape]} of {each.dtype}" for each in (outputs, state))
    except Exception as error:
        raise ValueError(f"{kind} cannot read {width} features: {one_line(error)}") from error
    sizes = [2, 2, memory.output_size], [2, memory.state_size]
    told = " and ".join(f"{size} of {features.dtype}" for size in sizes)
    if made != told:
        raise ValueError(f"{kind} makes {made} of [2, 2, {width}]; its sizes say {told}")
    return memory


def read_space(space: Space, reader: str) -> Space:
    """Return the space of a reader's share of observations; the whole one without shares."""
    if not isinstance(space, spaces.Dict):
        return space
    own: Any = share_of(space.spaces, reader)
    if own is space.spaces:
        return space
    return spaces.Dict(list(own.items())) if isinstance(own, dict) else own


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
    kind = f"{config.extractor._target_} has no weights"
    if config.extractor.get("freeze", False):
        raise ValueError(f"extractor.freeze: {kind} to freeze; set extractor.freeze=false")
    if config.auxiliary and not networks.auxiliary.needs_values:
        problem = f"because {kind} that they could train; use extractor=mlp"
        raise ValueError(f"auxiliary: expected none, {problem}")
