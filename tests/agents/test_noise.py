"""Noisy layers in learning: the network, its copy and the choice each have a noise of their own."""

from typing import Any

import torch
from torch import Tensor, nn

WORDS = ["agent=dqn", "agent.noisy=true", "agent.double_q=true", "agent.replay_ratio=0.2"]


def note(head: nn.Module, calls: list[tuple[bool, Tensor | None]]) -> None:
    """Keep whether a gradient is taken, and the noise, of every call."""
    forward = head.forward

    def noting(summary: Tensor, noise: Tensor | None = None) -> Tensor:
        calls.append((torch.is_grad_enabled(), noise))
        return forward(summary, noise)

    head.forward = noting  # type: ignore[method-assign]


def test_network_copy_and_choice_have_noise_of_their_own_in_every_step(build) -> None:
    run = build(*WORDS)
    agent, losses = run.agent, run.agent.losses
    agent.is_watched = False  # who measures asks for values without noise
    steps: list[list[tuple[str, Tensor]]] = []

    def noting(*arguments: Any) -> Any:
        calls: list[list[tuple[bool, Tensor | None]]] = [[], []]
        heads = agent.networks.value_head, agent.learner.target_network.copies[1]
        for head, own in zip(heads, calls, strict=True):
            note(head, own)
        result = losses(*arguments)
        for head in heads:
            del head.forward
        names = {True: "learns", False: "chooses"}
        found = [(names[has_gradient], noise) for has_gradient, noise in calls[0]]
        found += [("values", noise) for _, noise in calls[1]]
        steps.append(found)
        return result

    agent.losses = noting
    while len(steps) < 5:
        agent.learn(run.collector.collect(agent))
    del steps[0]  # the look at what the loss reaches, on the inputs of the first step
    for found in steps:
        assert sorted(name for name, _ in found) == ["chooses", "learns", "values"]
    noises = [noise for found in steps for _, noise in found]
    assert all(noise is not None for noise in noises)
    assert len({tuple(noise.tolist()) for noise in noises}) == 3 * len(steps)
