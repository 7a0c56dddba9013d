"""Extractors of the user's: their width is looked up, what does not fit is refused."""

import pytest
import torch
from torch import nn

from training.build import _output_size


class Net(nn.Module):
    def __init__(self, told: int) -> None:
        super().__init__()
        self.output_size = told
        self.layer = nn.Linear(4, 3)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layer(observations)


def test_the_width_is_what_comes_out() -> None:
    assert _output_size(nn.Linear(4, 3), (4,)) == _output_size(Net(3), (4,)) == 3


def test_looking_leaves_running_statistics_alone() -> None:
    norm = nn.BatchNorm1d(4)
    norm.running_mean.fill_(1.0)
    assert _output_size(norm, (4,)) == 4
    assert norm.running_mean.eq(1.0).all()
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Net(7), "output_size=7 and makes 3"),
        (nn.Linear(5, 3), "cannot read observations of shape"),
        (nn.Unflatten(1, (2, 2)), "rows of features"),
        (len, "no torch.nn.Module"),
    ],
)
def test_what_does_not_fit_is_refused(network, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _output_size(network, (4,))
