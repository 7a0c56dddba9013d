"""Convolutional networks: what they compute, every size from 5x5, misfits told with a remedy."""

from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.func import functional_call

from networks.extractors.cnn import CNN, Convolution, cascade
from networks.extractors.images import Unfit
from tests.building import build

NATURE = [
    {"filters": 32, "kernel": 8, "stride": 4},
    {"filters": 64, "kernel": 4, "stride": 2},
    {"filters": 64, "kernel": 3},
]


def cnn(shape: tuple[int, ...] = (9, 8, 3), **changes: Any) -> CNN:
    torch.manual_seed(0)
    options = {
        "layout": "auto",
        "layers": "auto",
        "filters": [4, 6],
        "activation": "relu",
        "normalization": "none",
        "hidden_sizes": [5],
        "initialization": "default",
        "gain": 1.0,
    }
    return build(CNN, shape, **{**options, **changes})


LAYERS = [
    {"filters": 8, "kernel": [3, 2], "stride": 1, "padding": [1, 0], "pool": 2},
    {"filters": 16, "kernel": 2, "stride": [1, 2], "padding": 1, "pool": 0},
]


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
@pytest.mark.parametrize("normalization", ["none", "layer"])
def test_a_cnn_is_the_stack_it_says(activation: str, normalization: str) -> None:
    network = cnn(layers=LAYERS, activation=activation, normalization=normalization)
    function = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}[activation]

    def norm(filters: int) -> list[nn.Module]:
        return [nn.GroupNorm(1, filters)] if normalization == "layer" else []

    plain = nn.Sequential(
        nn.Conv2d(3, 8, (3, 2), padding=(1, 0)),  # 9x8 -> 9x7
        *norm(8),
        nn.MaxPool2d(2),  # 4x3
        function(),
        nn.Conv2d(8, 16, 2, stride=(1, 2), padding=1),  # 5x2
        *norm(16),
        function(),
        nn.Flatten(),
        nn.Linear(16 * 5 * 2, 5),
        *([nn.LayerNorm(5)] if normalization != "none" else []),
        function(),
    )
    for parameter, own in zip(plain.parameters(), network.parameters(), strict=True):
        parameter.data.copy_(own)
    rows = torch.rand(3, 9, 8, 3)
    assert network.output_size == 5
    assert network.map_shape == (16, 5, 2)
    found, expected = network(rows), plain(rows.permute(0, 3, 1, 2).contiguous())
    torch.testing.assert_close(found, expected)
    gradients, others = (
        torch.autograd.grad(output.square().sum(), list(module.parameters()))
        for output, module in ((found, network), (expected, plain))
    )
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)


def test_every_layout_gives_the_same_features() -> None:
    rows = torch.rand(2, 9, 8, 3)
    last, first = cnn((9, 8, 3)), cnn((3, 9, 8))
    torch.testing.assert_close(last(rows), first(rows.permute(0, 3, 1, 2).contiguous()))


def test_without_connected_layers_the_last_maps_are_handed_on() -> None:
    network = cnn(hidden_sizes=[])
    assert network.output_size == 4 * 9 * 8
    rows = torch.rand(2, 9, 8, 3)
    maps = network.layers(network.rows(rows))
    assert torch.equal(network(rows), maps.flatten(1))


@pytest.mark.parametrize(
    ("size", "pools", "last"),
    [
        ((5, 5), [(1, 1)], (5, 5)),
        ((10, 10), [(1, 1)], (10, 10)),
        ((13, 13), [(1, 1)], (13, 13)),
        ((14, 14), [(2, 2)], (7, 7)),
        ((36, 36), [(2, 2)] * 2, (9, 9)),
        ((64, 64), [(2, 2)] * 3, (8, 8)),
        ((84, 84), [(2, 2)] * 3, (10, 10)),
        ((210, 160), [(2, 2)] * 4, (13, 10)),
        ((5, 100), [(1, 2)] * 3, (5, 12)),
    ],
    ids=str,
)
def test_the_default_is_a_cascade_down_to_about_7x7(size, pools, last) -> None:
    layers = cascade(size, [32, 64, 128])
    assert [layer.pool for layer in layers] == pools
    assert [layer.filters for layer in layers] == [32, 64, 128, 128][: len(pools)]
    network = cnn((*size, 1), filters=[2, 3], hidden_sizes=[])
    assert network.map_shape[1:] == last


