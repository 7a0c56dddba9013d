"""Prioritised drawing: frequencies, weights, and priorities that come too late."""

from typing import Any

import numpy as np
import pytest
import torch

from agents.replay.replay import Replay
from agents.replay.samplers import PrioritizedSampler, Sampler, UniformSampler
from tests.agents.streams import Stream

DRAWS = 50_000
# Chi-square quantiles at 1 in 10,000 by degrees of freedom.
CRITICAL = {3: 21.1, 7: 29.9}


def filled(
    sampler: Sampler, steps: int = 4, num_envs: int = 1, **changed: Any
) -> tuple[Replay, Stream]:
    settings: dict[str, Any] = {"buffer_size": 4 * num_envs, **changed}
    stream = Stream(num_envs, end=0.0)
    replay = Replay(
        stream.layout(),
        num_envs=num_envs,
        window_length=1,
        stride=1,
        valid_step=0,
        state_horizon=1,
        sampler=sampler,
        **settings,
    )
    for _ in range(steps):
        replay.add(stream.collect(1)[0], None)
    return replay, stream


def frequencies(replay: Replay, *, draws: int = DRAWS, batch_size: int = 100) -> np.ndarray:
    generator = np.random.default_rng(0)
    starts = [
        replay.sample(batch_size, generator, importance_exponent=0.0).starts
        for _ in range(draws // batch_size)
    ]
    return np.bincount(np.concatenate(starts), minlength=4)


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    expected = probabilities * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("sampler", [UniformSampler(), PrioritizedSampler(priority_exponent=0.0)])
def test_windows_are_drawn_alike(sampler: Sampler) -> None:
    replay, _ = filled(sampler)
    replay.update(np.arange(4), torch.tensor([1.0, 2.0, 3.0, 4.0]))  # of no effect
    assert chi_square(frequencies(replay), np.full(4, 0.25)) < CRITICAL[3]


@pytest.mark.parametrize("sampler", [UniformSampler(), PrioritizedSampler(priority_exponent=0.0)])
def test_windows_are_drawn_alike_where_some_cannot_be(sampler: Sampler) -> None:
    replay, _ = filled(sampler, steps=0, buffer_size=12)
    stream = Stream(1, seed=3, end=0.4)
    replay.add(stream.collect(12)[0], None)
    valid = np.flatnonzero(~np.array(stream.log["is_first"])[1:, 0])
    assert len(valid) == replay.num_windows == 8
    counts = frequencies(replay, draws=20_000)
    assert chi_square(counts[valid], np.full(8, 1 / 8)) < CRITICAL[7]
    assert counts.sum() == counts[valid].sum()


def test_the_only_window_that_can_be_drawn_is_found() -> None:
    replay, _ = filled(UniformSampler(), steps=0, buffer_size=5000)
    trajectory = Stream(1, end=0.0).collect(5000)[0]
    trajectory.is_first[:] = True
    trajectory.is_first[1235] = False
    replay.add(trajectory, None)
    assert replay.num_windows == 1
    sample = replay.sample(9, np.random.default_rng(0), importance_exponent=0.0)
    assert sample.starts.tolist() == [1234] * 9


@pytest.mark.parametrize("batch_size", [1, 100])  # a batch is stratified
def test_frequencies_and_weights_are_those_of_the_formula(batch_size: int) -> None:
    replay, _ = filled(PrioritizedSampler(priority_exponent=0.6))
    priorities = np.array([0.5, 4.0, 1.0, 2.0])
    replay.update(np.array([3, 0, 2, 1]), torch.from_numpy(priorities[[3, 0, 2, 1]]).float())
    probabilities = priorities**0.6 / (priorities**0.6).sum()
    draws = DRAWS if batch_size > 1 else 2_000
    counts = frequencies(replay, draws=draws, batch_size=batch_size)
    assert chi_square(counts, probabilities) < CRITICAL[3]
    sample = replay.sample(64, np.random.default_rng(1), importance_exponent=0.4)
    expected = (4 * probabilities[sample.starts]) ** -0.4
    np.testing.assert_allclose(sample.weights.numpy(), expected / expected.max(), rtol=1e-5)
    assert set(sample.starts.tolist()) == {0, 1, 2, 3}
    fully = replay.sample(64, np.random.default_rng(1), importance_exponent=1.0)
    expected = 1 / probabilities[fully.starts]
    np.testing.assert_allclose(fully.weights.numpy(), expected / expected.max(), rtol=1e-5)


def test_uniform_draws_have_no_weights() -> None:
    replay, _ = filled(UniformSampler())
    sample = replay.sample(7, np.random.default_rng(1), importance_exponent=0.4)
    assert sample.weights is None


def test_new_windows_have_the_largest_priority_there_was() -> None:
    replay, stream = filled(PrioritizedSampler(priority_exponent=1.0), steps=3)
    replay.update(np.arange(3), torch.tensor([1.0, 7.0, 2.0]))
    replay.update(np.arange(3), torch.tensor([1.0, 3.0, 2.0]))
    replay.add(stream.collect(1)[0], None)
    counts = frequencies(replay)
    assert chi_square(counts, np.array([1, 3, 2, 7]) / 13) < CRITICAL[3]


def test_windows_on_a_stride_take_the_priorities_that_are_theirs() -> None:
    """Weights of exponent 1 are inverse priorities, the largest 1."""
    stream = Stream(2, end=0.0)
    replay = Replay(
        stream.layout(),
        buffer_size=32,
        num_envs=2,
        window_length=4,
        stride=4,
        valid_step=None,
        state_horizon=4,
        sampler=PrioritizedSampler(priority_exponent=1.0),
    )
    for _ in range(4):
        replay.add(stream.collect(4)[0], None)
    starts = np.array([step * 2 + environment for step in (0, 4, 8, 12) for environment in (0, 1)])
    replay.update(starts, torch.arange(1.0, 9.0))
    sample = replay.sample(400, np.random.default_rng(0), importance_exponent=1.0)
    assert set(sample.starts.tolist()) == set(starts.tolist())
    priorities = 1 + np.searchsorted(starts, sample.starts)
    np.testing.assert_allclose(sample.weights.numpy(), 1 / priorities, rtol=1e-5)


def test_windows_that_were_overwritten_take_no_priority() -> None:
    replay, stream = filled(PrioritizedSampler(priority_exponent=1.0))
    drawn = np.arange(4)
    replay.add(stream.collect(2)[0], None)  # in the place of 0 and 1
    replay.update(drawn, torch.tensor([1000.0, 1000.0, 2.0, 1.0]))
    generator = np.random.default_rng(0)
    sample = replay.sample(6000, generator, importance_exponent=0.0)
    counts = np.bincount(sample.starts, minlength=6)
    # New windows still have 1: the largest there was then. None of the 1000 counts as one.
    np.testing.assert_allclose(counts / 6000, np.array([0, 0, 2, 1, 1, 1]) / 5, atol=1e-3)
    replay.add(stream.collect(1)[0], None)
    sample = replay.sample(6000, generator, importance_exponent=0.0)
    np.testing.assert_allclose(np.bincount(sample.starts)[-1] / 6000, 2 / 5, atol=1e-3)


def test_priorities_that_are_no_numbers_change_nothing() -> None:
    replay, _ = filled(PrioritizedSampler(priority_exponent=0.5))
    replay.update(np.arange(4), torch.tensor([1.0, 4.0, 9.0, 16.0]))
    replay.update(np.arange(4), torch.tensor([torch.nan, torch.inf, 9.0, -torch.inf]))
    replay.update(np.array([2]), torch.tensor([torch.nan]))
    counts = frequencies(replay)
    assert chi_square(counts, np.array([1, 2, 3, 4]) / 10) < CRITICAL[3]


def test_a_priority_of_nothing_can_still_be_drawn() -> None:
    replay, _ = filled(PrioritizedSampler(priority_exponent=0.5))
    replay.update(np.arange(4), torch.zeros(4))
    assert replay.num_windows == 4
    assert (frequencies(replay, draws=1000) > 0).all()
