"""What auxiliary losses weigh: each its own weight, by the run's progress, on every backbone."""

import pytest
import torch
from torch import Tensor, nn

from networks.autoencoding.losses import AuxiliaryLoss, Reading, Source
from tests.agents.conftest import gradients_of


class Constant(AuxiliaryLoss):
    """Always 3, with a gradient."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(3.0))

    def forward(self, reading: Reading) -> Tensor:
        return self.level + 0 * reading.features.sum()


class Other(Constant):
    """Always 6."""

    def forward(self, reading: Reading) -> Tensor:
        return 2 * super().forward(reading)


def words_for(name: str, kind: str, weight: float, schedule: str) -> list[str]:
    return [
        f"+auxiliary.{name}._target_=tests.agents.test_auxiliary_weights.{kind}",
        f"+auxiliary.{name}.weight={weight}",
        f"+auxiliary.{name}.weight_schedule={schedule}",
    ]


WORDS = [
    "trusted_packages=[tests]",
    *words_for("one", "Constant", 0.5, "linear"),
    *words_for("two", "Other", 2.0, "constant"),
]


@pytest.mark.parametrize("progress", [0.0, 0.75])
@pytest.mark.parametrize(
    ("words", "backbones"),
    [
        (["agent=ppo"], 2),
        (["agent=ppo", "share_backbone=true"], 1),
        (["agent=a2c"], 2),
        (["agent=dqn"], 1),
        (["agent=pqn"], 1),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_losses_are_weighed_by_progress_and_added_up_over_backbones(
    build, spy_on_steps, words: list[str], backbones: int, progress: float
) -> None:
    """The gradients of the levels: 0.5 (1 - progress) and 2 * 2, for each backbone."""
    run = build(*words, *WORDS)
    agent, spy = run.agent, spy_on_steps(run.agent)
    for each in (0.25, progress):  # of one round nothing is kept for the next
        spy.calls.clear()
        while not spy.calls:
            agent.progress = each
            metrics = agent.learn(run.collector.collect(agent))
    levels = {id(p): name for name, p in agent.named_parameters() if name.endswith(".level")}
    found = gradients_of(agent, spy.calls[0].result)
    by_loss = {"one": [], "two": []}
    for parameter, gradient in zip(agent.optimizer.trainable, found, strict=True):
        if id(parameter) in levels:
            by_loss[levels[id(parameter)].split(".")[-2]].append(gradient.item())
    assert by_loss == {
        "one": pytest.approx([0.5 * (1 - progress)] * backbones),
        "two": pytest.approx([2.0 * 2] * backbones),
    }
    assert metrics["loss/one"].item() == pytest.approx(3 * backbones, rel=0.1)
