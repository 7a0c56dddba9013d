"""Chains: the same numbers as the modules, from the parameters that the modules have now."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from conf.composing.command_line import load
from networks.chain import value_chain
from networks.extractors.mlp import MLP
from training.building.build import build_agent

VECTOR, ACTIONS = spaces.Box(-1, 1, (4,)), spaces.Discrete(3)
SMALL = ["extractor.hidden_sizes=[8,5]"]
CHAINS = {
    "values": SMALL,
    "huber": [*SMALL, "value_head=huber"],
    "a head with layers": [*SMALL, "value_head.hidden_sizes=[6]"],
    "relu": [*SMALL, "extractor.activation=relu"],
    "layer norm": [*SMALL, "extractor.normalization=layer"],
    "no layers": ["extractor=flatten"],
    "c51": [*SMALL, "value_head=c51"],
}
OTHERS = {
    "values of states": ["agent=ppo", "agent.num_minibatches=1", *SMALL],
    "memory": [*SMALL, "memory=gru"],
    "dueling": [*SMALL, "agent.dueling=true"],
    "noisy": [*SMALL, "agent.noisy=true"],
    "half precision": [*SMALL, "precision=bf16"],
    "frozen": [*SMALL, "extractor.freeze=true"],
    "normalised": [*SMALL, "normalize_observations=true"],
}


def build(*words: str, space: Any = VECTOR) -> Any:
    agent = [] if words[0].startswith("agent=") else ["agent=dqn"]
    config = load([*agent, "device=cpu", "env.num_envs=1", *words])
    return build_agent(config, space, ACTIONS, num_envs=1)


def by_modules(backbone: Any, head: Any, observations: Tensor) -> Tensor:
    state = torch.zeros(observations.shape[1], 0)
    is_first = torch.zeros(observations.shape[:2], dtype=torch.bool)
    summary, _ = backbone(observations, state, is_first)
    return head(summary)


def gradients(output: Tensor, networks: Any) -> list[Tensor]:
    parameters = [*networks.critic.parameters(), *networks.value_head.parameters()]
    return list(torch.autograd.grad(output.square().sum(), parameters))


@pytest.mark.parametrize("words", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("shape", [(4,), (2, 2)], ids=["vector", "table"])
def test_a_chain_computes_what_the_modules_do_bit_for_bit(words, shape) -> None:
    networks = build(*words, space=spaces.Box(-1, 1, shape)).networks
    chain = value_chain(networks.critic, networks.value_head)
    # A table of numbers is reshaped by its input.
    assert (chain is None) == (shape == (2, 2))
    if chain is None:
        return
    rows = torch.randn(2, 6, *shape)
    found, expected = (
        chain(rows, slice(None)),
        by_modules(networks.critic, networks.value_head, rows),
    )
    assert torch.equal(found, expected)
    assert found.requires_grad
    for own, other in zip(gradients(found, networks), gradients(expected, networks), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("words", OTHERS.values(), ids=OTHERS)
def test_what_is_more_than_a_chain_has_none(words) -> None:
    networks = build(*words).networks
    assert value_chain(networks.critic, networks.value_head) is None


class Residual(MLP):
    """A user's subclass with a `forward` of its own."""

    def forward(self, observations: Tensor) -> Tensor:
        return -super().forward(observations)


def test_a_forward_of_ones_own_is_what_acts_and_learns() -> None:
    agent = build(*SMALL, f"extractor._target_={__name__}.Residual", "trusted_packages=[tests]")
    networks = agent.networks
    assert type(networks.actor.extractor) is Residual
    assert value_chain(networks.critic, networks.value_head) is None
    rows = torch.randn(1, 50, 4)
    expected = by_modules(networks.critic, networks.value_head, rows)[0].argmax(-1)
    state, is_first = agent.initial_state(50), np.zeros(50, bool)
    actions, _ = agent.act(rows[0].numpy(), state, is_first, explore=False)
    assert actions.tolist() == expected.tolist()
    assert len(set(actions.tolist())) > 1


def test_a_single_action_has_an_axis() -> None:
    config = load(["agent=dqn", "device=cpu", "env.num_envs=1", *SMALL])
    networks = build_agent(config, VECTOR, spaces.Discrete(1), num_envs=1).networks
    chain = value_chain(networks.critic, networks.value_head)
    rows = torch.randn(1, 6, 4)
    assert chain is not None
    assert torch.equal(
        chain(rows, slice(None)), by_modules(networks.critic, networks.value_head, rows)
    )


def test_whole_numbers_are_cast_by_their_input() -> None:
    networks = build(*SMALL, space=spaces.Box(0, 9, (4,), "uint8")).networks
    assert value_chain(networks.critic, networks.value_head) is None


def learn(agent: Any, seed: int) -> None:
    """A few gradient steps on steps drawn at random."""
    from tests.agents.conftest import make_trajectory

    draws = torch.Generator().manual_seed(seed)
    for _ in range(30):
        agent.learn(
            make_trajectory(
                torch.randn(5, 1, 4, generator=draws),
                torch.randint(3, (4, 1), generator=draws),
                torch.randn(4, 1, generator=draws),
            )
        )


@pytest.mark.parametrize("renewed", ["copied", "converted"])
def test_an_agent_learns_by_its_own_parameters_after_it_was_renewed(renewed: str) -> None:
    words = (*SMALL, "agent.learning_starts=8", "agent.batch_size=4", "agent.buffer_size=64")
    reference, agent = build(*words), build(*words)
    if renewed == "copied":
        original, agent = agent, copy.deepcopy(agent)
    else:
        agent = agent.to(torch.float64).to(torch.float32)
    learn(reference, 0)
    learn(agent, 0)
    assert reference.learner.clock.updates > 5
    assert torch.equal(agent.optimizer.flat, reference.optimizer.flat)
    if renewed == "copied":
        assert torch.equal(original.optimizer.flat, build(*words).optimizer.flat)
