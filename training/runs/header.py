"""The header of a run: what is trained, where, how large, and by which losses."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from agents.agent import Agent
from agents.learning.parts import trained_by
from conf.schema.types import show
from networks import ranks
from networks.autoencoding.autoencoder import Encoder
from networks.backbone import Backbone
from networks.extractors.composite import DictExtractor, Joined
from networks.extractors.images import written
from networks.heads.greedy import EpsilonGreedyHead
from networks.heads.values import Head, ValueHead
from networks.inputs import DictInput
from networks.mirror import Array
from networks.observations import Shapes, map_observations
from training.building.build import compiles, parameter_counts, slower_compiled

_WINDOWS = {nn.Conv2d: "convolution", nn.MaxPool2d: "max-pool", nn.AvgPool2d: "average-pool"}
_TITLES = ("network", "", "output", "parameters", "receptive field", "stride")


class TableRow(NamedTuple):
    """A line of the table.

    Attributes:
        field: receptive field of one output, height and width in pixels.
        stride: pixels between the receptive fields of two neighbouring outputs.
    """

    name: str
    kind: str
    output: str
    parameters: int | None = None
    field: str = ""
    stride: str = ""


def outline(agent: Agent) -> str:
    """Write a table of the agent's networks: outputs, parameters, receptive fields.

    A network without convolutions takes one line for each part; titles need receptive fields.
    """
    networks = agent.networks
    rows = [*_inputs("", networks.actor), *_backbone("", networks.actor)]
    if not networks.acts_by_values:
        rows.append(_head("policy head", networks.policy_head))
    if not networks.shares_backbone:
        rows += _critic(networks.actor, networks.backbones["critic"])
    rows.append(_head("value head", networks.value_head))
    if len(networks.auxiliary):
        losses = "loss" if len(networks.auxiliary) == 1 else "losses"
        rows.append(TableRow("auxiliary", losses, "", _count(networks.auxiliary)))
    lines = [[f"{cell:,}" if isinstance(cell, int) else cell or "" for cell in r] for r in rows]
    if any(row.field for row in rows):
        lines.insert(0, list(_TITLES))
    for column, title in enumerate(_TITLES):
        width = max(len(line[column]) for line in lines)
        align = str.rjust if title == "parameters" else str.ljust
        for line in lines:
            line[column] = align(line[column], width)
    return "\n".join(f"  {'  '.join(line)}".rstrip() for line in lines)


def _inputs(prefix: str, backbone: Backbone) -> Iterator[TableRow]:
    """List the observation's parts."""
    inputs = backbone.inputs
    parts = inputs.inputs if isinstance(inputs, DictInput) else {"": inputs}
    for name, part in parts.items():
        yield TableRow(f"{prefix}observation {name}".rstrip(), part.kind, written(part.shape))


def _backbone(prefix: str, backbone: Backbone) -> Iterator[TableRow]:
    yield from _extractor(f"{prefix}extractor", backbone.extractor, backbone.inputs.shape)
    yield _part(f"{prefix}memory", backbone.memory, str(backbone.memory.output_size))


def _critic(actor: Backbone, critic: Backbone) -> Iterator[TableRow]:
    """Leave out a critic's layers if they equal the actor's."""
    rows = list(_backbone("critic ", critic))
    if critic.inputs is not actor.inputs:
        yield from _inputs("critic ", critic)
    if rows == list(_backbone("critic ", actor)):
        count = _count(critic.extractor) + _count(critic.memory)
        rows = [TableRow("critic", "as the actor's", "", count)]
    yield from rows


def _head(name: str, head: nn.Module) -> TableRow:
    """Show a head's output size, for action values that of each action."""
    values = head.value_head if isinstance(head, EpsilonGreedyHead) else head
    width = str(head.output.out_features) if isinstance(head, Head) else ""
    if isinstance(values, ValueHead):
        width = written(values.layers.output_shape)
    return _part(name, head, width)


