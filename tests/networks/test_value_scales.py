"""Rescaled values: what they are by hand, and that they can be undone."""

import math

import pytest
import torch

from networks.heads.values import Rescaling


def test_rescaling_by_hand() -> None:
    found = Rescaling(eps=0.1)(torch.tensor([3.0, -8.0, 0.0])).tolist()
    # sqrt(3 + 1) - 1 + 0.3; -(sqrt(8 + 1) - 1) - 0.8
    assert found == pytest.approx([1.3, -2.8, 0.0])


@pytest.mark.parametrize("eps", [1e-3, 1e-2])
def test_rescaling_can_be_undone(eps: float) -> None:
    """To single precision, near zero too, where a plain formula has three digits."""
    scale = Rescaling(eps=eps)
    sizes = torch.logspace(-6, 6, 121)
    values = torch.cat([-sizes, torch.zeros(1), sizes])
    torch.testing.assert_close(scale.inverse(scale(values)), values, rtol=2e-6, atol=5e-7)
    torch.testing.assert_close(scale(scale.inverse(values)), values, rtol=2e-6, atol=5e-7)
    assert scale(torch.zeros(1)).item() == scale.inverse(torch.zeros(1)).item() == 0.0


def test_rescaling_agrees_with_the_paper_in_double_precision() -> None:
    eps, values = 1e-3, torch.linspace(-50, 50, 41, dtype=torch.float64)
    scale = Rescaling(eps=eps)
    for value, squashed, undone in zip(
        values.tolist(), scale(values).tolist(), scale.inverse(values).tolist(), strict=True
    ):
        sign = (value > 0) - (value < 0)
        assert squashed == pytest.approx(sign * (math.sqrt(abs(value) + 1) - 1) + eps * value)
        root = (math.sqrt(1 + 4 * eps * (abs(value) + 1 + eps)) - 1) / (2 * eps)
        assert undone == pytest.approx(sign * (root**2 - 1))
