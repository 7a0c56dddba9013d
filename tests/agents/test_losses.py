"""Losses by tables of two elements: value, sign of the gradient, and that masked steps never count."""

import math

import pytest
import torch

from agents.losses import (
    approximate_kl,
    clipped_surrogate,
    explained_variance,
    masked_mean,
    normalized_advantages,
)

VALID = torch.tensor([1.0, 0.0, 1.0])
POISON = [1e9, -1e9, math.nan, math.inf]


def test_masked_mean_counts_valid_steps_only() -> None:
    values = torch.tensor([1.0, 100.0, 5.0], requires_grad=True)
    mean = masked_mean(values, VALID)
    assert mean.item() == 3.0  # (1 + 5) / 2
    mean.backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0.0, 0.5]


def test_masked_mean_of_nothing_is_zero() -> None:
    assert masked_mean(torch.tensor([3.0, math.nan]), torch.zeros(2)).item() == 0


@pytest.mark.parametrize("poison", POISON)
def test_masked_steps_never_change_anything(poison: float) -> None:
    clean, filled = torch.tensor([1.0, 7.0, 5.0]), torch.tensor([1.0, poison, 5.0])
    other = torch.tensor([2.0, poison, 3.0])
    assert masked_mean(filled, VALID) == masked_mean(clean, VALID)
    kept = VALID > 0
    found = normalized_advantages(filled, VALID)[kept]
    assert torch.equal(found, normalized_advantages(clean, VALID)[kept])
    expected = explained_variance(torch.tensor([2.0, 0.0, 3.0]), clean, VALID)
    assert explained_variance(other, filled, VALID) == expected


@pytest.mark.parametrize("poison", POISON)
def test_masked_steps_get_no_gradient(poison: float) -> None:
    values = torch.tensor([1.0, poison, 5.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(masked_mean(values, VALID), values)
    assert gradient.tolist() == [0.5, 0.0, 0.5]


def test_normalized_advantages_by_hand() -> None:
    found = normalized_advantages(torch.tensor([1.0, 100.0, 5.0]), VALID)
    # Mean 3, deviation sqrt(((1 - 3)^2 + (5 - 3)^2) / 2) = 2.
    torch.testing.assert_close(found[VALID > 0], torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("valid", [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
def test_a_single_valid_step_or_none_stays_finite(valid: list[float]) -> None:
    found = normalized_advantages(torch.tensor([1.0, 2.0, 5.0]), torch.tensor(valid))
    assert found.isfinite().all()
    assert found[1].item() == 0 or not valid[1]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.0, -2.0, 2.0, 2.0),
        (1.5, 2.0, -2.4, 0.0),  # -(1.2 * 2): good and taken far enough
        (0.5, 2.0, -1.0, -2.0),  # -(.5 * 2): good and made rarer, may come back
        (1.5, -2.0, 3.0, 2.0),  # 1.5 * 2: bad and made likelier, must come back
        (0.5, -2.0, 1.6, 0.0),  # .8 * 2: bad and made rare enough
    ],
)
def test_clipped_surrogate_by_hand(ratio, advantage, loss, slope) -> None:
    ratios = torch.tensor([ratio], requires_grad=True)
    found = clipped_surrogate(ratios, torch.tensor([advantage]), torch.tensor(0.2))
    assert found.item() == pytest.approx(loss)
    found.sum().backward()
    assert ratios.grad is not None
    assert ratios.grad.item() == pytest.approx(slope)


def test_approximate_kl_by_hand() -> None:
    log_ratio = torch.tensor([0.0, math.log(2), math.log(0.5)])
    # (2 - 1) - log 2, (.5 - 1) + log 2
    expected = torch.tensor([0.0, 1 - math.log(2), math.log(2) - 0.5])
    torch.testing.assert_close(approximate_kl(log_ratio), expected)
    tiny = approximate_kl(torch.linspace(-1e-3, 1e-3, 1001))
    assert (tiny >= 0).all()
    assert tiny.max().item() == pytest.approx(0.5e-6, rel=1e-2)  # x^2 / 2: not lost in rounding


def test_approximate_kl_estimates_the_divergence() -> None:
    old, new = (torch.tensor(logits).log_softmax(0) for logits in ([0.0, 1.0, 0.5], [0.3, 0.2, 1]))
    expected = (old.exp() * (old - new)).sum()
    estimate = (old.exp() * approximate_kl(new - old)).sum()
    torch.testing.assert_close(estimate, expected)


def test_explained_variance_of_perfect_constant_and_worse_values() -> None:
    returns, everything = torch.tensor([1.0, 2.0, 4.0]), torch.ones(3)
    assert explained_variance(returns, returns, everything).item() == 1
    # An error that is the same everywhere is a matter of the mean, not of the variance.
    assert explained_variance(returns + 5, returns, everything).item() == pytest.approx(1)
    constant = torch.full((3,), 7.0)
    assert explained_variance(constant, returns, everything).item() == pytest.approx(0)
    assert explained_variance(-returns, returns, everything).item() == pytest.approx(-3)  # 1 - 4
    # The arguments are not interchangeable: Var[r - 2r] / Var[r] = 1, but / Var[2r] = 1/4.
    assert explained_variance(2 * returns, returns, everything).item() == pytest.approx(0)
    assert explained_variance(returns, constant, everything).isnan()
