"""When gradient steps are due, what sequences are worth, and the schedule of exploration."""

import math

import pytest
import torch

from agents.exploration import exploration_schedule
from agents.off_policy import UpdateClock, sequence_priorities


@pytest.mark.parametrize("num_envs", [1, 4, 7])
@pytest.mark.parametrize("ratio", [0.1, 0.25, 1.0, 2.0, 0.3])
def test_gradient_steps_follow_environment_steps(num_envs: int, ratio: float) -> None:
    clock = UpdateClock(learning_starts=0, replay_ratio=ratio)
    numbers = [n for _ in range(100) for n in clock.advance(num_envs, is_ready=True)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == clock.updates == int(num_envs * 100 * ratio + 1e-6)


def test_steps_before_learning_starts_are_not_made_up_for() -> None:
    clock = UpdateClock(learning_starts=1000, replay_ratio=0.5)
    due = [len(clock.advance(256, is_ready=True)) for _ in range(6)]
    assert due == [0, 0, 0, 128, 128, 128]


def test_learning_starts_with_the_step_that_is_named(build) -> None:
    """The round that reaches it takes its gradient steps, neither the one before nor after."""
    clock = build("agent=dqn", "agent.learning_starts=512", "agent.replay_ratio=0.5").agent.clock
    found = []
    for _ in range(3):
        clock.advance(256, is_ready=True)
        found.append(clock.updates)
    assert found == [0, 128, 256]


def test_rounding_costs_no_gradient_step(build) -> None:
    assert math.floor(100 * 0.29) == 28  # of 29
    clock = build("agent=dqn", "agent.learning_starts=0", "agent.replay_ratio=0.29").agent.clock
    clock.advance(100, is_ready=True)
    assert clock.updates == 29


def test_nor_are_those_before_there_is_anything_to_learn_from() -> None:
    clock = UpdateClock(learning_starts=0, replay_ratio=1.0)
    assert [len(clock.advance(5, is_ready=step > 2)) for step in range(5)] == [0, 0, 0, 5, 5]


def test_a_clock_that_goes_on_takes_the_steps_it_would_have_taken() -> None:
    clock = UpdateClock(learning_starts=50, replay_ratio=0.3)
    expected = [len(clock.advance(7, is_ready=True)) for _ in range(40)]
    clock = UpdateClock(learning_starts=50, replay_ratio=0.3)
    found = []
    for _ in range(40):
        found.append(len(clock.advance(7, is_ready=True)))
        saved = clock.state_dict()
        clock = UpdateClock(learning_starts=50, replay_ratio=0.3)
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
