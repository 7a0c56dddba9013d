"""Acting: mirrors act as PyTorch does, with the weights of the moment, on one generator's noise."""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from networks.memory import GTrXL
from tests.agents.conftest import act_in_torch, has_mirror
from tests.playing import evaluate

RUNS = {
    "mlp": ["memory=none"],
    "rnn": ["memory=rnn"],
    "relu": ["memory=rnn", "memory.nonlinearity=relu"],
    "gru": ["memory=gru", "memory.num_layers=2"],
    "lstm": ["memory=lstm", "memory.num_layers=2"],
    "mingru": ["memory=mingru", "memory.num_layers=2"],
    "lru": ["memory=lru", "memory.hidden_size=5"],
    "mlstm": ["memory=mlstm"],
    "gtrxl": ["memory=gtrxl", "memory.window=3"],
    "normalized": ["memory=lstm", "normalize_observations=true"],
    "box": ["memory=gru", "env.id=neurl/ContinuousTarget-v0"],
    "codes": ["memory=lstm", "env.id=neurl/Recall-v0", "+env.kwargs.discrete_observation=true"],
}


@pytest.fixture(params=RUNS)
def run(request, build) -> SimpleNamespace:
    """An agent whose policy is far from uniform, after some training."""
    run = build(*RUNS[request.param], "policy_head.gain=1.0", "optimizer.learning_rate=0.01")
    for _ in range(2):
        run.agent.learn(run.collector.collect(run.agent))
    return run


def play(run, act, steps: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Actions and states of an agent that acts through `act`, in environments begun anew."""
    environments, run.agent.generator = run.environments, np.random.default_rng(7)
    observations, _ = environments.reset(seed=[1, 2, 3])
    is_first, ended = np.ones(3, bool), np.zeros(3, bool)
    state, actions, states = run.agent.initial_state(3), [], []
    opened = 0
    for _ in range(steps):
        chosen, state = act(np.array(observations), state, is_first, explore=True)
        actions.append(chosen)
        states.append(state)
        sent = run.agent.policy_head.to_environment(chosen)
        observations, _, terminated, truncated, _ = environments.step(sent)
        is_first, ended = ended, terminated | truncated
        opened += is_first.sum()
    assert opened > 3
    return np.stack(actions), np.stack(states)


def test_mirror_acts_like_torch_through_resets(run) -> None:
    assert has_mirror(run.agent) != isinstance(run.agent.actor.memory, GTrXL)  # acts in torch
    actions, states = play(run, run.agent.act)
    expected_actions, expected_states = play(run, functools.partial(act_in_torch, run.agent))
    assert actions.dtype == expected_actions.dtype
    torch.testing.assert_close(actions, expected_actions, rtol=0, atol=1e-5)
    torch.testing.assert_close(states, expected_states, rtol=0, atol=1e-5)
    assert len(np.unique(actions)) > 1


def look(run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    observations, _ = run.environments.reset(seed=[1, 2, 3])
    size = run.agent.actor.memory.state_size
    state = np.linspace(-0.9, 0.9, 3 * size, dtype=np.float32).reshape(3, size)
    return np.array(observations), state, np.zeros(3, bool)


def assert_acts_with_current_weights(agent, seen) -> None:
    found = agent.act(*seen, explore=False)
    expected = act_in_torch(agent, *seen, explore=False)
    for tensor, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, reference, rtol=0, atol=1e-5)


def test_acting_follows_training_loading_and_moving(run, build) -> None:
    agent, seen = run.agent, look(run)
    agent.act(*seen, explore=False)  # whatever acting keeps is kept from here on
    agent.learn(run.collector.collect(agent))
    assert_acts_with_current_weights(agent, seen)

    weights = {name: value.clone() for name, value in agent.state_dict().items()}
    for name, value in weights.items():
        if name.startswith(("actor.extractor", "actor.memory", "policy_head")):
            value.mul_(-0.5)
    agent.load_state_dict(weights)
    assert_acts_with_current_weights(agent, seen)

    agent.to(torch.float64).to(torch.float32)  # every parameter has new storage, twice
    assert_acts_with_current_weights(agent, seen)
    before = [parameter.detach().clone() for parameter in agent.actor.parameters()]
    agent.learn(run.collector.collect(agent))
    assert not all(map(torch.equal, agent.actor.parameters(), before))
    assert_acts_with_current_weights(agent, seen)


def test_networks_without_mirror_act_in_torch(build) -> None:
    run = build("memory=lstm", "extractor.activation=gelu")
    assert not has_mirror(run.agent)
    assert run.agent.act(*look(run), explore=True)[0].shape == (3,)


def test_the_generator_alone_decides_and_exploration_can_be_off(build) -> None:
    run = build("memory=gru", "env.id=neurl/ContinuousTarget-v0")
    agent, seen = run.agent, look(run)
    draws = []
    for _ in range(2):
        with agent.using(np.random.default_rng(5)):
            draws.append(agent.act(*seen, explore=True)[0].copy())
    torch.manual_seed(1)
    modes = [agent.act(*seen, explore=False)[0].copy() for _ in range(2)]
    assert np.array_equal(*draws)
    assert np.array_equal(*modes)
    assert not np.array_equal(draws[0], modes[0])


def test_borrowed_generator_is_given_back_even_after_an_error(build) -> None:
    agent = build().agent
    own = agent.generator
    with pytest.raises(RuntimeError, match="broken"), agent.using(np.random.default_rng(5)):
        assert agent.generator is not own
        raise RuntimeError("broken")
    assert agent.generator is own


@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluation_leaves_no_trace(build, deterministic: bool) -> None:
    run = build("memory=lstm", "normalize_observations=true", "normalize_rewards=true")
    agent = run.agent
    agent.learn(run.collector.collect(agent))
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    drawn = agent.generator.bit_generator.state
    other = build("memory=lstm")
    evaluate(
        agent,
        other.environments,
        episodes=4,
        seeds=[1, 2, 3],
        generator=np.random.default_rng(0),
        deterministic=deterministic,
    )
    assert agent.generator.bit_generator.state == drawn
    assert not agent.training
    for name, value in agent.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    "words",
    [
        ["memory=lstm"],
        ["agent=dqn"],
        ["agent=dqn", "agent.prioritized=true"],
        ["agent=dqn", "memory=gru", "agent.sequence_length=4"],
    ],
)
def test_a_deep_copy_acts_and_learns_apart(build, words) -> None:
    run = build(*words)
    while run.collector.env_steps < 48:
        run.agent.learn(run.collector.collect(run.agent))
    run.agent.learn(run.collector.collect(run.agent))  # the mirror exists by now
    copied = copy.deepcopy(run.agent)
    before = {name: tensor.clone() for name, tensor in run.agent.state_dict().items()}
    seen = look(run)
    copied.learn(run.collector.collect(run.agent))
    for name, tensor in run.agent.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not torch.equal(copied.optimizer.flat, run.agent.optimizer.flat)
    assert_acts_with_current_weights(copied, seen)
    weights = [parameter.clone() for parameter in copied.optimizer.trainable]
    copied.optimizer.flat.add_(1.0)  # its parameters are views of its own vector
    for parameter, weight in zip(copied.optimizer.trainable, weights, strict=True):
        assert torch.equal(parameter, weight + 1.0)
