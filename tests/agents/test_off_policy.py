"""When gradient steps are due, what sequences are worth, and the schedule of exploration."""

import math

import pytest
import torch

from agents.learning.replay_learner import UpdateClock
from agents.learning.schedules import exploration_schedule
from agents.mathematics.losses import sequence_priorities


def make_clock(starts: int, ratio: float, *, interval: int | None = None) -> UpdateClock:
    return UpdateClock(learning_starts=starts, replay_ratio=ratio, target_update_interval=interval)


@pytest.mark.parametrize("num_envs", [1, 4, 7])
@pytest.mark.parametrize("ratio", [0.1, 0.25, 1.0, 2.0, 0.3])
def test_gradient_steps_follow_environment_steps(num_envs: int, ratio: float) -> None:
    clock = make_clock(0, ratio)
    due = [clock.advance(num_envs, is_ready=True)[0] for _ in range(100)]
    assert sum(due) == clock.updates == int(num_envs * 100 * ratio + 1e-6)
    assert max(due) - min(due) <= 1


@pytest.mark.parametrize(
    ("env_steps", "expected"),
    [
        (1, [10, 20, 30, 40]),
        (4, [12, 20, 32, 40]),  # where a multiple was reached, or passed
        (10, [10, 20, 30, 40]),
        (25, [25, 50, 75, 100]),  # several multiples are one copy
    ],
)
def test_copies_follow_environment_steps(env_steps: int, expected: list[int]) -> None:
    clock = make_clock(0, 0.25, interval=10)
    found = []
    for taken in range(env_steps, 101, env_steps):
        if clock.advance(env_steps, is_ready=True)[1]:
            found.append(taken)
    assert found[:4] == expected


def test_steps_before_learning_starts_are_not_made_up_for() -> None:
    clock = make_clock(1000, 0.5)
    due = [clock.advance(256, is_ready=True)[0] for _ in range(6)]
    assert due == [0, 0, 0, 128, 128, 128]


def test_learning_starts_with_the_step_that_is_named(build) -> None:
    """The round that reaches it takes its gradient steps, neither the one before nor after."""
    words = ["agent=dqn", "agent.learning_starts=512", "agent.replay_ratio=0.5"]
    clock = build(*words).agent.learner.clock
    found = []
    for _ in range(3):
        clock.advance(256, is_ready=True)
        found.append(clock.updates)
    assert found == [0, 128, 256]


def test_rounding_costs_no_gradient_step(build) -> None:
    assert math.floor(100 * 0.29) == 28  # of 29
    words = ["agent=dqn", "agent.learning_starts=0", "agent.replay_ratio=0.29"]
    clock = build(*words).agent.learner.clock
    clock.advance(100, is_ready=True)
    assert clock.updates == 29


def test_nor_are_those_before_there_is_anything_to_learn_from() -> None:
    clock = make_clock(0, 1.0)
    assert [clock.advance(5, is_ready=step > 2)[0] for step in range(5)] == [0, 0, 0, 5, 5]


def test_a_clock_that_goes_on_takes_the_steps_it_would_have_taken() -> None:
    clock = make_clock(50, 0.3, interval=20)
    expected = [clock.advance(7, is_ready=True) for _ in range(40)]
    clock = make_clock(50, 0.3, interval=20)
    found = []
    for _ in range(40):
        found.append(clock.advance(7, is_ready=True))
        saved = clock.state_dict()
        clock = make_clock(50, 0.3, interval=20)
        clock.load_state_dict(saved)
    assert found == expected


def test_sequences_weigh_their_largest_error_and_their_mean() -> None:
    errors = torch.tensor([[1.0, 5.0], [3.0, torch.nan], [1e9, 1.0]])
    valid = torch.tensor([[True, True], [True, False], [False, True]])
    found = sequence_priorities(errors, valid, max_share=0.9)
    assert found.tolist() == pytest.approx([0.9 * 3 + 0.1 * 2, 0.9 * 5 + 0.1 * 3])


def test_a_single_step_is_worth_its_error() -> None:
    errors = torch.tensor([[1.0, 0.0, torch.inf]])
    found = sequence_priorities(errors, torch.ones(1, 3, dtype=torch.bool), max_share=0.9)
    assert found.tolist() == pytest.approx([1, 0, 0])


def test_exploration_falls_and_stays() -> None:
    epsilon = exploration_schedule(1.0, 0.1, 0.5)
    assert [epsilon(p) for p in (0, 0.25, 0.5, 0.9, 1)] == pytest.approx([1, 0.55, 0.1, 0.1, 0.1])
    assert exploration_schedule(1.0, 0.1, 0.0)(0.0) == 0.1
