"""Exact continuation: train k, save, load into a fresh agent, train k more = train 2k, bit for bit.

What is saved is `state_dict()`, through safetensors as checkpoints do, and the generator's state.
"""

import copy
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from agents.learning.optimizer import Group, Optimizer
from agents.learning.schedules import schedule
from agents.learning.update_rules import TorchRule

FOREIGN = {
    "adagrad": torch.optim.Adagrad,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "asgd": torch.optim.ASGD,
    "rprop": torch.optim.Rprop,
}
NORMALIZED = ["normalize_observations=true", "normalize_rewards=true"]
CASES: dict[str, list[str]] = {
    "none-adam": ["memory=none"],
    "none-shared-normalized-rmsprop": [
        *NORMALIZED,
        "share_backbone=true",
        "optimizer=rmsprop",
        "optimizer.momentum=0.5",
        "optimizer.centered=true",
    ],
    "lstm-normalized-adamw": ["memory=lstm", *NORMALIZED, "optimizer=adamw"],
    "lstm-shared-rmsprop_tf": ["memory=lstm", "share_backbone=true", "optimizer=rmsprop_tf"],
    "gru-normalized-sgd": ["memory=gru", *NORMALIZED, "optimizer=sgd"],
    "gru-shared-cut-adam": [
        "memory=gru",
        "share_backbone=true",
        "memory.sequence_length=4",
        "optimizer.schedule=linear",
    ],
    "lstm-critic-groups": [
        "memory=none",
        "memory@critic.memory=lstm",
        "+optimizer.groups.memory.learning_rate=0.01",
    ],
    "box-lstm-normalized": ["env.id=Pendulum-v1", "memory=lstm", *NORMALIZED],
    "dropout": [
        "extractor._target_=tests.agents.test_going_on.Dropping",
        "trusted_packages=[tests]",
    ],
    "learnt-support": ["value_head=hl_gauss", "value_head.bins=11"],
    "nadam": ["optimizer._target_=torch.optim.NAdam", "memory=lstm"],
}
OF_A2C = ("none-adam", "lstm-normalized-adamw", "gru-shared-cut-adam", "lstm-critic-groups")
OF_PQN = ("lstm-normalized-adamw", "learnt-support")
RUNS = [("ppo", case) for case in CASES] + [("a2c", case) for case in OF_A2C]
RUNS += [("pqn", case) for case in OF_PQN]
LEARNT = 2


def saved(module: nn.Module) -> dict[str, Tensor]:
    """State as a checkpoint keeps it: plain tensors, that share nothing with the module."""
    state = module.state_dict()
    assert all(type(tensor) is Tensor for tensor in state.values())
    return safetensors.torch.load(
        safetensors.torch.save(
            {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
        )
    )


def train(run, agent, iterations: int) -> None:
    for _ in range(iterations):
        agent.learn(run.collector.collect(agent))


@pytest.mark.parametrize(("kind", "case"), RUNS)
def test_a_fresh_agent_goes_on_exactly(build, kind: str, case: str) -> None:
    words = [f"agent={kind}", "optimizer.learning_rate=0.01", *CASES[case]]
    whole, halves, fresh = build(*words), build(*words), build(*words, "seed=1").agent
    train(whole, whole.agent, 2 * LEARNT)
    train(halves, halves.agent, LEARNT)
    assert not torch.equal(fresh.optimizer.flat, halves.agent.optimizer.flat)
    fresh.load_state_dict(saved(halves.agent))
    fresh.generator.bit_generator.state = halves.agent.generator.bit_generator.state
    train(halves, fresh, LEARNT)  # the collector goes on, with another agent
    assert torch.equal(fresh.optimizer.flat, whole.agent.optimizer.flat)
    expected, found = saved(whole.agent), saved(fresh)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert fresh.generator.bit_generator.state == whole.agent.generator.bit_generator.state


class Dropping(nn.Module):
    """Draws while it learns."""

    def __init__(self, input_shape: tuple[int, ...], **options: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*input_shape, 8), nn.Dropout(0.5))

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows)


# Optimizers that are not ours


def foreign(parameters: list[nn.Parameter], factory: Any) -> Optimizer:
    return Optimizer(
        {"actor": parameters},
        rule=lambda vector, decay: TorchRule(vector, factory=factory, weight_decay=decay),
        default=Group(schedule("constant", 0.01, 0.0), weight_decay=0.0, frozen_until=0),
        groups={},
        max_grad_norm=1.0,
    )


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 4)


