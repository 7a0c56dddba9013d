"""Fitting: it ends by what is held out, keeps the best weights, goes on exactly."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from training.pretraining.fitting import Fitting
from training.pretraining.reconstruction import component_error
from training.runs.refusal import Refusal
from training.stream.episodes import Abandoned


class Line(Fitting):
    """Fits `y = 2 x` with noise on the weights' inputs; what is held out may be told."""

    key = "fit"

    def __init__(self, held_out: Iterator[float] | None = None, **limits: Any) -> None:
        module = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.2))
        for parameter in module.parameters():
            parameter.data.fill_(0.5)
        options = {"epochs": 6, "patience": 3, "learning_rate": 0.05, "batch_size": 4, **limits}
        agent: Any = SimpleNamespace(device=torch.device("cpu"))
        super().__init__(OmegaConf.create({"fit": options, "seed": 1}), agent, module, length=1)
        self.learnt, self.held_out = torch.arange(10), torch.arange(5)
        self.told = held_out
        self.batches: list[list[int]] = []

    def loss(self, numbers: Tensor) -> Tensor:
        self.batches.append(numbers.tolist())
        inputs = numbers[:, None] / 10.0
        return (self.module(inputs) - 2 * inputs).square().mean()

    def measure(self, numbers: Tensor) -> dict[str, Tensor]:
        assert not self.module.training
        if self.told is not None:
            return {"held_out_loss": torch.full((5,), next(self.told))}
        inputs = numbers[:, None] / 4.0
        return {"held_out_loss": (self.module(inputs) - 2 * inputs).square().flatten()}

    def weights(self) -> dict[str, Tensor]:
        return {}


def fit(fitting: Fitting) -> Fitting:
    for _ in fitting.epochs(lambda: False):
        pass
    return fitting


def test_every_window_is_drawn_once_an_epoch_in_another_order() -> None:
    line = Line(epochs=2)
    fit(line)
    first, second = line.batches[:3], line.batches[3:]
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
        ([9, 5, 5, 5, 5], 4, 1),  # as good is not better
    ],
)
def test_it_ends_by_what_is_held_out(held_out, epochs, best) -> None:
    fitting = fit(Line(iter(map(float, held_out))))
    assert (fitting.epoch, fitting.best_epoch) == (epochs, best)
    assert [measures["held_out_loss"] for measures in fitting.history] == held_out


def test_the_best_weights_are_kept() -> None:
    fitting, shorter = Line(iter([9.0, 8.0, 1.0, 5.0, 5.0, 5.0])), Line(epochs=2)
    fit(fitting)
    for _ in shorter.epochs(lambda: False):
        last = {name: tensor.clone() for name, tensor in shorter.module.state_dict().items()}
    for name, tensor in fitting.module.state_dict().items():
        assert torch.equal(tensor, last[name])


@pytest.mark.parametrize("after", [0, 1, 3])
def test_it_goes_on_exactly(after: int) -> None:
    """Weights, moments and dropout's draws: six epochs are `after` epochs and the rest."""
    whole, first, second = Line(patience=9), Line(patience=9), Line(patience=9)
    fit(whole)
    for _ in first.epochs(lambda: False):
        if first.epoch == after:
            break
    torch.manual_seed(5)  # global randomness has no part in it
    saved = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    second.load_state_dict(saved, first.history)
    fit(second)
    assert second.batches == whole.batches[3 * after :]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name
    assert second.history == whole.history


def test_an_epoch_can_be_abandoned() -> None:
    line = Line()
    with pytest.raises(Abandoned):
        for _ in line.epochs(lambda: len(line.batches) == 4):
            pass
    assert line.epoch == 1


def test_no_number_ends_it() -> None:
    with pytest.raises(Refusal, match="held-out loss is nan after 1 epochs"):
        fit(Line(iter([1.0, math.nan])))


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
