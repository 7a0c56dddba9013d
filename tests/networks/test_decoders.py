"""Decoders go an encoder's layers backwards, to exactly the size that was observed."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from networks.autoencoding.decoders import (
    DenseDecoder,
    going_back,
    transposed,
)
from networks.autoencoding.reconstruction import ObservationDecoder
from networks.extractors.cnn import CNN, ImpalaCNN
from networks.extractors.composite import DictExtractor, Joined
from networks.extractors.mlp import MLP, Flatten
from networks.extractors.structure import outline_of
from networks.inputs import make_input
from tests.building import build

DRAW: dict[str, Any] = {"initialization": "orthogonal", "gain": 1.414}
NATURE = [
    {"filters": 32, "kernel": 8, "stride": 4},
    {"filters": 64, "kernel": 4, "stride": 2},
    {"filters": 64, "kernel": 3},
]


def mlp(shape: Any, *hidden_sizes: int, activation: str = "tanh") -> MLP:
    return build(MLP, shape, hidden_sizes=hidden_sizes, activation=activation, **DRAW)


def cnn(shape: Any, *, layout: str = "hwc", **changes: Any) -> CNN:
    options: dict[str, Any] = {
        "layers": "auto",
        "filters": [8, 12],
        "activation": "relu",
        "normalization": "none",
        "hidden_sizes": [10],
        **changes,
    }
    return build(CNN, shape, layout=layout, **options, **DRAW)


def impala(shape: Any, *, layout: str = "hwc") -> ImpalaCNN:
    options: dict[str, Any] = {"filters": [6, 8], "num_blocks": 1, "hidden_sizes": [10]}
    return build(ImpalaCNN, shape, layout=layout, **options, **DRAW)


def fused(parts: dict[str, nn.Module], *hidden_sizes: int) -> DictExtractor:
    total = sum(part.output_size for part in parts.values())
    return build(DictExtractor, parts, total, hidden_sizes=hidden_sizes, activation="tanh", **DRAW)


def observation_decoder(inputs, encoder, input_size, decoder=None, further=()):
    return ObservationDecoder(
        inputs, encoder=encoder, further_sizes=further, input_size=input_size, decoder=decoder
    )


def dense(input_size: int, shape: Any) -> DenseDecoder:
    return build(DenseDecoder, input_size, shape, hidden_sizes=[5], activation="relu", **DRAW)


def linear_sizes(module: nn.Module) -> list[tuple[int, int]]:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in layers]


@pytest.mark.parametrize("before", range(1, 14))
def test_any_size_leads_to_any_other(before: int) -> None:
    for after in range(1, 45):
        layer = transposed(1, 1, [(before, after), (after, before)])
        assert layer(torch.zeros(1, 1, before, after)).shape == (1, 1, after, before)


@pytest.mark.parametrize(
    ("before", "after", "kernel", "stride", "padding"),
    [(9, 20, 4, 2, 0), (20, 84, 8, 4, 0), (7, 9, 3, 1, 0), (7, 14, 4, 2, 1), (5, 5, 3, 1, 1)],
)
def test_convolutions_are_undone_with_their_own_numbers(
    before: int, after: int, kernel: int, stride: int, padding: int
) -> None:
    layer = transposed(1, 1, [(before, after), (before, after)])
    found = (layer.kernel_size[0], layer.stride[0], layer.padding[0])
    assert found == (kernel, stride, padding)


@pytest.mark.parametrize("size", [(5, 5), (7, 7), (13, 9), (28, 31), (84, 84)])
@pytest.mark.parametrize("make", [cnn, impala])
@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_an_image_is_drawn_in_its_size_and_layout(size, make, layout: str) -> None:
    shape = (*size, 3) if layout == "hwc" else (3, *size)
    encoder = make(shape, layout=layout)
    decoder = going_back(outline_of(encoder, shape, None), encoder.output_size, shape)
    assert decoder(encoder(torch.rand(2, *shape))).shape == (2, *shape)
    maps = outline_of(encoder, shape, None).maps
    assert maps[0] == (3, *size)
    assert maps[-1] == encoder.map_shape


@pytest.mark.parametrize(
    ("shape", "layout"), [((13, 9), "auto"), ((4, 13, 9), "chw"), ((3, 9, 8, 2), "hwc")]
)
def test_grey_images_and_stacks(shape, layout: str) -> None:
    encoder = cnn(shape, layout=layout, hidden_sizes=[])
    decoder = going_back(outline_of(encoder, shape, None), encoder.output_size, shape)
    assert decoder(encoder(torch.rand(2, *shape))).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(7, 6, 2), (3, 7, 6, 2)])
def test_writing_an_image_undoes_reading_it(shape) -> None:
    """What is drawn in a channel must stand where the encoder read that channel."""
    encoder = cnn(shape, layers=[{"filters": 2, "kernel": 3, "padding": 1}], hidden_sizes=[])
    decoder = going_back(outline_of(encoder, shape, None), encoder.output_size, shape)
    decoder.convolutions = nn.Identity()
    decoder._smallest = (encoder.rows.channels, 7, 6)
    rows = torch.rand(4, *shape)
    assert torch.equal(decoder(encoder.rows(rows).flatten(1)), rows)


def test_nature_is_mirrored_layer_by_layer() -> None:
    encoder = cnn((84, 84, 4), layers=NATURE, filters=[], hidden_sizes=[512])
    decoder = going_back(outline_of(encoder, (84, 84, 4), None).then(50), 50, (84, 84, 4))
    assert linear_sizes(decoder) == [(50, 512), (512, 3136)]
    layers = [each for each in decoder.convolutions if isinstance(each, nn.ConvTranspose2d)]
    found = [(each.in_channels, each.out_channels, each.kernel_size[0]) for each in layers]
    assert found == [(64, 64, 3), (64, 32, 4), (32, 4, 8)]


def test_maps_that_are_features_need_no_dense_layer() -> None:
    encoder = cnn((14, 14, 3), hidden_sizes=[])
    decoder = going_back(outline_of(encoder, (14, 14, 3), None), encoder.output_size, (14, 14, 3))
    assert not linear_sizes(decoder)


def test_dense_layers_are_mirrored() -> None:
    encoder = mlp((4, 2), 32, 16)
    outline = outline_of(encoder, (4, 2), None)
    decoder = going_back(outline, 16, (4, 2))
    assert linear_sizes(decoder) == [(16, 32), (32, 8)]
    assert any(isinstance(each, nn.Tanh) for each in decoder.modules())
    assert linear_sizes(going_back(outline.then(3), 3, (4, 2))) == [(3, 16), (16, 32), (32, 8)]
    assert linear_sizes(going_back(outline_of(Flatten((5,)), (5,), None), 5, (5,))) == [(5, 5)]


PARTS = spaces.Dict(
    {"image": spaces.Box(0, 255, (8, 9, 3), np.uint8), "goal": spaces.Box(-1, 1, (2,))}
)


def test_every_part_of_a_dict_is_mirrored() -> None:
    inputs = make_input(PARTS)
    image, goal = cnn((8, 9, 3), hidden_sizes=[10]), mlp((2,), 6)
    encoder = fused({"goal": goal, "image": image}, 20, 12)
    decoder = observation_decoder(inputs, encoder, 12)
    assert linear_sizes(decoder.decoders["goal"]) == [(12, 20), (20, 6), (6, 2)]
    assert linear_sizes(decoder.decoders["image"])[:2] == [(12, 20), (20, 10)]
    rows = inputs({"image": torch.zeros(3, 8, 9, 3, dtype=torch.uint8), "goal": torch.zeros(3, 2)})
    outputs = decoder(encoder(rows))
    assert outputs["image"].shape == (3, 8, 9, 3)
    assert outputs["goal"].shape == (3, 2)
    assert decoder.expectation(outputs).keys() == {"image", "goal"}


def test_parts_read_side_by_side_are_decoded_one_by_one() -> None:
    space = spaces.Dict({"goal": spaces.Box(-1, 1, (2,)), "key": spaces.Discrete(3)})
    inputs, encoder = make_input(space), Joined(mlp((5,), 7))
    decoder = observation_decoder(inputs, encoder, 7)
    rows = inputs({"goal": torch.zeros(3, 2), "key": torch.tensor([0, 1, 2])})
    outputs = decoder(encoder(rows))
    assert {name: tuple(part.shape) for name, part in outputs.items()} == {
        "goal": (3, 2),
        "key": (3, 3),
    }


def test_parts_count_alike() -> None:
    """The mean over parts, each a mean over its own numbers: an image drowns nothing."""
    inputs = make_input(PARTS)
    decoder = observation_decoder(inputs, nn.Identity(), 4, dense)
    rows = {"image": torch.zeros(2, 8, 9, 3), "goal": torch.zeros(2, 2)}
    outputs = {"image": torch.full((2, 8, 9, 3), 0.1), "goal": torch.ones(2, 2)}
    expected = torch.full((2,), (0.01 + 1.0) / 2)
    torch.testing.assert_close(decoder.loss(outputs, rows), expected)
    torch.testing.assert_close(decoder.squared_error(outputs, rows), expected)
    assert decoder.count == 8 * 9 * 3 + 2


def test_a_decoder_of_ones_own_choice() -> None:
    inputs = make_input(spaces.Box(0, 255, (13, 9, 3), np.uint8))
    decoder = observation_decoder(inputs, nn.Identity(), 4, dense)
    assert decoder(torch.rand(2, 4))["observation"].shape == (2, 13, 9, 3)
    assert linear_sizes(decoder)[-1][1] == 13 * 9 * 3


@pytest.mark.parametrize(
    ("space", "encoder", "decoder", "message"),
    [
        (
            spaces.Box(-1, 1, (3,)),
            nn.Linear(3, 4),
            None,
            "Linear has no `outline` that tells its layers, for a decoder to mirror",
        ),
        (
            spaces.Box(-1, 1, (3,)),
            Flatten((3,)),
            lambda size, shape: nn.Linear(size + 1, 3),
            r"cannot make observation of shape \(3,\): .*cannot be multiplied",
        ),
        (
            spaces.Box(-1, 1, (3,)),
            Flatten((3,)),
            lambda size, shape: nn.Linear(size, 5),
            r"makes rows of shape \(5,\) for observation of shape \(3,\)",
        ),
    ],
)
def test_what_cannot_be_decoded_is_refused(space, encoder, decoder, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        observation_decoder(make_input(space), encoder, 4, decoder)
    assert "\n" not in str(caught.value)


def test_no_gradient_reaches_the_target() -> None:
    inputs = make_input(spaces.Box(-1, 1, (3,)))
    decoder = observation_decoder(inputs, Flatten((3,)), 3)
    rows, features = torch.randn(4, 3).requires_grad_(), torch.randn(4, 3).requires_grad_()
    decoder.loss(decoder(features), rows).sum().backward()
    assert rows.grad is None
    assert features.grad.abs().sum() > 0
