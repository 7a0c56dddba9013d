"""Values that are fitted squashed: h(r + d h^-1(v)), as words build it."""

import numpy as np
import pytest
import torch

from tests.agents.conftest import targets_of


def squashed(value: torch.Tensor) -> torch.Tensor:
    return value.sign() * ((value.abs() + 1).sqrt() - 1) + 1e-3 * value


@pytest.mark.parametrize("head", ["mse", "quantile"])
@pytest.mark.parametrize("rescaling", ["true", "false"])
def test_targets_are_squashed_and_what_follows_is_not(build, head: str, rescaling: str) -> None:
    """The copy says h(8), so what is left of it is 0.5 * 8, after a reward of 1."""
    run = build(
        "agent=dqn", f"value_head={head}", f"agent.value_rescaling={rescaling}",
        "agent.discount=0.5", "agent.learning_starts=600", "env.id=neurl/Counting-v0",
        "+env.kwargs.lengths=[3]",
    )  # fmt: skip
    agent = run.agent
    for _ in range(4):
        agent.learn(run.collector.collect(agent))
    replay, (_, copied) = agent.learner.replay, agent.learner.target_network.copies
    window = replay.sample(64, np.random.default_rng(0), importance_exponent=1.0).window
    output = copied.layers.actions.output
    scale = squashed if rescaling == "true" else lambda value: value
    with torch.no_grad():
        output.weight.zero_()
        output.bias.fill_(scale(torch.tensor(8.0)).item())
    found = targets_of(agent, window)
    ends = window.terminated
    expected = scale(window.rewards + 0.5 * 8.0 * ~ends)
    assert 0 < ends.sum() < ends.numel()
    torch.testing.assert_close(
        found if head == "mse" else found.mean(-1), expected, rtol=1e-4, atol=1e-4
    )
