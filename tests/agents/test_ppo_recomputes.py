"""What `learn` recomputes is what acting saw: log-probabilities and values noted while acting."""

import copy
from types import SimpleNamespace

import pytest
import torch

from agents.learning.sequences import to_sequences
from agents.mathematics.returns import lambda_returns

LSTM = ["memory=lstm", "memory.num_layers=2"]
RUNS = {
    "mlp": ["memory=none"],
    "gru": ["memory=gru"],
    "gru_cut": ["memory=gru", "memory.sequence_length=4"],
    "rnn": ["memory=rnn", "memory.num_layers=2"],
    "lstm": LSTM,
    "mingru": ["memory=mingru", "memory.num_layers=2"],
    "lru_cut": ["memory=lru", "memory.sequence_length=3"],
    "mlstm_shared": ["memory=mlstm", "share_backbone=true", "memory.sequence_length=6"],
    "gtrxl": ["memory=gtrxl", "memory.window=5", "memory.sequence_length=6"],
    "lstm_cut": [*LSTM, "memory.sequence_length=3"],
    "lstm_shared": [*LSTM, "share_backbone=true", "memory.sequence_length=6"],
    "lstm_normalized": [*LSTM, "normalize_observations=true", "memory.sequence_length=4"],
    "mlp_normalized": ["normalize_observations=true", "normalize_rewards=true"],
    "box": ["memory=gru", "env.id=neurl/ContinuousTarget-v0", "policy_head.initial_log_std=1.0"],
    "codes": [*LSTM, "env.id=neurl/Recall-v0", "+env.kwargs.discrete_observation=true"],
}


class ActingSpy:
    """Notes, at every step of acting, the action's log-probability and the observation's value."""

    def __init__(self, agent) -> None:
        self.agent, self._act = agent, agent.act
        self.critic_state = agent.networks.critic.memory.initial_state(3)
        self.log_probs: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        agent.act = self

    @torch.no_grad()
    def __call__(self, observations, state, is_first, *, explore):
        actions, after = self._act(observations, state, is_first, explore=explore)
        agent = self.agent
        rows, first = torch.from_numpy(observations)[None], torch.from_numpy(is_first)[None]
        summary, _ = agent.actor(rows, torch.from_numpy(state), first)
        taken = torch.from_numpy(actions)
        self.log_probs.append(agent.policy_head(summary[0]).log_prob(taken))
        if not agent.networks.shares_backbone:
            summary, self.critic_state = agent.critic(rows, self.critic_state, first)
        self.values.append(agent.value_head(summary[0]))
        return actions, after

    def take(self) -> tuple[torch.Tensor, torch.Tensor]:
        taken = torch.stack(self.log_probs), torch.stack(self.values)
        self.log_probs, self.values = [], []
        return taken


@pytest.fixture(params=RUNS)
def run(request, build) -> SimpleNamespace:
    """Large steps, so that weights, and with them what acting sees, differ between rollouts."""
    return build(
        *RUNS[request.param],
        "agent.num_minibatches=1",
        "optimizer.learning_rate=0.01",
        "policy_head.gain=1.0",
    )


