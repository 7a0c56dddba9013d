"""When the next things of a run are due."""

import math

import pytest

from training.runs.progression import Due


def test_nothing_is_due_before_the_next_multiple_of_any_interval() -> None:
    due = Due({"evaluation": 100, "checkpoint": 0, "tracking": 30})
    assert due.next == 30
    assert not due("tracking", 29)
    assert due("tracking", 30)
    assert not due("evaluation", 99)
    due.mark("tracking", 95)  # passed three multiples at once
    assert due.next == 100
    assert due("evaluation", 100)
    assert not due("checkpoint", 10**9)
    due.mark("evaluation", 100)
    assert due.next == 120
    assert Due({"evaluation": 0, "checkpoint": 0, "tracking": 0}).next == math.inf


@pytest.mark.parametrize(("tracking", "following"), [(30, 60), (50, 100)], ids=["kept", "changed"])
def test_what_was_due_stays_due_and_a_changed_interval_counts_from_here(
    tracking: int, following: int
) -> None:
    due = Due({"evaluation": 100, "checkpoint": 0, "tracking": 30})
    due.mark("tracking", 40)
    again = Due({"evaluation": 100, "checkpoint": 0, "tracking": tracking})
    again.load_state_dict(due.state_dict(), 90)
    assert again("tracking", 90) == (tracking == 30)
    assert again.next == following
