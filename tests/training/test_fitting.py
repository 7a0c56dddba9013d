"""Fitting: it ends by what is held out, keeps the best weights, goes on exactly."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from training.pretraining.fitting import Fitting, Objective
from training.pretraining.reconstruction import component_error
from training.runs.refusal import Refusal


class Line(Objective):
    """Fits `y = 2 x` with noise on the weights' inputs; what is held out may be told."""

    def __init__(self, held_out: Iterator[float] | None = None) -> None:
        self.module = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.2))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.fill_(0.5)
        self.size, self.items_per_batch = 10, 4
        self.told = held_out
        self.batches: list[list[int]] = []

    def loss(self, items: Tensor) -> Tensor:
        self.batches.append(items.tolist())
        inputs = items[:, None] / 10.0
        return (self.module(inputs) - 2 * inputs).square().mean()

    def measure(self) -> dict[str, float]:
        assert not self.module.training
        if self.told is not None:
            return {"held_out_loss": next(self.told)}
        inputs = torch.linspace(0, 1, 5)[:, None]
        return {"held_out_loss": float((self.module(inputs) - 2 * inputs).square().mean())}


def fit(objective: Objective, **limits: Any) -> Fitting:
    given = {"epochs": 6, "patience": 3, "learning_rate": 0.05, **limits}
    objective.options = OmegaConf.create(given)
    fitting = Fitting(objective, seed=1)
    for _ in fitting.epochs(lambda: None):
        pass
    return fitting


def test_every_item_is_drawn_once_an_epoch_in_another_order() -> None:
    objective = Line()
    fit(objective, epochs=2)
    first, second = objective.batches[:3], objective.batches[3:]
    assert [len(batch) for batch in first] == [4, 4, 2]
    for batches in (first, second):
        assert sorted(item for batch in batches for item in batch) == list(range(10))
    assert first != second


@pytest.mark.parametrize(
    ("held_out", "epochs", "best"),
    [
        ([9, 8, 7, 6, 5, 4, 3], 6, 6),  # better to the end
        ([9, 5, 6, 7, 8], 4, 1),  # three epochs without getting better
        ([9, 5, 6, 7, 4, 5, 5], 6, 4),
        ([1, 5, 6, 7], 3, 0),  # as it was drawn
    ],
)
def test_it_ends_by_what_is_held_out(held_out, epochs, best) -> None:
    objective = Line(iter(map(float, held_out)))
    fitting = fit(objective)
    assert (fitting.epoch, fitting.best_epoch) == (epochs, best)
    assert fitting.best_measures["held_out_loss"] == held_out[best]


def test_the_best_weights_are_kept() -> None:
    objective, shorter = Line(iter([9.0, 8.0, 1.0, 5.0, 5.0, 5.0])), Line()
    fitting = fit(objective)
    fit(shorter, epochs=2)
    fitting.load_best()
    for name, tensor in objective.module.state_dict().items():
        assert torch.equal(tensor, shorter.module.state_dict()[name])


@pytest.mark.parametrize("after", [0, 1, 3])
def test_it_goes_on_exactly(after: int) -> None:
    """Weights, moments and dropout's draws: six epochs are `after` epochs and the rest."""
    whole, first, second = Line(), Line(), Line()
    expected = fit(whole, patience=9)
    first.options = second.options = whole.options
    begun = Fitting(first, seed=1)
    for _ in begun.epochs(lambda: None):
        if begun.epoch == after:
            break
    tensors, state = begun.state_dict()
    torch.manual_seed(5)  # global randomness has no part in it
    ended = Fitting(second, seed=1)
    ended.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, state)
    for _ in ended.epochs(lambda: None):
        pass
    assert second.batches == whole.batches[3 * after :]
    for name, tensor in expected.state_dict()[0].items():
        assert torch.equal(ended.state_dict()[0][name], tensor), name
    assert ended.state_dict()[1] == expected.state_dict()[1]


def test_no_number_ends_it() -> None:
    with pytest.raises(Refusal, match="held-out loss is nan after 1 epochs"):
        fit(Line(iter([1.0, float("nan")])))


# ---- principal components


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    generator = torch.Generator().manual_seed(0)
    learnt = torch.randn(60, 7, generator=generator) @ torch.randn(7, 7, generator=generator) + 3.0
    held = learnt[:20] + 0.1 * torch.randn(20, 7, generator=generator)

    def pieces(rows: Tensor) -> Any:
        return rows.split(9)

    mean = learnt.double().mean(0)
    _, _, directions = torch.linalg.svd(learnt.double() - mean, full_matrices=False)
    for size in (1, 3, 7):
        kept = (held.double() - mean) @ directions[:size].T @ directions[:size]
        expected = float((held.double() - mean - kept).square().sum(1).mean())
        found = component_error(pieces(learnt), pieces(held), size)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)
