"""The values of two lambdas: what their difference trains, and where it vanishes."""

import pytest
import torch
from gymnasium import spaces

from agents.mathematics.returns import lambda_returns
from networks.autoencoding.losses import LambdaDiscrepancy, Reading, Source
from networks.inputs import make_input
from tests.building import build as build_part

WORDS = ["auxiliary=lambda_discrepancy", "share_backbone=true", "memory=gru"]
TWO = torch.ones(2, 1, dtype=torch.bool)


def make() -> LambdaDiscrepancy:
    source = Source(make_input(spaces.Discrete(2)), torch.nn.Identity(), 2, 2, summary_size=2)
    loss = build_part(LambdaDiscrepancy, source, gae_lambda=0.5)
    with torch.no_grad():
        loss.head.weight.copy_(torch.tensor([[1.0, -1.0]]))
        loss.head.bias.fill_(0.5)
    return loss


def test_two_steps_by_hand() -> None:
    """U = [2.5, -0.5], V = [2, 1], G = [3, 0]: (0.25 + 2.25) / 2 + (0.25 + 0.25) / 2."""
    summary = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]], requires_grad=True)
    values = torch.tensor([[2.0], [1.0]], requires_grad=True)
    reading = Reading(
        rows=torch.zeros(2, 2),
        features=torch.zeros(2, 1, 2),
        actions=torch.zeros(2, 1, 2),
        is_first=~TWO,
        valid=TWO,
        next_rows=None,
        next_features=None,
        summary=summary,
        values=values,
        returns=torch.tensor([[3.0], [0.0]]),
    )
    loss = make()
    found = loss(reading)
    assert found.item() == pytest.approx(1.5)
    found.backward()
    # d/dV = V - U; d/dU = (U - V) + (U - G) = [0, -2], times w for h, times h for w
    assert values.grad.flatten().tolist() == [-0.5, 1.5]
    assert summary.grad[:, 0].tolist() == [[0, 0], [-2, 2]]
    assert loss.head.weight.grad.tolist() == [[0, -2]]
    assert loss.head.bias.grad.tolist() == [-2]


@pytest.mark.parametrize("agent", ["ppo", "a2c"])
def test_its_values_are_fitted_to_their_own_returns(build, spy_on_steps, agent: str) -> None:
    run = build(f"agent={agent}", *WORDS, "agent.gae_lambda=0.9")
    spy = spy_on_steps(run.agent)
    (loss,) = run.agent.auxiliary.by_backbone["actor"].values()
    trajectory = run.collector.collect(run.agent)
    with torch.no_grad():
        stream = trajectory.observations, trajectory.state, trajectory.is_first
        values = loss.second_value(run.agent.actor(*stream)[0])
    expected = lambda_returns(
        trajectory.rewards,
        values[1:],
        trajectory.terminated,
        trajectory.truncated,
        discount=run.config.agent.discount,
        gae_lambda=0.5,
    )
    metrics = run.agent.learn(trajectory)
    batch = spy.calls[0].inputs[0]
    torch.testing.assert_close(batch.other_returns, expected)
    assert not torch.allclose(batch.returns, expected)
    assert metrics["loss/lambda_discrepancy"] > 0


def test_nothing_differs_where_nothing_is_hidden(build) -> None:
    """Two steps, of which each tells its number: both values become the same."""
    words = ["agent=a2c", "optimizer.learning_rate=3e-3", "agent.rollout_length=8"]
    run = build(*WORDS, *words, "env.id=neurl/DelayedReward-v0", "agent.discount=0.5")
    agent = run.agent
    (loss,) = agent.auxiliary.by_backbone["actor"].values()

    def difference() -> float:
        trajectory = run.collector.collect(agent)
        with torch.no_grad():
            stream = trajectory.observations, trajectory.state, trajectory.is_first
            summary, _ = agent.actor(*stream)
            gap = agent.value_head(summary) - loss.second_value(summary)
        return gap[:-1][trajectory.valid].square().mean().item()

    before = difference()
    for _ in range(250):
        agent.learn(run.collector.collect(agent))
    assert difference() < 1e-3 < before
