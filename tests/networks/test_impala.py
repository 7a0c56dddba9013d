"""The residual network: the sections of the paper, for every size."""

from typing import Any

import pytest
import torch
from torch import nn

from networks.extractors.cnn import ImpalaCNN, ResidualBlock
from networks.extractors.images import Unfit
from tests.building import build


def impala(shape: tuple[int, ...], **changes: Any) -> ImpalaCNN:
    torch.manual_seed(0)
    options = {
        "layout": "auto",
        "filters": [4, 6],
        "num_blocks": 1,
        "hidden_sizes": [5],
        "initialization": "default",
        "gain": 1.0,
    }
    return build(ImpalaCNN, shape, **{**options, **changes})


def test_the_layers_are_those_of_the_paper() -> None:
    network = impala((10, 11, 3))

    def residual(maps: torch.Tensor, block: ResidualBlock) -> torch.Tensor:
        return maps + block.second(torch.relu(block.first(torch.relu(maps))))

    rows = torch.rand(2, 10, 11, 3)
    maps = rows.permute(0, 3, 1, 2)
    pool = nn.MaxPool2d(3, 2, padding=1)
    first, _, one, second, _, two, _ = network.layers
    for convolution, block in ((first, one), (second, two)):
        maps = residual(pool(convolution(maps)), block)
    assert maps.shape[1:] == network.map_shape == (6, 3, 3)
    (linear,) = (each for each in network.connected.layers if isinstance(each, nn.Linear))
    expected = torch.relu(linear(torch.relu(maps).flatten(1)))
    torch.testing.assert_close(network(rows), expected)


def test_the_network_for_atari_has_the_papers_size() -> None:
    network = impala((72, 96, 3), filters=[16, 32, 32], num_blocks=2, hidden_sizes=[256])
    assert network.map_shape == (32, 9, 12)
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    assert len(convolutions) == 15  # three sections of 1 + 2 * 2


@pytest.mark.parametrize("size", [(5, 5), (5, 8), (7, 7), (13, 6), (36, 36)], ids=str)
def test_images_of_any_size_from_5x5_fit(size) -> None:
    network = impala(size, filters=[2, 2, 2])
    assert network(torch.rand(3, *size)).shape == (3, 5)


def test_a_vector_is_refused() -> None:
    with pytest.raises(Unfit, match="no image"):
        impala((4,))


def test_every_weight_gets_a_gradient_and_input_is_left_alone() -> None:
    network = impala((8, 8, 3), initialization="orthogonal")
    rows = torch.rand(4, 8, 8, 3)
    kept = rows.clone()
    gradients = torch.autograd.grad(network(rows).square().sum(), list(network.parameters()))
    assert all(gradient.any() for gradient in gradients)
    assert torch.equal(rows, kept)
