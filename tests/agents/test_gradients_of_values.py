"""Which loss trains what of agents with action values, and that nothing trains the slow copy."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.agents.test_gradients import AUXILIARY, NOTING, declared, measured, weights

NEXT = ["auxiliary=next_latent", "auxiliary.next_latent.hidden_sizes=[5]"]
SETTINGS = {
    "default": [],
    "gru": ["memory=gru"],
    "no critic": ["gradients.extractor=[]"],
    "memory alone": ["memory=lstm", "gradients.extractor=[]"],
    "auxiliary": AUXILIARY,
    "auxiliary, rnn": [*AUXILIARY, "memory=rnn"],
    "auxiliary alone": [*AUXILIARY, "memory=gru", "gradients.extractor=[auxiliary]"],
    "next latent": [*NEXT, "memory=gru"],
    "dueling": ["agent.dueling=true", "value_head.hidden_sizes=[4]"],
    "frozen": ["extractor.freeze=true", "memory=gru"],
}
PARTS = {
    "many parts": [
        "memory=gru",
        "agent.burn_in=2",
        "agent.noisy=true",
        "agent.dueling=true",
        "agent.double_q=true",
        "agent.n_step=3",
        "agent.prioritized=true",
        "agent.value_rescaling=true",
        *AUXILIARY,
    ],
    "c51": ["value_head=c51", "agent.double_q=true"],
    "quantile": ["value_head=quantile", "memory=lstm", "agent.stored_state=false"],
}
CASES = [(agent, name, words) for agent in ("dqn", "pqn") for name, words in SETTINGS.items()]
CASES += [("dqn", name, words) for name, words in PARTS.items()]
EVERYTHING = pytest.mark.parametrize(
    ("agent", "words"),
    [pytest.param(agent, words, id=f"{agent}-{name}") for agent, name, words in CASES],
)


class GradientStep:
    """Takes the agent's own gradient step on one sample, up to its losses."""

    def __init__(self, agent: Any, collector: Any) -> None:
        self.agent, self.losses = agent, {}
        learn = agent._gradient_step

        def keep(*arguments: Any) -> Any:
            self.arguments = arguments
            return learn(*arguments)

        agent._gradient_step = keep
        while not hasattr(self, "arguments"):  # it waits for something to learn from
            agent.learn(collector.collect(agent))
        assert agent.optimizer.trainable

    def __call__(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        descend = self.agent.optimizer.descend
        parts = self.agent.optimizer.norms(self.agent.optimizer.flat)

        def keep(losses: dict[str, Tensor], pace: Any, active: Tensor) -> tuple[Tensor, Tensor]:
            found.update(losses)
            return torch.zeros(2), torch.zeros(len(parts))

        self.agent.optimizer.descend = keep
        self.agent._step(*self.arguments)
        self.agent.optimizer.descend = descend
        return found


OF_DQN = ["agent=dqn", "agent.sequence_length=4", "agent.target_update_interval=2"]


def step_of(build, agent: str, words: list[str]) -> GradientStep:
    run = build(*(OF_DQN if agent == "dqn" else [f"agent={agent}"]), *words)
    return GradientStep(run.agent, run.collector)


@EVERYTHING
def test_losses_train_what_is_declared_and_nothing_else(build, agent: str, words) -> None:
    take = step_of(build, agent, words)
    assert measured(take.agent, take) == declared(take.agent, words)


ALONE = {name: SETTINGS[name] for name in ("default", "auxiliary, rnn", "frozen")} | PARTS


@pytest.mark.parametrize("words", ALONE.values(), ids=ALONE)
def test_the_slow_copy_takes_no_gradient_and_shares_inputs_alone(build, words) -> None:
    take = step_of(build, "dqn", [*words, "normalize_observations=true"])
    agent, target = take.agent, take.agent.target.network
    own = {name: p for name, p in target.named_parameters() if ".inputs." not in name}
    assert own
    assert not any(parameter.requires_grad for parameter in own.values())
    for parameter in own.values():
        parameter.requires_grad_(True)  # asking for it does not bring it about
    losses = sum(take().values())
    assert isinstance(losses, Tensor)
    if losses.requires_grad:
        found = torch.autograd.grad(losses, list(own.values()), allow_unused=True)
        assert not any(gradient is not None for gradient in found)

    trained = {id(p) for parameters in agent.parts().values() for p in parameters}
    assert not trained & {id(parameter) for parameter in own.values()}
    online = torch.nn.ModuleDict({"backbone": agent.actor, "value_head": agent.value_head})
    others = online.state_dict(keep_vars=True)
    common = {n for n, t in target.state_dict(keep_vars=True).items() if t is others[n]}
    inside = ("backbone.inputs.", "backbone.normalization.")
    assert common == {name for name in others if name.startswith(inside)}
    assert any(name.startswith("backbone.normalization.") for name in common)


@pytest.mark.parametrize("memory", ["none", "lstm"])
@pytest.mark.parametrize("agent", ["dqn", "pqn"])
def test_a_frozen_extractor_never_changes(build, agent: str, memory: str) -> None:
    words = [f"memory={memory}", *NOTING, "extractor.freeze=true"]
    words += OF_DQN if agent == "dqn" else [f"agent={agent}"]
    decay = ["optimizer.learning_rate=0.05", "optimizer=adamw", "optimizer.weight_decay=0.1"]
    run = build(*words, *decay)
    before = {key: value.clone() for key, value in run.agent.state_dict().items()}
    for _ in range(5 if agent == "dqn" else 2):
        metrics = run.agent.learn(run.collector.collect(run.agent))
    after = run.agent.state_dict()
    frozen = [key for key in before if ".extractor." in key]
    assert any("running_mean" in key for key in frozen)
    for key in frozen:
        assert torch.equal(before[key], after[key]), key
    head = [key for key in before if key.startswith("policy_head.value_head.layers.")]
    assert any(not torch.equal(before[key], after[key]) for key in head)
    assert "gradient_norm/extractor" not in metrics
    assert metrics["update/skipped"] == 0


def test_an_extractor_thaws_and_the_copy_follows(build) -> None:
    run = build("agent=dqn", "extractor.freeze=100", "agent.target_update_interval=1")
    agent, copied = run.agent, run.agent.target.network.get_submodule("backbone.extractor")
    before = weights(agent.actor.extractor)
    for env_steps, moves in ((0, False), (99, False), (100, True)):
        agent.env_steps = env_steps
        for _ in range(3):
            acting = weights(agent.actor.extractor).clone()
            metrics = agent.learn(run.collector.collect(agent))
        assert torch.equal(weights(agent.actor.extractor), before) != moves
        # Of frozen parts there is none: it would count where norms are clipped.
        assert (metrics["gradient_norm/extractor"] > 0) == moves
        assert torch.equal(weights(copied), acting)
