"""Running statistics against numpy over everything seen, reward scales against a table by hand."""

import math

import numpy as np
import pytest
import torch

from networks.normalization import (
    RewardClipping,
    RewardScaling,
    RunningNormalization,
)


def odd_batches(rows: np.ndarray) -> list[torch.Tensor]:
    """Cuts rows into pieces of very different sizes, one row and no row among them."""
    cuts = [0, 1, 1, 4, 333, 334, 20_000, 99_999]
    return [torch.from_numpy(part) for part in np.split(rows, cuts)]


def test_statistics_equal_numpy_on_everything_seen() -> None:
    random = np.random.default_rng(0)
    # Far from zero and small in scale, where naive sums of squares lose every digit; and drifting.
    rows = random.standard_normal((100_000, 3)) * [1e-2, 5.0, 1.0] + [1e3, -2.0, 0.0]
    rows[:, 2] += np.linspace(0, 50, len(rows))
    rows = rows.astype(np.float32)
    normalization = RunningNormalization((3,))
    for batch in odd_batches(rows):
        normalization.update(batch)
    exact = rows.astype(np.float64)
    assert normalization.count.item() == 100_000
    np.testing.assert_allclose(normalization.mean.numpy(), exact.mean(0), rtol=1e-10)
    np.testing.assert_allclose(normalization.variance.numpy(), exact.var(0), rtol=1e-6)
    found = normalization(torch.from_numpy(rows[:100])).numpy()
    expected = np.clip((exact[:100] - exact.mean(0)) / exact.std(0), -10, 10)
    np.testing.assert_allclose(found, expected, atol=0.01)  # float32 holds 1e3 to 6e-5


def test_starts_as_the_identity_within_the_cut() -> None:
    inputs = torch.tensor([[-3.0, 50.0], [-50.0, 0.25]])
    assert RunningNormalization((2,))(inputs).tolist() == [[-3, 10], [-10, 0.25]]


def test_forward_moves_nothing() -> None:
    normalization = RunningNormalization((2,))
    normalization.update(torch.randn(10, 2))
    before = {name: value.clone() for name, value in normalization.state_dict().items()}
    normalization.train()(torch.randn(100, 2))
    normalization.eval()(torch.randn(100, 2))
    for name, value in normalization.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e6])
def test_constant_dimension_comes_out_as_zero(constant: float) -> None:
    normalization = RunningNormalization((1,))
    for size in (1, 7, 1000, 3):
        normalization.update(torch.full((size, 1), constant))
    assert normalization(torch.full((2, 1), constant)).tolist() == [[0], [0]]


def test_mirror_equals_torch_and_follows_updates() -> None:
    normalization = RunningNormalization((3,))
    mirror = normalization.mirror()
    inputs = torch.randn(5, 3) * 20
    kept = inputs.clone()
    for _ in range(3):
        normalization.update(torch.randn(50, 3) * 3 + 1)
        np.testing.assert_array_equal(mirror(inputs.numpy()), normalization(inputs).numpy())
    assert torch.equal(inputs, kept)


def test_stacked_observations_have_statistics_of_their_own() -> None:
    normalization = RunningNormalization((2, 3))
    rows = torch.randn(100, 2, 3) + torch.arange(6.0).view(2, 3)
    normalization.update(rows)
    np.testing.assert_allclose(normalization.mean.numpy(), rows.double().mean(0).numpy())


def flags(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def scaled(
    scaling: RewardScaling, rewards: torch.Tensor, ended: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    scaling.observe(rewards, torch.zeros_like(ended[0]), ended, valid)
    return scaling(rewards)


def test_rewards_are_scaled_by_the_deviation_of_the_discounted_return() -> None:
    scaling = RewardScaling(num_envs=2, discount=0.5)
    rewards = torch.tensor([[1.0, 2.0], [2.0, 4.0], [1e9, 1e9], [4.0, 6.0]])
    ended = flags([0, 0], [1, 1], [0, 0], [0, 0])  # one by termination, one by truncation: alike
    valid = flags([1, 1], [1, 1], [0, 0], [1, 1])
    found = scaled(scaling, rewards, ended, valid)
    # Column 0: R = 1, .5 * 1 + 2 = 2.5, (cut), 4.  Column 1: 2, .5 * 2 + 4 = 5, (cut), 6.
    deviation = np.std([1.0, 2.5, 4.0, 2.0, 5.0, 6.0])
    np.testing.assert_allclose(found[valid], rewards[valid] / deviation, rtol=1e-6)
    assert scaling.accumulator.tolist() == [4, 6]
    assert scaling.statistics.count.item() == 6

    # The next trajectory goes on from there: column 0 ends at once, column 1 opens with a reset.
    rewards = torch.tensor([[2.0, 1e9], [1e9, 3.0]])
    scaled(scaling, rewards, flags([1, 0], [0, 0]), flags([1, 0], [0, 1]))
    # Column 0: .5 * 4 + 2 = 4, then cut.  Column 1: stands at 6, then .5 * 6 + 3 = 6.
    assert scaling.accumulator.tolist() == [0, 6]
    deviation = np.std([1.0, 2.5, 4.0, 2.0, 5.0, 6.0, 4.0, 6.0])
    assert math.sqrt(scaling.statistics.variance.item()) == pytest.approx(deviation)


def test_an_episode_that_begins_unannounced_leaves_nothing_either() -> None:
    scaling = RewardScaling(num_envs=2, discount=0.5)
    scaled(scaling, torch.tensor([[4.0, 4.0]]), flags([0, 0]), flags([1, 1]))
    rewards, nothing = torch.tensor([[1.0, 1.0]]), flags([0, 0])
    scaling.observe(rewards, torch.tensor([True, False]), nothing, ~nothing)
    assert scaling.accumulator.tolist() == [1, 3]


def test_an_episode_that_ends_with_the_trajectory_leaves_nothing() -> None:
    scaling = RewardScaling(num_envs=1, discount=0.9)
    scaled(scaling, torch.tensor([[5.0]]), flags([1]), flags([1]))
    assert scaling.accumulator.item() == 0


def test_scaled_rewards_are_cut_at_ten_and_not_shifted() -> None:
    scaling = RewardScaling(num_envs=1, discount=0.0)
    rewards = torch.cat([torch.ones(50), -torch.ones(50), torch.tensor([1e4])])[:, None]
    nothing = torch.zeros(101, 1, dtype=torch.bool)
    found = scaled(scaling, rewards, nothing, ~nothing)
    assert (found[:50] > 0).all()
    assert found.max().item() == pytest.approx(10, rel=0.01)
    scaling = RewardScaling(num_envs=1, discount=0.0)
    found = scaled(scaling, torch.tensor([[0.0], [0.0], [1e-9]]), nothing[:3], ~nothing[:3])
    assert found.isfinite().all()


def test_rewards_are_cut_on_both_sides_and_small_ones_stay() -> None:
    rewards = torch.tensor([[-400.0, 0.25], [1.0, 30.0]])
    clipping = RewardClipping(limit=1.0)
    assert clipping(rewards).tolist() == [[-1, 0.25], [1, 1]]
    assert rewards[0, 0] == -400  # the stream's own stay raw
    assert not clipping.state_dict()
