"""Measures of activations, features and states: by hand, and against slower ways."""

import pytest
import torch
from torch import nn

from training.tracking.telemetry import (
    Activations,
    dormant_share,
    effective_rank,
    mean_norm,
    saturation,
)


def test_dormant_units_by_hand() -> None:
    # Means 1 and 50: what is below 0.025 and 1.25 is dormant, 1 + 2 of 8 units.
    layers = [torch.tensor([2.0, 1.99, 0.01, 0.0263]), torch.tensor([198.0, 1.0, 0.0, 1.3])]
    layers[0][3] = 0.03
    assert dormant_share(layers).item() == 3 / 8


def test_units_that_are_all_silent_are_dormant_and_equal_ones_are_not() -> None:
    assert dormant_share([torch.zeros(5)]).item() == 1.0
    assert dormant_share([torch.full((5,), 1e-6)]).item() == 0.0


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_effective_rank_counts_directions(shape: tuple[int, int]) -> None:
    left, _ = torch.linalg.qr(torch.randn(shape[0], 7))
    right, _ = torch.linalg.qr(torch.randn(shape[1], 7))

    def of(*values: float) -> float:
        padded = torch.zeros(7)
        padded[: len(values)] = torch.tensor(values)
        return effective_rank(left @ torch.diag(padded) @ right.T).item()

    assert of() == 0
    assert of(3) == 1
    assert of(1, 1, 1, 1, 1, 1, 1) == 7
    assert of(98, 1.1, 0.9) == 2  # 99.1 of 100
    assert of(98, 0.9, 1.1) == 2  # in falling order
    assert of(97, 1.1, 1, 0.9) == 3
    assert of(1000, 1) == 1


def test_effective_rank_agrees_with_singular_values() -> None:
    torch.manual_seed(0)
    features = torch.randn(200, 30) @ torch.diag(0.7 ** torch.arange(30.0)) @ torch.randn(30, 30)
    shares = torch.linalg.svdvals(features).cumsum(0)
    assert effective_rank(features).item() == int((shares < 0.99 * shares[-1]).sum()) + 1


def test_features_that_are_not_finite_have_no_rank() -> None:
    assert effective_rank(torch.tensor([[1.0, torch.nan], [0.0, 1.0]])).isnan()


def test_norms_and_saturation_by_hand() -> None:
    assert mean_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).item() == 3.0
    assert saturation(torch.tensor([[0.995, -0.995], [0.98, 0.0]])).item() == 0.5


def seen(module: nn.Module, *batches: torch.Tensor) -> list[torch.Tensor]:
    activations = Activations()
    for batch in batches:
        with activations.watching(module):
            module(batch)
    return activations.means()


def test_units_of_layers_and_maps_are_averaged_over_all_batches() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 5), nn.Tanh()
    )
    rows = torch.randn(10, 1, 3, 3)
    maps, units = seen(module, rows[:7], rows[7:])
    with torch.no_grad():
        expected = module[0](rows).relu()
        torch.testing.assert_close(maps, expected.mean((0, 2, 3)))
        torch.testing.assert_close(units, module(rows).abs().mean(0))


def test_a_layer_that_is_called_twice_is_two_layers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activation = nn.ReLU()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.activation(self.activation(rows) - 1)

    first, second = seen(Twice(), torch.tensor([[2.0, 0.5]]), torch.tensor([[4.0, -1.0]]))
    assert first.tolist() == [3.0, 0.25]
    assert second.tolist() == [2.0, 0.0]


def test_nothing_stays_behind() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=-1), nn.GELU())
    assert len(seen(module, torch.randn(3, 2))) == 1  # a softmax has no units of its own
    with pytest.raises(RuntimeError), Activations().watching(module):
        module(torch.randn(3, 5))
    assert not any(layer._forward_hooks for layer in module.modules())
