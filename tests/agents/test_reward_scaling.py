"""Rewards divided by the deviation of their return: by hand, through every agent's `learn`."""

import math

import pytest
import torch

from agents.trajectory import Trajectory

DISCOUNT = 0.5
AGENTS = {
    "ppo": ["agent=ppo", "agent.gae_lambda=0", "agent.num_minibatches=1"],
    "a2c": ["agent=a2c", "agent.gae_lambda=0"],
    "pqn": ["agent=pqn", "agent.td_lambda=0", "agent.num_minibatches=1"],
    "dqn": ["agent=dqn"],
}
WORDS = ["normalize_rewards=true", f"agent.discount={DISCOUNT}", "env.num_envs=2"]


def streams(make) -> list[Trajectory]:
    """Two trajectories of two environments, with an end of each kind and a start without an end."""
    torch.manual_seed(0)
    first = make(
        torch.randn(5, 2, 4),
        torch.zeros(4, 2, dtype=torch.int64),
        torch.tensor([[1.0, 2.0], [2.0, 4.0], [1e9, 1e9], [4.0, 6.0]]),
        terminated=torch.tensor([[False, False], [True, False], [False, False], [False, False]]),
        truncated=torch.tensor([[False, False], [False, True], [False, False], [False, False]]),
    )
    second = make(
        torch.randn(5, 2, 4),
        torch.zeros(4, 2, dtype=torch.int64),
        torch.tensor([[2.0, 3.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]),
    )
    # The first environment goes on; the second begins anew, which nothing announced.
    second.is_first[0] = torch.tensor([False, True])
    return [first, second]


@pytest.mark.parametrize("words", AGENTS.values(), ids=AGENTS)
def test_returns_end_with_episodes_and_begin_with_them(build, trajectory, words) -> None:
    agent = build(*words, *WORDS).agent
    scaling = agent.learner.reward_scaling
    first, second = streams(trajectory)
    agent.learn(first)
    # 1, .5 * 1 + 2, (reset), 4;  2, .5 * 2 + 4, (reset), 6
    seen = [1.0, 2.5, 4.0, 2.0, 5.0, 6.0]
    assert scaling.statistics.count.item() == 6
    assert scaling.accumulator.tolist() == [4, 6]
    deviation = torch.tensor(seen).std(correction=0).item()
    assert scaling(torch.ones(1)).item() == pytest.approx(1 / deviation)
    agent.learn(second)
    # .5 * 4 + 2, .5 * 4 + 0, .5 * 2 + 1, .5 * 2 + 1;  3, .5 * 3 + 1, .5 * 2.5 + 1, .5 * 2.25
    seen += [4.0, 2.0, 2.0, 2.0, 3.0, 2.5, 2.25, 1.125]
    assert scaling.accumulator.tolist() == [2, 1.125]
    assert scaling.statistics.count.item() == 14
    deviation = torch.tensor(seen).std(correction=0).item()
    assert math.sqrt(scaling.statistics.variance.item()) == pytest.approx(deviation)


@pytest.mark.parametrize("kind", ["ppo", "a2c", "pqn"])
def test_a_rollout_is_scaled_by_its_own_statistics_too(build, trajectory, kind: str) -> None:
    """Values of 0 leave the scaled rewards; advantages are theirs, not those of raw rewards."""
    agent = build(*AGENTS[kind], *WORDS).agent
    with torch.no_grad():
        for parameter in agent.networks.value_head.parameters():
            parameter.zero_()
    first, _ = streams(trajectory)
    batch, _ = agent.prepare(first)
    deviation = torch.tensor([1.0, 2.5, 4.0, 2.0, 5.0, 6.0]).std(correction=0)
    expected = (first.rewards / deviation)[first.valid]
    found = [batch.returns] if kind == "pqn" else [batch.returns, batch.advantages]
    for each in found:
        torch.testing.assert_close(each.view(4, 2)[first.valid], expected)
