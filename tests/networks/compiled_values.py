"""Traces value heads, targets and losses without a break; compares gradients with untraced ones.

Every head is traced; one, with all that layers can be, is compiled in earnest as well.
"""

from functools import partial
from typing import Any

import torch
import torch._dynamo
from torch import Tensor

from networks.heads.action_values import ActionLayers
from networks.heads.distributional import C51ValueHead, QuantileValueHead
from networks.heads.histograms import HLGaussValueHead, TwoHotValueHead
from networks.heads.values import (
    HuberValueHead,
    MSEValueHead,
    Rescaling,
    ValueHead,
)
from tests.building import build

ROWS, ACTIONS = 12, 3
HEADS: list[Any] = [
    MSEValueHead,
    partial(build, HuberValueHead, delta=1.0),
    partial(build, TwoHotValueHead, bins=11, support="auto", symlog=False),
    partial(build, HLGaussValueHead, bins=11, support="auto", sigma=0.75),
    partial(build, C51ValueHead, bins=11, support="auto"),
    partial(build, QuantileValueHead, quantiles=4, kappa=1.0),
]


def layers(*, dueling: bool, noisy: bool) -> Any:
    return partial(
        build,
        ActionLayers,
        5,
        num_actions=ACTIONS,
        dueling=dueling,
        noisy=noisy,
        noisy_sigma=0.5,
        hidden_sizes=[7],
        activation="relu",
        initialization="orthogonal",
        gain=1.0,
    )


def learn(head: ValueHead, scale: Rescaling | None, data: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One step of Q-learning: loss, error and gradients."""
    summary, noise, actions, rewards, discounts = data
    with torch.no_grad():
        later = head(summary.flip(0))
        best = head.value(later).argmax(-1)
    target = head.target(rewards, discounts, take(later, best), scale)
    output = take(head(summary, noise), actions)
    loss = head.loss(output, target).mean()
    gradients = torch.autograd.grad(loss, list(head.parameters()))
    return loss.detach(), head.error(output, target), *gradients


def take(output: Tensor, actions: Tensor) -> Tensor:
    """The raw output of one action of each row."""
    index = actions.view(-1, *[1] * (output.dim() - 1)).expand(-1, 1, *output.shape[2:])
    return output.gather(1, index).squeeze(1)


def compare(head: ValueHead, scale: Rescaling | None, backend: str) -> None:
    """Trace a step whole."""
    generator = torch.Generator().manual_seed(0)
    data = (
        torch.randn(ROWS, 5, generator=generator),
        torch.randn(ROWS, head.noise_size, generator=generator),
        torch.randint(ACTIONS, (ROWS,), generator=generator),
        torch.randn(ROWS, generator=generator),
        torch.rand(ROWS, generator=generator).round() * 0.9,
    )
    torch._dynamo.reset()
    traced = torch.compile(learn, fullgraph=True, backend=backend)
    expected = learn(head, scale, data)
    for ours, theirs in zip(traced(head, scale, data), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def main() -> None:
    """Raise where a head cannot be traced whole, or is another one then."""
    torch.manual_seed(0)
    torch._dynamo.config.trace_autograd_ops = True
    for make in HEADS:
        compare(make(layers(dueling=False, noisy=False)), None, "eager")
        compare(make(layers(dueling=True, noisy=True)), Rescaling(eps=1e-3), "eager")
    c51 = HEADS[-2](layers(dueling=True, noisy=True))
    compare(c51, Rescaling(eps=1e-3), "inductor")


if __name__ == "__main__":
    main()
