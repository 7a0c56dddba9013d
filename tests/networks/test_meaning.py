"""What it costs to say an observation wrongly, by what its numbers mean."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from networks.autoencoding.reconstruction import Meaning
from networks.inputs import make_input

LOG_2, LOG_3 = math.log(2), math.log(3)


def meaning(space: spaces.Space) -> Meaning:
    return Meaning.of(make_input(space))


def rows_of(space: spaces.Space, count: int) -> Tensor:
    space.seed(0)
    return make_input(space)(torch.as_tensor(np.stack([space.sample() for _ in range(count)])))


NUMBERS = spaces.Box(-1.0, 1.0, (2, 2))
IMAGE = spaces.Box(0, 255, (5, 6, 3), np.uint8)
BITS = spaces.MultiBinary((5, 5, 2))
CODE = spaces.Discrete(3)
CODES = spaces.MultiDiscrete([2, 3, 4])
GRID = spaces.MultiDiscrete(np.tile([11, 6, 3], (7, 7, 1)))
SPACES = {
    "numbers": NUMBERS,
    "image": IMAGE,
    "bits": BITS,
    "code": CODE,
    "codes": CODES,
    "grid": GRID,
}


@pytest.fixture(params=SPACES.values(), ids=SPACES)
def space(request) -> spaces.Space:
    return request.param


@pytest.mark.parametrize(
    ("space", "count"), [(NUMBERS, 4), (IMAGE, 90), (BITS, 50), (CODE, 1), (CODES, 3), (GRID, 147)]
)
def test_what_is_counted(space, count: int) -> None:
    assert meaning(space).count == count


def test_squared_errors_of_numbers_and_intensities_by_hand() -> None:
    output, rows = (
        torch.tensor([[[1.0, 0.0], [2.0, 0.0]]]),
        torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]),
    )
    # (1 + 0 + 4 + 1) / 4
    assert meaning(NUMBERS).loss(output, rows).tolist() == [1.5]
    half = torch.full((1, 5, 6, 3), 0.5)
    assert meaning(IMAGE).loss(half, torch.zeros_like(half)).tolist() == [0.25]


def test_cross_entropy_of_truth_values_by_hand() -> None:
    rows = torch.tensor([[1.0, 0.0]])
    output = torch.tensor([[LOG_3, 0.0]])  # probabilities 3/4 and 1/2
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert meaning(spaces.MultiBinary(2)).loss(output, rows).item() == pytest.approx(expected)


def test_cross_entropy_of_identifiers_by_hand() -> None:
    rows = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    output = torch.tensor([[LOG_3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, LOG_3]])
    # 1/4 of the first, 1/3 of the second, 3/6 of the third
    expected = (math.log(4) + LOG_3 + LOG_2) / 3
    assert meaning(CODES).loss(output, rows).item() == pytest.approx(expected)


def test_identifiers_of_a_grid_are_told_apart_by_position() -> None:
    grid = spaces.MultiDiscrete(np.full((5, 5), 2))
    rows = rows_of(grid, 3)
    output = (20.0 * rows - 10.0).clone()
    assert meaning(grid).loss(output, rows).max() < 1e-6
    output[1, 2, 3] = output[1, 2, 3].flip(0)  # one of 25 is wrong, by 20 nats
    torch.testing.assert_close(
        meaning(grid).loss(output, rows), torch.tensor([0.0, 20.0 / 25, 0.0]), atol=1e-5, rtol=1e-5
    )


def test_uneven_and_even_groups_agree() -> None:
    """The even ones are one table, the uneven ones are split: the same numbers."""
    rows, output = torch.eye(3)[torch.tensor([[0, 2], [1, 1]])].flatten(1), torch.randn(2, 6)
    even = Meaning(kind="identifiers", shape=(6,), groups=(3, 3))
    uneven = Meaning(kind="identifiers", shape=(7,), groups=(3, 3, 1))
    padded = [torch.cat([each, torch.ones(2, 1)], dim=1) for each in (output, rows)]
    torch.testing.assert_close(even.loss(output, rows), 1.5 * uneven.loss(*padded))
    torch.testing.assert_close(even.expectation(output), uneven.expectation(padded[0])[:, :6])


def test_expectations_are_what_the_loss_is_least_at(space) -> None:
    """A loss that a decoder fits must be least where the expectation is the observation."""
    it, rows = meaning(space), rows_of(space, 4)
    output = torch.zeros_like(rows).requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        it.loss(output, rows).sum().backward()
        optimizer.step()
    assert it.squared_error(output.detach(), rows).max() < 1e-3
    assert it.expectation(output).shape == rows.shape


def test_probabilities_add_up_by_identifier() -> None:
    expected = meaning(GRID).expectation(torch.randn(2, 7, 7, 20))
    for group in expected.split((11, 6, 3), dim=-1):
        torch.testing.assert_close(group.sum(-1), torch.ones(2, 7, 7))


def test_a_loss_means_the_same_at_any_size() -> None:
    for size in (5, 40):
        image = spaces.Box(0, 255, (size, size, 3), np.uint8)
        rows = torch.full((1, size, size, 3), 0.3)
        assert meaning(image).loss(torch.zeros_like(rows), rows).item() == pytest.approx(0.09)
        grid = spaces.MultiDiscrete(np.full((size, size), 4))
        codes = rows_of(grid, 1)
        assert meaning(grid).loss(torch.zeros_like(codes), codes).item() == pytest.approx(2 * LOG_2)


def test_half_precision_outputs_are_judged_in_float32(space) -> None:
    it, rows = meaning(space), rows_of(space, 2)
    output = torch.randn_like(rows).bfloat16()
    assert it.loss(output, rows).dtype == it.expectation(output).dtype == torch.float32
    torch.testing.assert_close(it.loss(output, rows), it.loss(output.float(), rows))
