"""Returns against brute force on every pattern of episode ends, tables by hand, and limits."""

import itertools

import pytest
import torch
from torch import Tensor

from agents.mathematics.returns import lambda_returns

DISCOUNT, LAMBDA = 0.9, 0.7
ENDS = {"none": (False, False), "terminated": (True, False), "truncated": (False, True)}
ENDS["both"] = (True, True)


def brute_force(rewards, next_values, terminated, truncated, discount, gae_lambda) -> list[float]:
    """One column, from the definition: n-step returns weighted by (1 - lambda) lambda^(n - 1).

    The last n-step return before the end of episode or trajectory has all weight that is left.
    """
    returns = []
    for t in range(len(rewards)):
        total, weight, n_step = 0.0, 1.0, 0.0
        for n, at in enumerate(range(t, len(rewards))):
            n_step += discount**n * rewards[at]
            is_last = terminated[at] or truncated[at] or at == len(rewards) - 1
            bootstrap = 0.0 if terminated[at] else discount ** (n + 1) * next_values[at]
            share = weight if is_last else weight * (1 - gae_lambda)
            total += share * (n_step + bootstrap)
            weight *= gae_lambda
            if is_last:
                break
        returns.append(total)
    return returns


def columns_with(ends: list[list[str]]) -> tuple[Tensor, Tensor, Tensor]:
    """Flags for one column per pattern, and which steps are valid (not the one after an end)."""
    flags = torch.tensor([[ENDS[end] for end in column] for column in ends]).permute(2, 1, 0)
    terminated, truncated = flags
    valid = torch.ones_like(terminated)
    valid[1:] = ~(terminated | truncated)[:-1]
    return terminated, truncated, valid


def every_pattern(steps: int) -> list[list[str]]:
    """All patterns in which the step that only resets ends nothing, as in the stream."""
    return [
        list(column)
        for column in itertools.product(ENDS, repeat=steps)
        if all("none" in pair for pair in itertools.pairwise(column))
    ]


@pytest.mark.parametrize("gae_lambda", [0.0, LAMBDA, 1.0])
def test_every_pattern_of_ends_equals_brute_force(gae_lambda: float) -> None:
    patterns = every_pattern(5)
    terminated, truncated, valid = columns_with(patterns)
    generator = torch.Generator().manual_seed(0)
    rewards, next_values = torch.randn(2, 5, len(patterns), generator=generator).double()
    # Whatever stands in a step that only resets must not matter.
    rewards[~valid], next_values[~valid] = 1e9, -1e9
    found = lambda_returns(
        rewards, next_values, terminated, truncated, discount=DISCOUNT, gae_lambda=gae_lambda
    )
    assert len(patterns) == 97
    for column, _ in enumerate(patterns):
        arguments = (part[:, column].tolist() for part in (rewards, next_values, terminated))
        expected = brute_force(*arguments, truncated[:, column].tolist(), DISCOUNT, gae_lambda)
        for t in valid[:, column].nonzero().flatten().tolist():
            assert found[t, column].item() == pytest.approx(expected[t], abs=1e-9), patterns[column]


def returns_of(rewards, next_values, terminated, truncated, **numbers) -> list[float]:
    columns = [torch.tensor(numbers)[:, None] for numbers in (rewards, next_values)]
    flags = [torch.tensor(flags, dtype=torch.bool)[:, None] for flags in (terminated, truncated)]
    return lambda_returns(*columns, *flags, **numbers)[:, 0].tolist()


REWARDS, NEXT_VALUES = [1.0, 2.0, 4.0], [10.0, 20.0, 30.0]


def test_table_of_an_episode_that_goes_on() -> None:
    found = returns_of(REWARDS, NEXT_VALUES, [0, 0, 0], [0, 0, 0], discount=0.5, gae_lambda=0.5)
    # G2 = 4 + .5 * 30                       = 19
    # G1 = 2 + .5 * (.5 * 20 + .5 * 19)      = 11.75
    # G0 = 1 + .5 * (.5 * 10 + .5 * 11.75)   = 6.4375
    assert found == [6.4375, 11.75, 19.0]


