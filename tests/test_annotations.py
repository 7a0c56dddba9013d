"""The checks of annotations that all tests run under can fail, also at a later call."""

from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from agents.learning.gradient_step import Losses
from agents.mathematics.returns import lambda_returns
from tests.annotations import EVERY, FIRST, begin_test, checked


@checked
def repeated(rows: Float[Tensor, "T B"], times: int) -> Float[Tensor, "T B"]:
    return rows.repeat(1, times)


def test_arguments_and_results_are_checked_for_each_shape() -> None:
    for columns in (1, 2):
        rows = torch.ones(3, columns)
        assert repeated(rows, 1).shape == (3, columns)
        for _ in range(2):
            with pytest.raises(TypeCheckError, match="return value"):
                repeated(rows, 2)
            with pytest.raises(TypeCheckError, match="parameters"):
                repeated(rows[0], 1)
            with pytest.raises(TypeCheckError, match="parameters"):
                repeated(rows.int(), 1)


def test_the_first_calls_of_a_test_are_looked_at_and_some_later_ones() -> None:
    looked_at: list[bool] = []

    def call() -> None:
        looked_at.append(False)
        try:
            repeated(torch.ones(3, 2), 2)
        except TypeCheckError:
            looked_at[-1] = True

    for _ in range(FIRST + 2 * EVERY):
        call()
    assert all(looked_at[:FIRST])
    assert sum(looked_at[FIRST:]) == 2
    begin_test()
    call()
    assert looked_at[-1]


def test_a_function_that_is_defined_anew_is_checked_anew() -> None:
    def repeating(times: int) -> Any:
        @checked
        def repeat(rows: Float[Tensor, "T B"]) -> Float[Tensor, "T B"]:
            return rows.repeat(1, times)

        return repeat

    rows = torch.ones(3, 2)
    assert repeating(1)(rows).shape == (3, 2)
    with pytest.raises(TypeCheckError, match="return value"):
        repeating(2)(rows)


def test_what_passed_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("tests.annotations.checker", lambda function: lambda *v: seen.append(v[1]))
    function = checked(lambda value: None)
    again = [torch.zeros(2), 2, "a", [torch.zeros(2)], {"a": 2}]
    different = [torch.ones(2), 1, "a", [torch.ones(2)], {"a": 1}]
    different += [torch.ones(3), torch.ones(2).int(), 1.0, "b", [1], {"b": 1}, {"a": 1.0}]
    for value in [*different, *again]:
        function(value)
    assert [*map(id, seen)] == [*map(id, different)]


def test_functions_and_fields_of_the_library_are_checked() -> None:
    row = torch.zeros(3)
    with pytest.raises(TypeCheckError):
        lambda_returns(row, row, row.bool(), row.bool(), discount=1.0, gae_lambda=1.0)
    with pytest.raises(TypeCheckError):
        Losses({"value": 1.0}, {})  # type: ignore[dict-item]
