"""Sequences are windows of one environment; minibatches are a partition of them."""

import numpy as np
import pytest
import torch

from agents.learning.sequences import minibatches, to_sequences


def test_sequences_are_windows_of_one_environment() -> None:
    # The number at step t of environment b is 10 t + b.
    steps = 10 * torch.arange(6)[:, None] + torch.arange(2)
    found = to_sequences(steps, 3)
    assert found.T.tolist() == [[0, 10, 20], [1, 11, 21], [30, 40, 50], [31, 41, 51]]


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_sequence_number_tells_window_and_environment(length: int) -> None:
    steps = torch.stack(torch.meshgrid(torch.arange(6), torch.arange(4), indexing="ij"), dim=-1)
    found = to_sequences(steps, length)
    assert found.shape == (length, 6 // length * 4, 2)
    for index in range(found.shape[1]):
        window, environment = divmod(index, 4)
        assert found[:, index, 0].tolist() == list(range(window * length, (window + 1) * length))
        assert set(found[:, index, 1].tolist()) == {environment}


def test_length_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="sequence_length=4 does not divide 6 steps"):
        to_sequences(torch.zeros(6, 2), 4)


@pytest.mark.parametrize(("total", "parts"), [(12, 3), (12, 12), (4, 1), (10, 4), (9, 4)])
def test_minibatches_are_an_even_random_partition(total: int, parts: int) -> None:
    found = list(minibatches(total, parts, np.random.default_rng(0)))
    sizes = [len(part) for part in found]
    assert len(found) == parts
    assert max(sizes) - min(sizes) <= 1
    order = torch.cat(found).tolist()
    assert sorted(order) == list(range(total))
    assert order != sorted(order)


def test_minibatches_differ_between_passes_and_follow_the_generator() -> None:
    generator = np.random.default_rng(0)
    first, second = (torch.cat(list(minibatches(12, 3, generator))).tolist() for _ in range(2))
    again = torch.cat(list(minibatches(12, 3, np.random.default_rng(0)))).tolist()
    assert first == again != second
