"""Losses by small tables: value, sign of the gradient, and that masked steps never count."""

import math

import pytest
import torch
from torch import Tensor

from agents.mathematics.losses import (
    approximate_kl,
    clipped_surrogate,
    explained_variance,
    masked_mean,
    normalized_advantages,
)

POISON = [1e9, -1e9, math.nan, math.inf]


def column(*numbers: float) -> Tensor:
    """Steps of one environment, `[T, 1]`."""
    return torch.tensor(numbers)[:, None]


VALID = column(True, False, True)


def test_masked_mean_counts_valid_steps_only() -> None:
    values = column(1.0, 100.0, 5.0).requires_grad_()
    mean = masked_mean(values, VALID)
    assert mean.item() == 3.0  # (1 + 5) / 2
    mean.backward()
    assert values.grad is not None
    assert values.grad.T.tolist() == [[0.5, 0.0, 0.5]]


def test_masked_mean_takes_several_quantities_at_once() -> None:
    values = torch.stack([column(1.0, math.nan, 5.0), column(2.0, 3.0, 3.0)])
    assert masked_mean(values, VALID).tolist() == [3.0, 2.5]


def test_masked_mean_of_nothing_is_zero() -> None:
    assert masked_mean(column(3.0, math.nan), column(False, False)).item() == 0


@pytest.mark.parametrize("poison", POISON)
def test_masked_steps_never_change_anything(poison: float) -> None:
    clean, filled = column(1.0, 7.0, 5.0), column(1.0, poison, 5.0)
    other = column(2.0, poison, 3.0)
    assert masked_mean(filled, VALID) == masked_mean(clean, VALID)
    found = normalized_advantages(filled, VALID)[VALID]
    assert torch.equal(found, normalized_advantages(clean, VALID)[VALID])
    expected = explained_variance(column(2.0, 0.0, 3.0), clean, VALID)
    assert explained_variance(other, filled, VALID) == expected


@pytest.mark.parametrize("poison", POISON)
def test_masked_steps_get_no_gradient(poison: float) -> None:
    values = column(1.0, poison, 5.0).requires_grad_()
    (gradient,) = torch.autograd.grad(masked_mean(values, VALID), values)
    assert gradient.T.tolist() == [[0.5, 0.0, 0.5]]


def test_normalized_advantages_by_hand() -> None:
    found = normalized_advantages(column(1.0, 100.0, 5.0), VALID)
    # Mean 3, deviation sqrt(((1 - 3)^2 + (5 - 3)^2) / 2) = 2.
    torch.testing.assert_close(found[VALID], torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("has_one", [True, False])
def test_a_single_valid_step_or_none_stays_finite(has_one: bool) -> None:
    found = normalized_advantages(column(1.0, 2.0, 5.0), column(False, has_one, False))
    assert found.isfinite().all()
    assert not has_one or found[1].item() == 0


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
    returns, everything = column(1.0, 2.0, 4.0), column(True, True, True)
    assert explained_variance(returns, returns, everything).item() == 1
    # An error that is the same everywhere is a matter of the mean, not of the variance.
    assert explained_variance(returns + 5, returns, everything).item() == pytest.approx(1)
    constant = column(7.0, 7.0, 7.0)
    assert explained_variance(constant, returns, everything).item() == pytest.approx(0, abs=1e-6)
    assert explained_variance(-returns, returns, everything).item() == pytest.approx(-3)  # 1 - 4
    # The arguments are not interchangeable: Var[r - 2r] / Var[r] = 1, but / Var[2r] = 1/4.
    assert explained_variance(2 * returns, returns, everything).item() == pytest.approx(0, abs=1e-6)
    assert explained_variance(returns, constant, everything).isnan()