@pytest.mark.parametrize("height", range(5, 22))
@pytest.mark.parametrize("width", [5, 9, 14, 31])
def test_images_of_any_size_from_5x5_fit(height: int, width: int) -> None:
    network = cnn((height, width), filters=[2])
    assert network(torch.rand(2, height, width)).shape == (2, 5)
    assert min(network.map_shape[1:]) >= min(height, width, 7)


@pytest.mark.parametrize("size", [36, 40, 64, 84, 96])
def test_nature_fits_from_36x36(size: int) -> None:
    network = cnn((size, size, 1), layers=NATURE, filters=[], hidden_sizes=[])
    side = ((size - 8) // 4 + 1 - 4) // 2 + 1 - 2
    assert network.output_size == 64 * side * side
    if size == 84:
        assert network.output_size == 3136


@pytest.mark.parametrize(
    ("layers", "size", "option", "words"),
    [
        (NATURE, (12, 12), "layers[1]", "a kernel of 4x4 does not fit its input of 2x2;"),
        (NATURE, (35, 35), "layers[2]", "a kernel of 3x3 does not fit its input of 2x2;"),
        (NATURE, (7, 90), "layers[0]", "a kernel of 8x8 does not fit its input of 7x90;"),
        (
            [{"filters": 1, "kernel": 3, "stride": 2}, {"filters": 1, "kernel": 2, "pool": [2, 1]}],
            (5, 9),
            "layers[1]",
            "a max-pool of 2x1 does not fit its input of 1x3;",
        ),
        (
            [{"filters": 1, "kernel": [9, 3], "padding": 1}],
            (6, 6),
            "layers[0]",
            "a kernel of 9x3 does not fit its input of 6x6 with padding 1;",
        ),
    ],
    ids=str,
)
def test_a_misfit_is_told_with_layers_that_fit(layers, size, option: str, words: str) -> None:
    with pytest.raises(Unfit) as refused:
        cnn((*size, 1), layers=layers)
    assert refused.value.option == option
    assert refused.value.reason.startswith(words)
    assert refused.value.instead == ("cnn",)
    assert "\n" not in str(refused.value)
    written = refused.value.reason.partition("is layers=")[2]
    assert cnn((*size, 1), layers=yaml.safe_load(written))(torch.rand(1, *size, 1)).shape == (1, 5)


def test_layers_are_written_as_they_are_read() -> None:
    for options in LAYERS + NATURE:
        layer = Convolution.of(options)
        assert Convolution.of(yaml.safe_load(str(layer))) == layer


def test_auto_needs_filters() -> None:
    with pytest.raises(Unfit, match="filters: layers=auto needs them"):
        cnn(filters=[])


@pytest.mark.parametrize("initialization", ["orthogonal", "default"])
def test_filters_are_orthogonal_rows(initialization: str) -> None:
    network = cnn((30, 30, 3), initialization=initialization, gain=1.7)
    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        weight = layer.weight.flatten(1)
        is_wide = weight.shape[0] <= weight.shape[1]
        product = weight @ weight.T if is_wide else weight.T @ weight
        is_orthogonal = torch.allclose(product, 1.7**2 * torch.eye(len(product)), atol=1e-5)
        assert is_orthogonal is (initialization == "orthogonal")
        assert layer.bias.any() == (initialization != "orthogonal")


def test_acting_and_learning_compute_the_same() -> None:
    for normalization in ("none", "layer"):
        network = cnn((20, 20, 3), normalization=normalization)
        rows = torch.rand(6, 20, 20, 3)
        learning, acting = network.train()(rows), network.eval()(rows)
        assert torch.equal(learning, acting)
        torch.testing.assert_close(acting[2:3], network(rows[2:3]))


def test_bfloat16_is_close() -> None:
    network, rows = cnn((20, 20, 3), normalization="layer"), torch.rand(6, 20, 20, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(rows)
    torch.testing.assert_close(found.float(), network(rows), rtol=0.05, atol=0.05)


def test_weights_may_be_views_of_one_vector() -> None:
    network, rows = cnn((20, 20, 3)), torch.rand(6, 20, 20, 3)
    expected = network(rows)
    flat = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    views, start = {}, 0
    for name, parameter in network.named_parameters():
        views[name] = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    assert torch.equal(functional_call(network, views, (rows,)), expected)
