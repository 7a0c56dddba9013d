"""Dropout and the like are on where a gradient is taken, and nowhere else."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn


class Noting(nn.Module):
    """An extractor that may behave differently while it learns; notes when it was asked."""

    modes: ClassVar[list[tuple[bool, bool]]] = []
    drawn: ClassVar[list[float]] = []

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.output_size = 4
        self.layer = nn.Linear(input_shape[0], 4)

    def forward(self, rows: Tensor) -> Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        if self.training:
            self.drawn.append(torch.rand(()).item())
        return self.layer(rows)


NOTING = [
    "extractor=flatten",
    "extractor._target_=tests.agents.test_modes.Noting",
    "trusted_packages=[tests]",
]
AGENTS = {
    "ppo": ["agent=ppo", "memory=gru"],
    "a2c": ["agent=a2c", "memory=gru"],
    "pqn": ["agent=pqn", "memory=gru"],
    "dqn": [
        "agent=dqn",
        "memory=gru",
        "agent.sequence_length=4",
        "agent.burn_in=2",
        "agent.double_q=true",
        "value_head=c51",  # whose support looks at targets before the first step
    ],
    **{
        agent: [
            f"agent={agent}",
            "agent.train_frequency=4",
            "memory=gru",
            "agent.sequence_length=4",
            "agent.burn_in=2",
            "value_head=hl_gauss",
        ]
        for agent in ("ddpg", "td3", "sac")
    },
}
EVERY_AGENT = pytest.mark.parametrize("words", AGENTS.values(), ids=AGENTS)


def noted(run: Any) -> type[Noting]:
    """The class as the agent imported it, which need not be this file's."""
    kind = type(run.agent.actor.extractor)
    kind.modes.clear()
    kind.drawn.clear()
    return kind


def learn(run: Any, rounds: int) -> None:
    for _ in range(rounds):
        run.agent.learn(run.collector.collect(run.agent))


@EVERY_AGENT
def test_a_network_trains_where_it_takes_a_gradient(build, words) -> None:
    run = build(*words, *NOTING)
    learn(run, 4)  # before the first step there is a look at what each loss reaches
    kind = noted(run)
    learn(run, 2)
    assert set(kind.modes) == {(True, True), (False, False)}
    assert not any(module.training for module in run.agent.modules())


@EVERY_AGENT
def test_every_round_draws_dropout_of_its_own_and_by_the_seed(build, words) -> None:
    drawn = []
    for _ in range(2):
        run = build(*words, *NOTING)
        kind = noted(run)
        learn(run, 4)
        drawn.append(list(kind.drawn))
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == len(drawn[0]) > 2


def test_training_mode_is_left_after_an_error_too(build, monkeypatch) -> None:
    run = build(*NOTING)
    trajectory = run.collector.collect(run.agent)

    def fail(*_: Any, **__: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(run.agent, "losses", fail)
    with pytest.raises(InterruptedError):
        run.agent.learn(trajectory)
    assert not any(module.training for module in run.agent.modules())


class Whimsical(nn.Module):
    """Noise of its own in learning alone, and a layer that is skipped at random."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.output_size = 4
        self.layer = nn.Linear(input_shape[0], 4)
        self.sigma = nn.Parameter(torch.full((4,), 0.5))
        self.skipped = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, rows: Tensor) -> Tensor:
        features = self.layer(rows)
        if not self.training:
            return self.skipped(features)
        self.calls += 1
        features = features + self.sigma * torch.randn(4)
        return features if torch.rand(()) < 0.5 else self.skipped(features)


@EVERY_AGENT
def test_what_takes_part_in_learning_alone_is_trained_and_may_be_skipped(build, words) -> None:
    own = ["extractor._target_=tests.agents.test_modes.Whimsical", "trusted_packages=[tests]"]
    run = build(*words, "extractor=flatten", *own)
    extractor = run.agent.actor.extractor
    before = {name: p.detach().clone() for name, p in extractor.named_parameters()}
    steps = 0
    for _ in range(6):
        metrics = run.agent.learn(run.collector.collect(run.agent))
        steps += int(metrics["update/steps"])
    for name, parameter in extractor.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    # Looking at the graph beforehand leaves no trace in what modules count.
    assert extractor.calls == steps
