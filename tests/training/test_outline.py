"""The table at the start of a run: sizes, parameters and receptive fields, counted by hand."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from agents.agent import Agent
from conf.composing.command_line import load
from training.building.build import build_agent
from training.runs.header import _layers, outline

VECTOR, IMAGE = spaces.Box(-1, 1, (4,)), spaces.Box(0, 255, (36, 36, 3), np.uint8)
SHARED = "share_backbone=true"


def build(space: gymnasium.Space[Any], *words: str) -> Agent:
    return build_agent(load(["device=cpu", *words]), space, spaces.Discrete(3), num_envs=2)


def table(space: gymnasium.Space[Any], *words: str) -> list[list[str]]:
    return [line.split() for line in outline(build(space, *words)).splitlines()]


def test_a_network_of_vectors_takes_a_line_for_each_part() -> None:
    assert table(VECTOR, "extractor.hidden_sizes=[5]", "memory=gru", "memory.hidden_size=6") == [
        ["observation", "numbers", "4"],
        ["extractor", "MLP", "5", "25"],
        ["memory", "GRU", "6", str(3 * (5 * 6 + 6 * 6 + 2 * 6))],
        ["policy", "head", "CategoricalHead", "3", "21"],
        ["critic", "as", "the", "actor's", str(25 + 234)],
        ["value", "head", "MSEValueHead", "1", "7"],
    ]


def test_convolutions_show_their_maps_fields_and_strides() -> None:
    words = ["extractor=nature_cnn", "extractor.hidden_sizes=[10]", SHARED]
    assert table(IMAGE, *words)[:7] == [
        ["network", "output", "parameters", "receptive", "field", "stride"],
        ["observation", "intensities", "36x36x3"],
        ["extractor", "CNN", "10", f"{6176 + 32832 + 36928 + 650:,}"],
        ["convolution", "8x8", "/", "4", "32x8x8", "6,176", "8x8", "4"],
        ["convolution", "4x4", "/", "2", "64x3x3", "32,832", "20x20", "8"],
        ["convolution", "3x3", "64x1x1", "36,928", "36x36", "8"],
        ["connected", "10", "650"],
    ]


def test_pooling_widens_the_field() -> None:
    found = table(IMAGE, "extractor=cnn", "extractor.filters=[2]", SHARED)
    assert [line[-2:] for line in found[3:7]] == [
        ["3x3", "1"],
        ["4x4", "2"],
        ["8x8", "2"],
        ["10x10", "4"],
    ]


POOLED = "extractor.layers=[{filters: 2, kernel: 3, pool: 2}, {filters: 2, kernel: [3, 5]}]"


@pytest.mark.parametrize(
    "words",
    [
        ["extractor=cnn", POOLED],
        ["extractor=impala_cnn", "extractor.filters=[2,2]", "extractor.num_blocks=1"],
    ],
    ids=["cnn", "impala"],
)
def test_the_field_is_where_an_output_gets_a_gradient_from(words: list[str]) -> None:
    """The gradient of one number in the middle of the last maps reaches as far as is said."""
    space = spaces.Box(0, 255, (60, 60, 1), np.uint8)
    extractor = build(space, *words, "extractor.hidden_sizes=[]", SHARED).actor.extractor
    *_, last, _ = _layers(extractor, (60, 60, 1))
    channels, rows, columns = map(int, last.output.split("x"))
    averaging(extractor)
    for parameter in extractor.parameters():
        nn.init.constant_(parameter, 0.1)
    image = torch.ones(1, 60, 60, 1, requires_grad=True)
    maps = extractor(image).view(channels, rows, columns)
    (gradient,) = torch.autograd.grad(maps[0, rows // 2, columns // 2], image)
    seen = gradient[0, :, :, 0].nonzero()
    assert "x".join(map(str, (seen.amax(0) - seen.amin(0) + 1).tolist())) == last.field


def averaging(extractor: nn.Module) -> None:
    """Pools by averages, which pass a gradient to every input."""
    for name, module in list(extractor.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            parent, _, own = name.rpartition(".")
            pool = nn.AvgPool2d(module.kernel_size, stride=module.stride, padding=module.padding)
            extractor.get_submodule(parent).register_module(own, pool)


def test_parts_show_their_own_extractors() -> None:
    space = spaces.Dict(
        [("camera", IMAGE), ("map", spaces.MultiDiscrete(np.full((6, 5), 4))), ("speed", VECTOR)]
    )
    found = table(
        space,
        "extractor=dict",
        "+extractor@extractor.keys.camera=nature_cnn",
        "extractor@critic.extractor=flatten",
        "extractor.hidden_sizes=[7]",
    )
    assert [line[:4] for line in found[1:4]] == [
        ["observation", "camera", "intensities", "36x36x3"],
        ["observation", "map", "identifiers", "6x5x4"],
        ["observation", "speed", "numbers", "4"],
    ]
    assert found[4][:3] == ["extractor", "DictExtractor", "7"]
    assert [line[0] for line in found[5:]] == [
        "camera", "convolution", "convolution", "convolution", "connected", "map", "speed",
        "memory", "policy", "critic", "critic", "value",
    ]  # fmt: skip
    assert found[5][:3] == ["camera", "CNN", "512"]
    assert found[-3][:4] == ["critic", "extractor", "Flatten", str(36 * 36 * 3 + 6 * 5 * 4 + 4)]


def test_an_encoder_shows_what_it_encodes_with() -> None:
    space = spaces.Dict([("camera", IMAGE), ("speed", VECTOR)])
    found = table(space, "extractor=autoencoder", "extractor.latent_size=3", SHARED)
    names = [line[0] for line in found[3:]]
    assert found[3][:3] == ["extractor", "Encoder", "3"]
    assert names[:3] == ["extractor", "encoder", "camera"]
    assert names[-5:] == ["speed", "latent", "memory", "policy", "value"]
    fields = [line[-2] for line in found if line[0] == "convolution"]
    assert fields[0] == "3x3"  # of each part anew
    assert found[names.index("latent") + 3][1] == "3"


def test_a_users_own_module_shows_its_layers() -> None:
    layers = nn.Sequential(
        nn.Flatten(1, 2), nn.Unflatten(1, (1, 36)), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
    )
    rows = _layers(nn.Sequential(layers, nn.Flatten(), nn.Linear(2 * 34 * 4, 3)), (6, 6, 6))
    assert [(row.name, row.output, row.parameters) for row in rows] == [
        ("convolution 3x3", "2x34x4", 20),
        ("BatchNorm2d", "2x34x4", 4),
        ("connected", "3", 819),
        ("", "3", None),
    ]


def test_looking_leaves_the_network_as_it_is() -> None:
    agent = build(IMAGE, "extractor=cnn", "extractor.filters=[2]", "extractor.normalization=layer")
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    outline(agent)
    after = agent.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(module._forward_hooks for module in agent.modules())
    assert not any(module.training for module in agent.modules())
