"""A support that is learnt from targets: who shows them; the target network has the same one."""

import pytest
import torch


def limits(head: torch.nn.Module) -> list[float]:
    return head.support.limits.tolist()


@pytest.mark.parametrize("rescaling", ["false", "true"])
def test_both_networks_learn_the_same_support_from_targets(build, rescaling: str) -> None:
    """A reward of 1 at a discount of 0: targets are h(1), and the support twice as wide."""
    run = build(
        "agent=dqn", "value_head=c51", "agent.target_update_interval=1000000", "agent.discount=0",
        f"agent.value_rescaling={rescaling}",
    )  # fmt: skip
    agent = run.agent
    _, copy = agent.learner.target_network.copies
    assert limits(copy) == limits(agent.networks.value_head) == [-1, 1]
    while not agent.learner.clock.updates:
        metrics = agent.learn(run.collector.collect(agent))
    largest = 1.0 if rescaling == "false" else 2**0.5 - 1 + 1e-3
    assert limits(agent.networks.value_head) == pytest.approx([-2 * largest, 2 * largest])
    assert limits(copy) == limits(agent.networks.value_head)
    assert torch.equal(copy.support.centres, agent.networks.value_head.support.centres)
    assert copy.support.is_known
    assert metrics["value/support"].item() == pytest.approx(2 * largest)


@pytest.mark.parametrize("kind", ["ppo", "a2c", "pqn"])
def test_returns_are_shown_before_they_are_learnt(build, kind: str) -> None:
    run = build(f"agent={kind}", "value_head=hl_gauss", "value_head.sigma=0.1")
    agent = run.agent
    trajectory = run.collector.collect(agent)
    batch, _ = agent.prepare(trajectory)
    largest = batch.returns[batch.valid].abs().max().item()
    metrics = agent.learn(trajectory)
    assert metrics["value/support"].item() == pytest.approx(2 * largest, rel=1e-5)
    assert metrics["value/outside_support"] == 0