def test_ratio_is_one_before_the_first_step(run, spy_on_steps) -> None:
    agent, acting = run.agent, ActingSpy(run.agent)
    length = agent.learner.sequence_length
    checked, rollouts = [], []

    def check_first(batch, sequences, **_) -> None:
        if len(checked) == len(rollouts):
            return
        log_probs, values = (to_sequences(noted, length)[:, sequences] for noted in acting.take())
        chosen = batch.select(sequences)
        with torch.no_grad():
            summary, _ = agent.actor(chosen.observations, chosen.actor_state[0], chosen.is_first)
            new = agent.policy_head(summary).log_prob(chosen.actions)
            if not agent.networks.shares_backbone:
                summary, _ = agent.critic(
                    chosen.observations, chosen.critic_state[0], chosen.is_first
                )
        for found in (new, chosen.old_log_probs):
            ratio = (found - log_probs).exp()
            torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)
        for found in (agent.value_head(summary), chosen.old_values):
            torch.testing.assert_close(found, values, rtol=0, atol=1e-5)
        checked.append(len(sequences))

    spy_on_steps(agent, check_first)
    for rollout in range(3):
        rollouts.append(rollout)
        agent.learn(run.collector.collect(agent))
    assert checked == [12 // length * 3] * 3  # every sequence, in every rollout


def test_advantages_are_returns_of_the_values_noted_minus_these_values(run) -> None:
    agent, acting = run.agent, ActingSpy(run.agent)
    agent.learn(run.collector.collect(agent))  # states are carried into the second rollout
    acting.take()
    trajectory = run.collector.collect(agent)
    _, values = acting.take()
    with torch.no_grad():
        state = acting.critic_state
        if agent.networks.shares_backbone:
            state = torch.from_numpy(run.collector._state)
        critic = agent.networks.critic
        summary, _ = critic(trajectory.observations[-1:], state, trajectory.is_first[-1:])
        next_values = torch.cat([values[1:], agent.value_head(summary)])
    batch, _ = agent.prepare(trajectory)
    rewards = trajectory.rewards
    if run.config.normalize_rewards:
        rewards = (rewards * agent.learner.reward_scaling.statistics.scale).clamp(-10, 10)
    returns = lambda_returns(
        rewards,
        next_values,
        trajectory.terminated,
        trajectory.truncated,
        discount=run.config.agent.discount,
        gae_lambda=run.config.agent.gae_lambda,
    )
    expected = [
        to_sequences(part, agent.learner.sequence_length) for part in (returns, returns - values)
    ]
    torch.testing.assert_close([batch.returns, batch.advantages], expected, rtol=0, atol=1e-4)


def test_first_update_reports_no_change_of_policy(build) -> None:
    run = build(*LSTM, "agent.num_minibatches=1", "agent.num_epochs=1")
    metrics = run.agent.learn(run.collector.collect(run.agent))
    assert metrics["policy/approximate_kl"].item() == pytest.approx(0, abs=1e-8)
    assert metrics["policy/clip_fraction"].item() == 0
    assert metrics["loss/policy"].item() == pytest.approx(0, abs=1e-5)  # advantages have mean 0
    assert metrics["update/steps"].item() == 1


@pytest.mark.parametrize("shared", ["true", "false"])
def test_first_update_values_what_it_recomputed(build, shared: str) -> None:
    """Each memory from its own state: the first loss is that of the values before it."""
    run = build(
        "memory=lstm", f"share_backbone={shared}", "memory.sequence_length=4",
        "agent.num_minibatches=1", "agent.num_epochs=1", "optimizer.learning_rate=0.01",
    )  # fmt: skip
    run.agent.learn(run.collector.collect(run.agent))  # states are carried into the next one
    trajectory = run.collector.collect(run.agent)
    batch, _ = copy.deepcopy(run.agent).prepare(trajectory)
    errors = (batch.old_values - batch.returns).square()[batch.valid]
    metrics = run.agent.learn(trajectory)
    assert metrics["loss/value"].item() == pytest.approx(errors.mean().item(), rel=1e-5)


def test_statistics_move_at_the_end_of_learning_by_valid_observations_only(
    build, spy_on_steps
) -> None:
    run = build("normalize_observations=true", "env.id=neurl/Counting-v0")
    normalization = run.agent.actor.normalization
    assert normalization is run.agent.critic.normalization
    seen, counts = [], []
    spy_on_steps(run.agent, lambda *_, **__: counts.append(normalization.count.item()))
    for _ in range(3):
        trajectory = run.collector.collect(run.agent)
        before = sum(map(len, seen))
        assert normalization.count.item() == before  # not by acting
        run.agent.learn(trajectory)
        assert set(counts) == {before}  # nor while learning
        counts.clear()
        seen.append(trajectory.observations[:-1][trajectory.valid].clone())
    rows = torch.cat(seen).double()
    torch.testing.assert_close(normalization.mean, rows.mean(0))
    torch.testing.assert_close(normalization.variance, rows.var(0, correction=0))