def test_table_of_a_terminated_episode() -> None:
    found = returns_of(REWARDS, NEXT_VALUES, [0, 1, 0], [0, 0, 0], discount=0.5, gae_lambda=0.5)
    # G1 = 2 (absorbing: no value)           = 2
    # G0 = 1 + .5 * (.5 * 10 + .5 * 2)       = 4
    assert found[:2] == [4.0, 2.0]


def test_table_of_a_truncated_episode() -> None:
    found = returns_of(REWARDS, NEXT_VALUES, [0, 0, 0], [0, 1, 0], discount=0.5, gae_lambda=0.5)
    # G1 = 2 + .5 * 20 (the final observation's value, whole)  = 12
    # G0 = 1 + .5 * (.5 * 10 + .5 * 12)                        = 6.5
    assert found[:2] == [6.5, 12.0]


def test_termination_beats_truncation() -> None:
    both = returns_of(REWARDS, NEXT_VALUES, [0, 1, 0], [0, 1, 0], discount=0.5, gae_lambda=0.5)
    alone = returns_of(REWARDS, NEXT_VALUES, [0, 1, 0], [0, 0, 0], discount=0.5, gae_lambda=0.5)
    assert both[:2] == alone[:2]


def test_lambda_zero_is_one_step_and_lambda_one_is_monte_carlo() -> None:
    numbers = {"discount": 0.5}
    arguments = (REWARDS, NEXT_VALUES, [0, 0, 0], [0, 0, 0])
    # r + .5 v'
    assert returns_of(*arguments, gae_lambda=0.0, **numbers) == [6.0, 12.0, 19.0]
    # 4 + .5 * 30 = 19; 2 + .5 * 19 = 11.5; 1 + .5 * 11.5 = 6.75
    assert returns_of(*arguments, gae_lambda=1.0, **numbers) == [6.75, 11.5, 19.0]


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_generalised_advantages_are_sums_of_td_errors(gae_lambda: float) -> None:
    values = torch.tensor([3.0, -1.0, 2.0, 0.5, 7.0]).double()
    rewards = torch.tensor([1.0, 0.0, -2.0, 5.0]).double()
    nothing = torch.zeros(4, 1, dtype=torch.bool)
    found = lambda_returns(
        rewards[:, None],
        values[1:, None],
        nothing,
        nothing,
        discount=DISCOUNT,
        gae_lambda=gae_lambda,
    )[:, 0]
    errors = rewards + DISCOUNT * values[1:] - values[:-1]
    # Schulman et al. (2016), eq. 16: sum over l of (discount lambda)^l delta_{t + l}.
    expected = [
        sum((DISCOUNT * gae_lambda) ** lag * errors[t + lag].item() for lag in range(4 - t))
        for t in range(4)
    ]
    torch.testing.assert_close(found - values[:-1], torch.tensor(expected).double())


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
def test_endless_reward_of_one_is_worth_ten_when_cut_and_less_when_ended(gae_lambda) -> None:
    # Cut every third step: v = 1 / (1 - .9) = 10 is the fixed point, whatever lambda.
    ends = torch.tensor([0, 0, 1, 0] * 4, dtype=torch.bool)[:, None]
    ones, nothing = torch.ones(16, 1), torch.zeros_like(ends)
    valid = torch.ones_like(ends)
    valid[1:] = ~ends[:-1]
    numbers = {"discount": 0.9, "gae_lambda": gae_lambda}
    cut = lambda_returns(ones, 10 * ones, nothing, ends, **numbers)
    torch.testing.assert_close(cut[valid], torch.full((12,), 10.0))
    # Ended instead: the last step is worth 1, whatever the final observation's value.
    ended = lambda_returns(ones, 10 * ones, ends, nothing, **numbers)
    assert ended[ends].tolist() == [1.0] * 4
