"""Histograms of values: targets by hand and against loops, values, gradients."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from networks.heads.histograms import (
    HLGaussValueHead,
    TwoHotValueHead,
    cross_entropy,
    gaussian_histogram,
    two_hot,
)
from networks.heads.values import StateLayers, ValueHead
from tests.building import build

LAYERS: dict[str, Any] = {
    "hidden_sizes": [6],
    "activation": "tanh",
    "initialization": "orthogonal",
    "gain": 1.0,
}


def head(kind: str, *, bins: int = 21, support: Any = (-2.0, 3.0), **changes: Any) -> ValueHead:
    layers = partial(build, StateLayers, 5, **{**LAYERS, **changes})
    if kind == "hl_gauss":
        return build(HLGaussValueHead, layers, bins=bins, support=support, sigma=0.75)
    return build(TwoHotValueHead, layers, bins=bins, support=support, symlog=kind == "symlog")


def targets_of(made: ValueHead, values: Tensor) -> Tensor:
    """The distributions that a head is fitted to, read off its loss: it is linear in them."""
    (bins,) = made.layers.output_shape
    ideal = torch.zeros(len(values), bins, requires_grad=True)
    # Of equal logits, d loss / d logit_k = 1 / K - p_k.
    (gradient,) = torch.autograd.grad(made.loss(ideal, values).sum(), ideal)
    return 1 / bins - gradient


KINDS = pytest.mark.parametrize("kind", ["two_hot", "symlog", "hl_gauss"])


def test_two_hot_by_hand() -> None:
    centres = torch.tensor([-1.0, 0.0, 1.0, 3.0])
    found = two_hot(torch.tensor([0.25, 1.5, -1.0, 3.0, 0.0]), centres)
    expected = [
        [0.0, 0.75, 0.25, 0.0],  # 0.75 x 0 + 0.25 x 1
        [0.0, 0.0, 0.75, 0.25],  # 0.75 x 1 + 0.25 x 3
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.0, 1.0, 0.0, 0.0],
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_gaussian_histogram_by_hand() -> None:
    """Bins one deviation wide about the target: the 68-95-99.7 rule."""
    found = gaussian_histogram(
        torch.tensor([2.0]), torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor(1.0)
    )
    within = [0.682689, 0.954500, 0.997300]  # of one, two and three deviations
    thirds = [within[0], within[1] - within[0], within[2] - within[1]]
    expected = torch.tensor([thirds[k] for k in (2, 1, 0, 0, 1, 2)]) / (2 * within[2])
    torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=0)


@KINDS
def test_targets_agree_with_loops(kind: str) -> None:
    values = torch.linspace(-2.5, 3.5, 43)
    made = head(kind)
    low, high, bins = -2.0, 3.0, 21
    centres = list(np.linspace(low, high, bins))
    if kind == "symlog":
        ends = [math.copysign(math.log1p(abs(end)), end) for end in (low, high)]
        centres = [math.copysign(math.expm1(abs(t)), t) for t in np.linspace(*ends, bins)]
    deviation = 0.75 * (high - low) / (bins - 1)
    expected = np.zeros((len(values), bins))
    for row, value in enumerate(np.clip(values.double().numpy(), low, high)):
        for k, centre in enumerate(centres):
            if kind == "hl_gauss":
                sides = [centre - deviation / 1.5, centre + deviation / 1.5]  # half a bin
                below, above = (math.erf((side - value) / deviation / 2**0.5) for side in sides)
                expected[row, k] = above - below
            else:
                neighbours = [c for c in centres if (c - centre) * (value - centre) > 0]
                if not neighbours:  # at a limit, or at the centre itself
                    expected[row, k] = abs(value - centre) < 1e-9
                    continue
                nearest = min(neighbours, key=lambda c: abs(c - centre))
                expected[row, k] = max(0.0, 1 - (value - centre) / (nearest - centre))
    expected /= expected.sum(-1, keepdims=True)
    found = targets_of(made, values)
    torch.testing.assert_close(found, torch.tensor(expected).float(), atol=3e-6, rtol=0)


@KINDS
def test_a_target_is_a_distribution_with_its_value_as_mean(kind: str) -> None:
    made = head(kind, bins=101)
    values = torch.linspace(-1.8, 2.8, 97)  # three deviations off the limits
    found = targets_of(made, values)
    assert found.min() > -1e-6
    torch.testing.assert_close(found.sum(-1), torch.ones(97))
    mean = made.value((found.clamp(min=0) + 1e-12).log())
    torch.testing.assert_close(mean, values, atol=2e-4, rtol=0)


def test_gaussian_targets_are_as_wide_as_asked() -> None:
    made = head("hl_gauss", bins=101)
    found, centres = targets_of(made, torch.tensor([0.3])), made.support.centres
    deviation = (found * (centres - 0.3).square()).sum().sqrt() / made.support.width
    # A histogram adds the variance of a uniform distribution over a bin, 1 / 12.
    assert deviation.item() == pytest.approx(math.sqrt(0.75**2 + 1 / 12), rel=1e-3)


@KINDS
def test_targets_outside_count_as_the_limits(kind: str) -> None:
    found = targets_of(head(kind), torch.tensor([-50.0, -2.0, 3.0, 1e9]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[3], found[2])


@KINDS
def test_gradient_is_softmax_minus_target(kind: str) -> None:
    made, values = head(kind), torch.tensor([[0.4, -1.3], [2.0, 0.0]])
    output = torch.randn(2, 2, 21, requires_grad=True)
    losses = made.loss(output, values)
    assert losses.shape == (2, 2)
    (gradient,) = torch.autograd.grad(losses.sum(), output)
    target = targets_of(made, values.flatten()).view(2, 2, 21)
    torch.testing.assert_close(gradient, output.detach().softmax(-1) - target, atol=1e-6, rtol=0)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4, 3/4
    loss = cross_entropy(logits, torch.tensor([[0.5, 0.5]])).item()
    assert loss == pytest.approx(0.5 * math.log(4) + 0.5 * math.log(4 / 3))


@KINDS
def test_value_of_logits_by_hand(kind: str) -> None:
    made = head(kind, bins=3, support=[-1.0, 3.0])
    middle = 1.0 if kind != "symlog" else math.expm1(math.log(2) / 2)  # (-log 2 + log 4) / 2
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    expected = [-0.5 + middle / 4 + 0.75, 3.0, (2 + middle) / 3]
    torch.testing.assert_close(made.value((probabilities + 1e-20).log()), torch.tensor(expected))


@KINDS
@pytest.mark.parametrize("support", ["auto", [-4e8, 4e8]])
def test_a_new_head_says_zero(kind: str, support: Any) -> None:
    """Exactly: bins of opposite sign cancel, however far out they are."""
    made = head(kind, bins=51, support=support, gain=0.0)
    assert made.value(made(torch.randn(7, 3, 5))).tolist() == [[0.0] * 3] * 7


@KINDS
def test_rows_of_any_leading_shape_are_the_same_rows(kind: str) -> None:
    made, summary = head(kind), torch.randn(4, 3, 5)
    output = made(summary)
    assert output.shape == (4, 3, 21)
    assert made.value(output).shape == (4, 3)
    torch.testing.assert_close(output[2], made(summary[2]))


@KINDS
def test_it_learns_a_function(kind: str) -> None:
    torch.manual_seed(0)
    made, inputs = head(kind, support="auto"), torch.randn(256, 5)
    values = 100 + 40 * inputs[:, 0].tanh()
    made.observe(values, torch.ones(256, dtype=torch.bool))
    optimizer = torch.optim.Adam(made.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        made.loss(made(inputs), values).mean().backward()
        optimizer.step()
    error = (made.value(made(inputs)) - values).square().mean().sqrt().item()
    assert error < 4  # of a deviation of 25, with bins 24 wide
