"""Masks of legal actions: in acting, in what is learnt from, and in targets, with any memory."""

from typing import Any

import numpy as np
import pytest
import torch

import neurl
from networks.observations import ACTION_MASK, mask_of
from tests.agents.conftest import targets_of
from tests.doors import MASKED, TWO, Doors

ILLEGAL = 40.0
RANDOM = np.random.default_rng(0)
GRU = ["memory=gru", "memory.hidden_size=4"]
ON_POLICY = ["agent.rollout_length=12"]
REPLAYED = ["agent.sequence_length=4", "agent.replay_ratio=0.25", "agent.learning_starts=36"]
AGENTS: dict[str, list[str]] = {
    "ppo": ["agent=ppo", *ON_POLICY],
    "a2c": ["agent=a2c", *ON_POLICY],
    "pqn": ["agent=pqn", *ON_POLICY],
    "dqn": ["agent=dqn", "agent.double_q=false", *REPLAYED],
    "double dueling": ["agent=dqn", "agent.double_q=true", "agent.dueling=true", *REPLAYED],
    "noisy": ["agent=dqn", "agent.noisy=true", *REPLAYED],
    "c51": ["agent=dqn", "value_head=c51", *REPLAYED],
    "quantile": ["agent=dqn", "value_head=quantile", "agent.n_step=2", *REPLAYED],
    "sac": ["agent=sac", "agent.train_frequency=4", "policy_head.hidden_sizes=[8]", *REPLAYED],
}  # fmt: skip


@pytest.fixture
def run(build):
    """Build an agent in front of doors, of which the closed ones raise."""
    return lambda name, *words: build(*AGENTS[name], *MASKED, *words)


@pytest.mark.parametrize("words", [[TWO], GRU], ids=["two corridors", "gru"])
@pytest.mark.parametrize("name", AGENTS)
def test_no_agent_ever_tries_a_closed_door(run, name: str, words: list[str]) -> None:
    """Exploring, warming up, learning, and deterministic in the end."""
    made = run(name, *words)
    agent, collector = made.agent, made.collector
    reports = []
    for total in range(1, 9):
        agent.update_progress(collector.env_steps, total_env_steps=200)
        collector.explores = total < 7
        reports.append(agent.learn(collector.collect(agent)))
    assert sum(report["update/steps"].item() for report in reports) > 0
    assert not any(report["update/skipped"].item() for report in reports)
    for tag, value in reports[-1].items():
        assert value.isnan() or value.abs() < 1e6, tag  # no value of an illegal action


@pytest.mark.parametrize("name", ["dqn", "c51", "sac"])
def test_windows_hold_the_masks_of_their_observations(run, name: str) -> None:
    made = run(name)
    for _ in range(16):
        made.agent.learn(made.collector.collect(made.agent))
    window = made.agent.experience().sample(64, RANDOM, importance_exponent=0.0).window
    seen, mask = window.observations["actor."], window.observations[ACTION_MASK]
    assert mask.dtype == torch.bool
    is_over = torch.cat([torch.zeros_like(window.is_first[:1]), window.terminated])
    known = ~is_over
    assert torch.equal(mask[known], seen[known] > 0)
    assert mask[is_over].all()


def dominate(agent: Any, action: int) -> None:
    """Make an action worth far more than all others, whatever is seen."""
    head = agent.networks.value_head
    output = head.layers.actions.output
    with torch.no_grad():
        output.weight.zero_()
        output.bias.zero_()
        output.bias.view(6, -1)[action] = ILLEGAL
    agent.learner.weights_replaced()


@pytest.mark.parametrize("name", ["dqn", "double dueling", "quantile"])
def test_targets_are_of_legal_actions(run, name: str) -> None:
    """Values are 40 for the last door and 0 (dueling: -6.67) for the others."""
    made = run(name, "agent.dueling=false", "agent.discount=0.5")
    for _ in range(16):
        made.agent.learn(made.collector.collect(made.agent))
    agent, learner = made.agent, made.agent.learner
    dominate(agent, 5)
    window = agent.experience().sample(64, RANDOM, importance_exponent=0.0).window
    bootstrap = learner.bootstrap(window)
    legal = agent.networks.legal(window.observations, bootstrap.steps)
    best = torch.where(legal[..., 5], ILLEGAL, 0.0)
    expected = bootstrap.rewards + bootstrap.discounts * best
    found = targets_of(agent, window)
    found = found.mean(-1) if name == "quantile" else found
    torch.testing.assert_close(found, expected)
    assert {0.0, ILLEGAL} == set(best.flatten().tolist())


def test_returns_of_pqn_are_of_legal_actions(run) -> None:
    made = run("pqn", "agent.td_lambda=0.0", "agent.discount=0.5", "agent.dueling=false")
    dominate(made.agent, 5)
    trajectory = made.collector.collect(made.agent)
    batch, metrics = made.agent.prepare(trajectory)
    is_open = mask_of(trajectory.observations)[1:, :, 5] & ~trajectory.terminated
    expected = trajectory.rewards + 0.5 * ILLEGAL * is_open
    torch.testing.assert_close(batch.returns.view(expected.shape), expected)
    assert metrics["value/max"] in (0.0, ILLEGAL)