def _part(name: str, module: nn.Module, output: str) -> TableRow:
    return TableRow(name, type(module).__name__, output, _count(module))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _extractor(name: str, extractor: nn.Module, shape: Shapes) -> Iterator[TableRow]:
    """Show an extractor, its inner extractors, and its layers if there are convolutions."""
    layers = _layers(extractor, shape)
    indent = " " * (len(name) - len(name.lstrip()) + 2)
    named = extractor.extractor if isinstance(extractor, Joined) else extractor
    yield _part(name, named, layers[-1].output)
    if isinstance(extractor, DictExtractor) and isinstance(shape, dict):
        for part, its_shape in shape.items():
            yield from _extractor(f"{indent}{part}", extractor.parts[part], its_shape)
    elif isinstance(extractor, Encoder):
        yield from _extractor(f"{indent}encoder", extractor.encoder, shape)
        yield layers[-2]._replace(name=f"{indent}latent")
    elif any(layer.field for layer in layers):
        yield from (layer._replace(name=indent + layer.name) for layer in layers[:-1])


@torch.no_grad()
def _layers(extractor: nn.Module, shape: Shapes) -> list[TableRow]:
    """Run zeros through an extractor; return a row for each layer, and one for the output."""
    found: list[TableRow] = []
    field, between = np.ones(2, np.int64), np.ones(2, np.int64)

    def note(layer: Any, arguments: Any, output: Any) -> None:
        """Record convolutions, pooling, and any other layer with weights.

            field += (kernel - 1) * dilation * stride before;  stride *= its own

        In a network with branches, the sum runs over all of them.
        """
        nonlocal field, between
        if not isinstance(output, Tensor):
            return
        row = TableRow(_name(layer), "", written(output.shape[1:]), _count(layer))
        if type(layer) in _WINDOWS:
            dilation = getattr(layer, "dilation", 1)
            field = field + (_pair(layer.kernel_size) - 1) * dilation * between
            between = between * _pair(layer.stride)
            found.append(row._replace(field=written(field.tolist()), stride=_side(between)))
        elif row.parameters:
            found.append(row)

    device = next((parameter.device for parameter in extractor.parameters()), None)
    zeros = map_observations(lambda each: torch.zeros(1, *each, device=device), shape)
    with ExitStack() as hooks:
        for layer in extractor.modules():
            if not list(layer.children()):
                hooks.enter_context(layer.register_forward_hook(note))
        features = extractor(zeros)
    return [*found, TableRow("", "", written(features.shape[1:]))]


def _name(layer: Any) -> str:
    if type(layer) not in _WINDOWS:
        return "connected" if isinstance(layer, nn.Linear) else type(layer).__name__
    stride = _pair(layer.stride)
    strides = f" / {_side(stride)}" if stride.max() > 1 else ""
    return f"{_WINDOWS[type(layer)]} {written(_pair(layer.kernel_size).tolist())}{strides}"


def _pair(value: Any) -> Array:
    """Return height and width."""
    return np.broadcast_to(value, 2)


def _side(pair: Array) -> str:
    return str(pair[0]) if pair[0] == pair[1] else written(pair.tolist())


def header(config: DictConfig, agent: Agent) -> str:
    """Describe what is trained and where, layer by layer, its size and the losses that train it."""
    counts = parameter_counts(agent.parts())
    parts = ", ".join(f"{part} {count:,}" for part, count in counts.items() if count)
    frozen: dict[str, str] = {}
    for name, backbone in agent.networks.backbones.items():
        end = backbone.frozen_until
        until = "" if math.isinf(end) else f" until {end:,.0f} steps"
        frozen[f"{name}.extractor"] = f" (frozen{until})" if end else ""
    gradients = "; ".join(
        f"{module} <- {', '.join(losses) or 'nothing'}{frozen.get(module, '')}"
        for module, losses in trained_by(agent.networks, agent.routes).items()
    )
    return (
        f"{type(agent).__name__} on {config.env.id}, {config.total_env_steps:,} steps, "
        f"{agent.device}, {torch.get_num_threads()} thread(s), "
        f"{f'{ranks.size()} ranks, ' if ranks.size() > 1 else ''}seed {config.seed}\n"
        f"{outline(agent)}\nparameters: {parts}\ngradients: {gradients}"
        + (_compilation(config, agent) if config.compile else "")
    )


def _compilation(config: DictConfig, agent: Agent) -> str:
    """Announce the compilation time, or that the gradient step is not compiled."""
    if not compiles(config, agent.networks, agent.device):
        reasons = " and ".join(slower_compiled(agent.networks))
        return (
            f"\nnotice: compile=true: not compiled, as with {reasons} that was measured no faster "
            "on a CPU; compile=force compiles"
        )
    return (
        f"\nnotice: compile={show(config.compile)}: the first step waits for the compiler, "
        "half a minute or so; a few seconds once this machine has compiled the same before"
    )
