"""n-step bootstraps against a walk through each window, step by step."""

import numpy as np
import pytest
import torch

from agents.mathematics.returns import Bootstrap, n_step_bootstrap
from networks.memory.memories import pick_steps


def walked(
    rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, start: int, n: int, d: float
) -> tuple[float, float, int]:
    """Reward, discount and step that a window's column goes on from, by the definition."""
    total, discount, step = 0.0, 1.0, start
    for _ in range(n):
        total += discount * rewards[step]
        discount *= d
        step += 1
        if terminated[step - 1]:
            return total, 0.0, step
        if truncated[step - 1]:
            break
    return total, discount, step


def random_window(seed: int, steps: int, size: int) -> tuple[torch.Tensor, ...]:
    draws = np.random.default_rng(seed)
    rewards = torch.from_numpy(draws.normal(size=(steps, size)).astype(np.float32))
    terminated, truncated = (torch.from_numpy(draws.random((steps, size)) < 0.2) for _ in range(2))
    return rewards, terminated, truncated


@pytest.mark.parametrize("n_step", [1, 2, 5])
@pytest.mark.parametrize(("first", "length"), [(0, 1), (0, 4), (3, 4)])
def test_every_step_of_every_window_goes_on_as_its_episode_does(
    n_step: int, first: int, length: int
) -> None:
    rewards, terminated, truncated = random_window(0, first + length + n_step - 1, 50)
    found = n_step_bootstrap(
        rewards, terminated, truncated, first=first, length=length, n_step=n_step, discount=0.9
    )
    windows = torch.arange(first + length + n_step)[:, None].expand(-1, 50)
    steps = pick_steps(windows, found.steps)
    for step in range(length):
        for column in range(50):
            expected = walked(
                rewards[:, column].numpy(),
                terminated[:, column].numpy(),
                truncated[:, column].numpy(),
                first + step,
                n_step,
                0.9,
            )
            at = step, column
            assert (
                found.rewards[at].item(),
                found.discounts[at].item(),
                steps[at].item(),
            ) == pytest.approx(expected, abs=1e-5)


def bootstrap(
    rewards: list[float], terminated: list[int], truncated: list[int], n_step: int
) -> Bootstrap:
    def column(numbers: list[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.bool)[:, None]

    return n_step_bootstrap(
        torch.tensor(rewards)[:, None],
        column(terminated),
        column(truncated),
        first=0,
        length=1,
        n_step=n_step,
        discount=0.5,
    )


def test_the_closed_form_of_a_constant_reward() -> None:
    found = bootstrap([1.0] * 4, [0] * 4, [0] * 4, 4)
    assert found.rewards.item() == (1 - 0.5**4) / (1 - 0.5)
    assert found.discounts.item() == 0.5**4  # of n steps, not of one
    assert found.steps.item() == 4


def test_an_episode_that_ends_early_bootstraps_where_it_was_cut() -> None:
    cut = bootstrap([1.0, 2.0, 1e9], [0, 0, 0], [0, 1, 0], 3)
    assert (cut.rewards.item(), cut.discounts.item(), cut.steps.item()) == (2.0, 0.25, 2)


@pytest.mark.parametrize("truncated", [0, 1])
def test_nothing_follows_a_termination_even_at_the_limit(truncated: int) -> None:
    ended = bootstrap([1.0, 2.0, 1e9], [0, 1, 0], [0, truncated, 0], 3)
    assert (ended.rewards.item(), ended.discounts.item()) == (2.0, 0.0)


def test_what_lies_behind_an_end_never_matters() -> None:
    rewards, terminated, truncated = random_window(1, 6, 200)
    options = {"first": 0, "length": 3, "n_step": 4, "discount": 0.9}
    before = n_step_bootstrap(rewards, terminated, truncated, **options)
    changed = rewards.clone()
    ends = (terminated | truncated)[:5]
    # A column whose steps 0 to 2 all end says nothing of what comes later.
    closed = ends[:3].all(0)
    assert closed.any()
    changed[3:, closed] = torch.nan
    after = n_step_bootstrap(changed, terminated, truncated, **options)
    assert torch.equal(before.rewards, after.rewards)