def test_probabilities_of_the_rollout_are_those_of_acting(run) -> None:
    """Log-probabilities and entropy by hand, of a softmax over the open doors alone."""
    made = run("ppo", "policy_head.gain=1.0")
    agent = made.agent
    trajectory = made.collector.collect(agent)
    batch, _ = agent.prepare(trajectory)
    with torch.no_grad():
        summary = agent.actor.features(trajectory.step_observations)
        logits = agent.policy_head.linear(summary)
        weights = logits.exp() * mask_of(trajectory.step_observations)
        chosen = weights.gather(-1, trajectory.actions[..., None])[..., 0]
    expected = (chosen / weights.sum(-1)).log()
    torch.testing.assert_close(batch.old_log_probs.view(expected.shape), expected)
    everything = torch.arange(batch.valid.shape[1])
    metrics = agent.losses(batch, everything, **agent.scheduled()).metrics
    assert metrics["policy/approximate_kl"].abs() < 1e-6  # nothing has changed since
    shares = weights / weights.sum(-1, keepdim=True)
    entropies = -(shares * shares.clamp(min=1e-30).log()).sum(-1)[trajectory.valid]
    torch.testing.assert_close(metrics["policy/entropy"], entropies.mean())


def test_sac_asks_for_entropy_among_legal_actions(run) -> None:
    """With one open door there is none: the temperature must not rise."""
    made = run("sac")
    for _ in range(16):
        made.agent.learn(made.collector.collect(made.agent))
    window = made.agent.experience().sample(64, RANDOM, importance_exponent=0.0).window
    alone = torch.zeros_like(mask_of(window.observations))
    alone[..., 2] = True
    window.observations[ACTION_MASK] = alone
    window.actions[:] = 2
    with torch.no_grad():
        made.agent.temperature.log.fill_(1.0)
        losses = made.agent.losses(window, None, made.agent.noise())
    assert losses.losses["temperature"] == 0.0
    assert losses.metrics["policy/entropy"] == 0.0


def test_targets_of_sac_are_of_legal_actions(run) -> None:
    """With one open door the value of the next observation is that door's, without entropy."""
    made = run("sac")
    for _ in range(16):
        made.agent.learn(made.collector.collect(made.agent))
    agent, learner = made.agent, made.agent.learner
    window = agent.experience().sample(64, RANDOM, importance_exponent=0.0).window
    alone = torch.zeros_like(mask_of(window.observations))
    alone[..., 2] = True
    window.observations[ACTION_MASK] = alone
    noise = agent.noise()
    found = agent.detached(agent.following, window, noise, alone)
    _, head = learner.target_network.copies
    with torch.no_grad():
        outputs = head(learner.target_summary(window, found.bootstrap.steps))
    values = head.value(outputs).amin(2)
    torch.testing.assert_close(found.outputs, values[..., 2])
    torch.testing.assert_close(found.bootstrap.rewards, learner.bootstrap(window).rewards)


def test_a_frozen_extractor_leaves_the_masks_to_the_gradient_steps(run) -> None:
    made = run("ppo", "extractor.freeze=true")
    trajectory = made.collector.collect(made.agent)
    batch, _ = made.agent.prepare(trajectory)
    assert batch.actor_features is not None
    assert torch.equal(
        batch.legal.flatten(0, 1), mask_of(trajectory.step_observations).flatten(0, 1)
    )


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_mask_is_read_once(run, name: str, monkeypatch) -> None:
    """Of a rollout, for all its gradient steps; of replayed windows, in their gradient step."""
    made = run(name)
    agent, read = made.agent, []
    for _ in range(16 if name == "sac" else 1):
        trajectory = made.collector.collect(agent)
        if name == "sac":
            agent.learn(trajectory)
    legal = agent.policy_head.legal
    monkeypatch.setattr(agent.policy_head, "legal", lambda mask: read.append(mask) or legal(mask))
    if name == "sac":
        window = agent.experience().sample(8, RANDOM, importance_exponent=0.0).window
        agent.losses(window, None, agent.noise())
    else:
        agent.learn(trajectory)
    assert len(read) == 1


@pytest.mark.parametrize("words", [["agent=ppo"], ["agent=dqn", "agent.learning_starts=200"]])
def test_the_best_open_door_is_learnt(words: list[str]) -> None:
    """Open doors average 2.5; the largest of those that are open, 4.1."""
    env, steps = Doors(), 2_000
    policy = neurl.build(
        *words, "env.action_mask=true", "extractor=flatten", "optimizer.learning_rate=0.02", env=env
    )
    neurl.fit(policy, env, env_steps=steps)
    chosen, best = [], []
    for seed in range(20):
        seen, info = env.reset(seed=seed)
        ended = False
        while not ended:
            action = policy.predict(seen, action_mask=info["action_mask"])
            chosen.append(action - 3)
            best.append(np.flatnonzero(seen).max())
            seen, _, ended, _, info = env.step(action)
    assert np.mean(chosen) > np.mean(best) - 0.15
