"""Initial weights: orthogonal to the digit, gate by gate, and `default` is PyTorch's own."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks.extractors.mlp import MLP
from networks.heads.values import StateLayers
from networks.initialization import initialize
from networks.memory.memories import GRU, LSTM, RNN
from tests.building import build

GAIN = 1.7


def assert_orthogonal(weight: Tensor, gain: float) -> None:
    rows, columns = weight.shape
    product = weight @ weight.T if rows <= columns else weight.T @ weight
    torch.testing.assert_close(product, gain**2 * torch.eye(len(product)), rtol=0, atol=1e-5)


def mlp(initialization: str) -> MLP:
    return build(
        MLP,
        (7,),
        hidden_sizes=[16, 5, 5],
        activation="tanh",
        initialization=initialization,
        gain=GAIN,
    )


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_linear_layers_are_orthogonal_with_zero_biases() -> None:
    layers = linear_layers(mlp("orthogonal"))
    assert len(layers) == 3
    for layer in layers:
        assert_orthogonal(layer.weight, GAIN)
        assert not layer.bias.any()


def test_head_scales_hidden_layers_by_sqrt_two_and_the_output_by_its_gain() -> None:
    head = build(
        StateLayers,
        5,
        1,
        hidden_sizes=[8],
        activation="tanh",
        initialization="orthogonal",
        gain=0.01,
    )
    assert_orthogonal(head.hidden.layers[0].weight, math.sqrt(2))
    assert_orthogonal(head.output.weight, 0.01)
    assert not head.output.bias.any()


@pytest.mark.parametrize(("cls", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_recurrent_weights_are_orthogonal_gate_by_gate(cls, gates: int) -> None:
    options: dict[str, Any] = {"nonlinearity": "tanh"} if cls is RNN else {}
    options |= {"initialization": "orthogonal", "gain": GAIN}
    memory = build(cls, 7, hidden_size=5, num_layers=2, **options)
    for layer in memory.layers:
        kernel = layer.kernel
        inputs, recurrent = kernel.weight_ih_l0.split(5), kernel.weight_hh_l0.split(5)
        assert len(inputs) == len(recurrent) == gates
        for of_input, of_state in zip(inputs, recurrent, strict=True):
            assert_orthogonal(of_input, GAIN)
            assert_orthogonal(of_state, 1.0)
        assert not kernel.bias_ih_l0.any()
        assert not kernel.bias_hh_l0.any()


def test_gates_keep_and_write_for_time_constants_up_to_the_span() -> None:
    options = {"hidden_size": 3, "num_layers": 1, "initialization": "orthogonal", "gain": GAIN}
    kept = 1 - 1 / torch.logspace(math.log10(2), math.log10(50), 3)
    lstm = build(LSTM, 7, span=50.0, **options).layers[0].kernel
    write, keep, *others = lstm.bias_ih_l0.sigmoid().split(3)
    torch.testing.assert_close(keep, kept)
    torch.testing.assert_close(write, 1 - kept)
    gru = build(GRU, 7, span=50.0, **options).layers[0].kernel
    reset, keep, new = gru.bias_ih_l0.sigmoid().split(3)
    torch.testing.assert_close(keep, kept)
    for untouched in (*others, reset, new):
        assert (untouched == 0.5).all()


def test_default_is_pytorchs_own_draw() -> None:
    torch.manual_seed(0)
    found = linear_layers(mlp("default"))
    torch.manual_seed(0)
    expected = [nn.Linear(7, 16), nn.Linear(16, 5), nn.Linear(5, 5)]
    for layer, reference in zip(found, expected, strict=True):
        assert torch.equal(layer.weight, reference.weight)
        assert torch.equal(layer.bias, reference.bias)

    torch.manual_seed(0)
    memory = build(LSTM, 7, hidden_size=5, num_layers=1, initialization="default", gain=GAIN)
    torch.manual_seed(0)
    kernel = nn.LSTM(7, 5)
    for name, parameter in kernel.named_parameters():
        assert torch.equal(memory.layers[0].kernel.get_parameter(name), parameter)


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 8, (3, 2)), nn.ConvTranspose2d(8, 3, 4)], ids=str)
def test_convolutions_are_orthogonal_as_matrices(layer: nn.Module) -> None:
    initialize(layer, initialization="orthogonal", gain=GAIN)
    assert_orthogonal(layer.weight.flatten(1), GAIN)
    assert not layer.bias.any()