def descend(module: nn.Module, optimizer: Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        gradients = torch.autograd.grad(module(rows).square().mean(), list(module.parameters()))
        taken, _, clipped = optimizer.clip(gradients, None)
        optimizer.step(taken, clipped, optimizer.pace(0.0, 0))


@pytest.mark.parametrize("factory", FOREIGN.values(), ids=FOREIGN)
def test_optimizers_of_any_class_go_on_exactly(factory) -> None:
    whole, half, fresh = network(), network(), network()
    optimizers = [foreign(list(each.parameters()), factory) for each in (whole, half, fresh)]
    descend(whole, optimizers[0], 0, 8)
    descend(half, optimizers[1], 0, 4)
    kept = saved(optimizers[1])
    assert kept
    before = copy.deepcopy(kept)
    fresh.load_state_dict(half.state_dict())
    optimizers[2].load_state_dict(kept)
    copied = copy.deepcopy((fresh, optimizers[2]))
    descend(fresh, optimizers[2], 4, 8)
    for expected, found in zip(whole.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(expected, found)
    for name, tensor in saved(optimizers[0]).items():
        assert torch.equal(saved(optimizers[2])[name], tensor), name
    for name, tensor in before.items():
        assert torch.equal(kept[name], tensor), f"{name}: what was loaded is not written to"
    copied[1].repack()
    descend(*copied, 4, 8)
    for expected, found in zip(whole.parameters(), copied[0].parameters(), strict=True):
        assert torch.equal(expected, found)


class Momentum(torch.optim.Optimizer):
    """Keeps Python numbers, and changes one of its options as it goes, as Prodigy does."""

    def __init__(self, parameters, lr: float) -> None:
        options = {"lr": lr, "growth": 1.0, "uses": 0}
        super().__init__(parameters, options)

    def step(self, closure=None) -> None:
        (group,) = self.param_groups
        (parameter,) = group["params"]
        state = self.state[parameter]
        state["count"] = state.get("count", 0) + 1
        state["rate"] = 0.9 * state.get("rate", 1.0) + 1e-9
        group["growth"] *= 1.1
        group["uses"] += 1
        factor = group["lr"] * state["rate"] * group["growth"] / (state["count"] + group["uses"])
        parameter.data.sub_(factor * parameter.grad)


def test_numbers_and_options_that_an_optimizer_changes_are_kept() -> None:
    test_optimizers_of_any_class_go_on_exactly(Momentum)
    module = network()
    optimizer = foreign(list(module.parameters()), Momentum)
    descend(module, optimizer, 0, 2)
    kept = {name: tensor.item() for name, tensor in saved(optimizer).items()}
    assert kept == {
        "rules.0.number.count": 2,
        "rules.0.number.rate": pytest.approx(0.81, abs=1e-8),
        "rules.0.option.growth": 1.1 * 1.1,
        "rules.0.option.uses": 2,
    }


class Hoarder(Momentum):
    def step(self, closure=None) -> None:
        super().step()
        self.state[self.param_groups[0]["params"][0]]["past"] = [1.0]


def test_what_no_checkpoint_can_hold_is_refused_in_words() -> None:
    module = network()
    optimizer = foreign(list(module.parameters()), Hoarder)
    descend(module, optimizer, 0, 1)
    with pytest.raises(ValueError, match=r"Hoarder keeps a list \(past\), which no checkpoint"):
        optimizer.state_dict()


def test_loading_what_was_never_stepped_starts_anew() -> None:
    module, other = network(), network()
    fresh = saved(foreign(list(other.parameters()), torch.optim.NAdam))
    optimizer = foreign(list(module.parameters()), torch.optim.NAdam)
    descend(module, optimizer, 0, 3)
    assert fresh == {}
    optimizer.load_state_dict(fresh)
    assert optimizer.state_dict() == {}


def test_state_of_another_optimizer_is_refused(build) -> None:
    foreign = ["optimizer._target_=torch.optim.NAdam"]
    ours, theirs = build().agent, build(*foreign).agent
    train(build(*foreign), theirs, 1)
    for agent, state in ((theirs, saved(ours)), (ours, saved(theirs))):
        with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"optimizer"):
            agent.load_state_dict(state)
