"""Distributions of returns: projection and quantile loss by hand, and what they converge to."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from networks.heads.distributional import C51ValueHead, QuantileValueHead, project, quantile_huber
from networks.heads.values import Rescaling, StateLayers
from tests.building import build

LAYERS = partial(
    build, StateLayers, 5, hidden_sizes=[], activation="tanh", initialization="orthogonal", gain=1.0
)
SCALES = pytest.mark.parametrize("scale", [None, Rescaling(eps=1e-2)], ids=str)


def c51(support: Any = (-2.0, 2.0), bins: int = 5) -> C51ValueHead:
    return build(C51ValueHead, LAYERS, bins=bins, support=support)


def quantile(quantiles: int = 4, kappa: float = 1.0) -> QuantileValueHead:
    return build(QuantileValueHead, LAYERS, quantiles=quantiles, kappa=kappa)


# C51


def test_projection_by_hand() -> None:
    """Bins at -2, -1, 0, 1, 2."""
    atoms = torch.tensor([[-9.0, -1.75, 0.0, 1.5, 2.5], [0.25, 0.25, 0.25, 0.25, 0.25]])
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2, 0.2]])
    expected = [
        [0.1 + 0.15, 0.05, 0.3, 0.1, 0.1 + 0.2],  # -1.75 is 3/4 at -2, 1.5 is half and half
        [0.0, 0.0, 0.75, 0.25, 0.0],
    ]
    found = project(atoms, probabilities, torch.tensor([-2.0, 2.0]))
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("limits", [(-10.0, 10.0), (3.0, 4.5), (-4e8, 4e8)])
def test_projection_keeps_mass_and_mean_within_the_limits(limits: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    low, high = limits
    atoms = low + (high - low) * torch.rand(7, 3, 51, generator=generator)
    probabilities = torch.rand(7, 3, 51, generator=generator).softmax(-1)
    found = project(atoms, probabilities, torch.tensor(limits))
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(-1), torch.ones(7, 3), rtol=0, atol=2e-6)
    mean = (found * torch.linspace(low, high, 51)).sum(-1)
    expected = (probabilities * atoms).sum(-1)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-6 * (high - low))


def projected_by_loops(
    made: C51ValueHead, reward: float, discount: float, logits: Tensor, scale: Rescaling | None
) -> Tensor:
    """Algorithm 1 of the paper, atom by atom."""
    atoms, bins = made.support.centres.double(), len(logits)
    low, high = atoms[0].item(), atoms[-1].item()
    target = torch.zeros(bins, dtype=torch.float64)
    for probability, atom in zip(logits.double().softmax(-1).tolist(), atoms, strict=True):
        later = atom if scale is None else scale.inverse(atom)
        moved = reward + discount * later
        moved = (moved if scale is None else scale(moved)).clamp(low, high).item()
        place = (moved - low) / ((high - low) / (bins - 1))
        lower, upper = math.floor(place), math.ceil(place)
        if lower == upper:
            target[lower] += probability
        else:
            target[lower] += probability * (upper - place)
            target[upper] += probability * (place - lower)
    return target.float()


@SCALES
def test_c51_target_agrees_with_loops(scale: Rescaling | None) -> None:
    made, generator = c51((-3.0, 5.0), bins=9), torch.Generator().manual_seed(0)
    rewards = 3 * torch.randn(4, 6, generator=generator)
    discounts = torch.tensor([0.0, 0.5, 0.9, 0.99, 1.0, 0.3]).expand(4, 6)
    logits = torch.randn(4, 6, 9, generator=generator)
    found = made.target(rewards, discounts, logits, scale)
    for row in range(4):
        for column in range(6):
            expected = projected_by_loops(
                made,
                rewards[row, column].item(),
                discounts[row, column].item(),
                logits[row, column],
                scale,
            )
            torch.testing.assert_close(found[row, column], expected, rtol=0, atol=2e-6)


@SCALES
def test_where_nothing_follows_a_c51_target_is_the_reward(scale: Rescaling | None) -> None:
    made, rewards = c51(), torch.tensor([0.5, -2.0, 7.0])
    found = made.target(rewards, torch.zeros(3), torch.randn(3, 5), scale)
    mean = (found * made.support.centres).sum(-1)
    scaled = rewards if scale is None else scale(rewards)
    torch.testing.assert_close(mean, scaled.clamp(-2, 2))
    assert (found > 0).sum(-1).max() <= 2  # two-hot, whatever was thought of later


def test_c51_error_is_the_divergence_of_the_distributions() -> None:
    made = c51(bins=3)
    output = torch.tensor([0.5, 0.25, 0.25]).log()
    target = torch.tensor([0.0, 0.5, 0.5])
    error = made.error(output, target).item()
    assert error == pytest.approx(math.log(2))  # 2 x 1/2 log(0.5 / 0.25)
    assert made.error(output + 7, output.exp()).item() == pytest.approx(0, abs=1e-6)
    assert made.error(output, output.exp()).item() >= 0


def test_c51_loss_draws_probability_to_the_target() -> None:
    made = c51(bins=3)
    output = torch.zeros(2, 3, requires_grad=True)
    target = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    losses = made.loss(output, target)
    assert losses.tolist() == pytest.approx([math.log(3), math.log(3)])
    losses.sum().backward()
    assert output.grad is not None
    torch.testing.assert_close(output.grad, 1 / 3 - target)


def test_c51_iterates_to_the_distribution_of_returns() -> None:
    """A chain that pays 0 or 1 and goes on, by even chance: the mean is 0.5 / (1 - d / 2)."""
    torch.manual_seed(0)
    made, summary = c51((0.0, 8.0), bins=17), torch.eye(5)[:1]
    optimizer = torch.optim.Adam(made.parameters(), lr=0.05)
    discount = 0.9
    rewards, goes_on = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    for _ in range(400):
        output = made(summary).expand(4, -1)
        target = made.target(rewards, discount * goes_on, output, None)
        optimizer.zero_grad()
        made.loss(output, target).mean().backward()
        optimizer.step()
    assert made.value(made(summary)).item() == pytest.approx(0.5 / (1 - discount / 2), abs=0.02)
    below_one = made(summary).softmax(-1)[0, :2].sum().item()
    assert 0.25 < below_one < 0.40  # 0 and the end is 1/4, then 1/16, ..., together 1/3


@pytest.mark.parametrize("support", ["auto", (-3.0, 3.0)])
def test_only_a_support_that_is_learnt_must_see_targets(support: Any) -> None:
    made = c51(support)
    assert made.learns_support == (support == "auto")
    metrics = made.observe(torch.tensor([4.0]), torch.tensor([True]))
    assert made.support.limits.tolist() == ([-8.0, 8.0] if support == "auto" else [-3.0, 3.0])
    assert metrics["value/outside_support"].item() == (0.0 if support == "auto" else 1.0)


# Quantiles


def test_quantile_loss_by_hand() -> None:
    """Two quantiles, of a quarter and three quarters, and two targets."""
    output = torch.tensor([0.0, 3.0], requires_grad=True)
    target, levels = torch.tensor([0.5, 2.0]), torch.tensor([0.25, 0.75])
    loss = quantile_huber(output, target, levels, kappa=1.0)
    # Of 0: errors 0.5 and 2, both above: 0.25 (0.125 + 1.5) / 2.
    # Of 3: errors -2.5 and -1, both below: 0.25 (2 + 0.5) / 2.
    assert loss.item() == pytest.approx(0.25 * 1.625 / 2 + 0.25 * 2.5 / 2)
    loss.backward()
    assert output.grad is not None
    # d: -weight x clip(error) / 2 each.
    assert output.grad.tolist() == pytest.approx([-0.25 * 1.5 / 2, 0.25 * 2 / 2])


def test_errors_count_by_the_side_they_are_on() -> None:
    """A low quantile is drawn down by targets below it more than up by those above."""
    for level, target, weight in ((0.1, 1.0, 0.1), (0.1, -1.0, 0.9), (0.9, 1.0, 0.9)):
        output = torch.zeros(1, requires_grad=True)
        loss = quantile_huber(output, torch.tensor([target]), torch.tensor([level]), kappa=0.0)
        loss.backward()
        assert loss.item() == pytest.approx(weight)
        assert output.grad is not None
        assert output.grad.item() == pytest.approx(-weight * target)


def test_a_small_kappa_is_plain_quantile_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    output, target = (torch.randn(6, 8, generator=generator) for _ in range(2))
    levels = quantile(8).levels
    plain = quantile_huber(output, target, levels, kappa=0.0)
    torch.testing.assert_close(
        quantile_huber(output, target, levels, kappa=1e-5), plain, rtol=0, atol=1e-4
    )
    brute = [
        sum(
            abs(level - (y < theta)) * abs(y - theta) / 8
            for level, theta in zip(levels.tolist(), thetas, strict=True)
            for y in ys
        )
        for thetas, ys in zip(output.tolist(), target.tolist(), strict=True)
    ]
    torch.testing.assert_close(plain, torch.tensor(brute))


def test_a_large_kappa_is_half_the_square() -> None:
    """... of each error, over kappa."""
    output, target = torch.tensor([0.0, 1.0]), torch.tensor([-1.0, 4.0])
    loss = quantile_huber(output, target, torch.tensor([0.25, 0.75]), kappa=100.0)
    expected = (0.75 * 1 + 0.25 * 16 + 0.25 * 4 + 0.75 * 9) / 2 / 2 / 100
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(("kappa", "tolerance"), [(0.0, 0.03), (0.1, 0.06)])
def test_quantile_regression_finds_the_quantiles_of_a_distribution(
    kappa: float, tolerance: float
) -> None:
    """An exponential one, whose quantiles are -log(1 - tau)."""
    levels = quantile(8).levels
    samples = -torch.log1p(-(torch.arange(512) + 0.5) / 512)
    output = torch.zeros(8, requires_grad=True)
    for rate in (0.5, 0.1, 0.02):
        for _ in range(150):
            (gradient,) = torch.autograd.grad(
                quantile_huber(output, samples, levels, kappa=kappa), output
            )
            output = (output - rate * gradient).detach().requires_grad_()
    expected = -torch.log1p(-levels)
    torch.testing.assert_close(output.detach(), expected, rtol=0, atol=tolerance * 3)
    assert (output - expected).abs().mean().item() < tolerance


def test_levels_are_the_middles_of_equal_shares() -> None:
    assert quantile(4).levels.tolist() == [0.125, 0.375, 0.625, 0.875]
    assert "levels" not in quantile(4).state_dict()


def test_quantile_value_target_and_error_by_hand() -> None:
    made = quantile(2)
    later = torch.tensor([[1.0, 3.0], [5.0, 5.0]])
    target = made.target(torch.tensor([10.0, 10.0]), torch.tensor([0.5, 0.0]), later, None)
    assert target.tolist() == [[10.5, 11.5], [10.0, 10.0]]
    assert made.value(later).tolist() == [2.0, 5.0]
    assert made.error(later, target).tolist() == [9.0, 5.0]


def test_quantile_target_of_scaled_values_is_moved_in_units_of_return() -> None:
    made, scale = quantile(2), Rescaling(eps=1e-2)
    later = torch.tensor([[-4.0, 2.5]])
    target = made.target(torch.tensor([3.0]), torch.tensor([0.9]), later, scale)
    torch.testing.assert_close(scale.inverse(target), 3 + 0.9 * scale.inverse(later))


@pytest.mark.parametrize("make", [c51, quantile])
def test_distributions_are_not_fitted_to_returns(make: Any) -> None:
    made = make()
    assert not made.fits_returns
    assert not made.is_scalar


@pytest.mark.parametrize("make", [c51, quantile])
def test_targets_pass_no_gradient(make: Any) -> None:
    made, summary = make(), torch.randn(3, 5)
    assert not made.target(torch.zeros(3), torch.ones(3), made(summary), None).requires_grad
