"""Schedules at the points where they go wrong."""

import pytest

from agents.learning.schedules import schedule


@pytest.mark.parametrize(
    ("progress", "value"),
    [(0.0, 4.0), (0.25, 3.5), (0.5, 3.0), (1.0, 2.0), (1.5, 2.0), (-0.5, 4.0)],
)
def test_linear_runs_from_start_to_end_and_stays_there(progress: float, value: float) -> None:
    assert schedule("linear", 4.0, 2.0)(progress) == value


def test_constant_never_moves() -> None:
    assert {schedule("constant", 4.0, 2.0)(progress) for progress in (0.0, 0.5, 1.0)} == {4.0}


def test_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown schedule 'cosine'; use 'constant' or 'linear'"):
        schedule("cosine", 1.0, 0.0)
