"""Value heads: rows of any shape, and losses by hand."""

from functools import partial
from typing import Any

import torch

from networks.heads.values import HuberValueHead, MSEValueHead, StateLayers
from tests.building import build

LAYERS: dict[str, Any] = {
    "hidden_sizes": [6],
    "activation": "tanh",
    "initialization": "orthogonal",
    "gain": 1.0,
}
FIVE = partial(build, StateLayers, 5, **LAYERS)


def test_rows_of_any_leading_shape_are_the_same_rows() -> None:
    head = MSEValueHead(FIVE)
    summary = torch.randn(4, 3, 5)
    assert head(summary).shape == (4, 3)
    torch.testing.assert_close(head(summary)[2], head(summary[2]))


def test_mse_loss_by_hand() -> None:
    head, output = MSEValueHead(FIVE), torch.tensor([1.0, -2.0], requires_grad=True)
    losses = head.loss(output, torch.tensor([3.0, -2.5]))
    assert losses.tolist() == [4.0, 0.25]  # (1 - 3)^2, (-2 + 2.5)^2
    losses.sum().backward()
    assert output.grad is not None
    assert output.grad.tolist() == [-4.0, 1.0]  # 2 (v - y): upwards where v is too low


def test_huber_loss_by_hand() -> None:
    head = build(HuberValueHead, FIVE, delta=2.0)
    output = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    losses = head.loss(output, torch.tensor([0.0, 2.0, 5.0]))
    # Inside: error^2 / 2. Outside: delta (|error| - delta / 2) = 2 (5 - 1).
    assert losses.tolist() == [0.5, 2.0, 8.0]
    losses.sum().backward()
    assert output.grad is not None
    assert output.grad.tolist() == [1.0, -2.0, -2.0]  # never steeper than delta
