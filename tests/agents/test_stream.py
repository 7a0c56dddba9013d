"""A memory that counts reads environments that count: wherever states go, the two must agree.

`neurl/Counting-v0` shows `[episode, step]`; the memory counts steps since `is_first`. Episodes have
one to nine steps, so they begin and end at every place of rollouts and sequences.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from agents.learning.sequences import to_sequences
from tests.agents.conftest import COUNTING
from tests.playing import evaluate
from training.stream.collect import Collector

ROLLOUT = 12
LENGTHS = ([3, 5, 2], [1, 4], [1, 1, 9])
OFFSETS = (0, 100, 200)


@pytest.fixture(params=["shared", "separate"])
def sharing(request) -> str:
    return request.param


@pytest.fixture
def run(request, counting, sharing: str, build) -> SimpleNamespace:
    length = getattr(request, "param", 4)
    shares = f"share_backbone={str(sharing == 'shared').lower()}"
    return build(*COUNTING, f"memory.sequence_length={length}", shares, environments=counting)


@pytest.fixture
def agent(run):
    return run.agent


@pytest.fixture
def collector(run) -> Collector:
    return run.collector


@pytest.fixture
def memories(agent) -> list[Any]:
    return [backbone.memory for backbone in agent.networks.backbones.values()]


def assert_counts_before(state, observations, is_first) -> None:
    """The state counts the steps up to these observations, unless they open an episode."""
    assert torch.equal(state[~is_first], observations[..., 1:][~is_first])


def states_of(batch) -> list[torch.Tensor]:
    """Before each sequence, of every memory."""
    return [state for state in (batch.actor_state, batch.critic_state) if state is not None]


def test_collected_steps_belong_together(agent, collector) -> None:
    finished = torch.zeros(3, dtype=torch.int64)
    for _ in range(5):
        trajectory = collector.collect(agent)
        before, after = trajectory.observations[:-1], trajectory.observations[1:]
        valid, ended = trajectory.valid, trajectory.ended
        # A valid step leads on in its episode, an invalid one to the next episode's first.
        assert torch.equal(after[valid], before[valid] + torch.tensor([0.0, 1.0]))
        assert torch.equal(after[~valid][:, 0], before[~valid][:, 0] + 1)
        assert not after[~valid][:, 1].any()
        assert torch.equal(trajectory.is_first, trajectory.observations[..., 1] == 0)
        assert (trajectory.rewards[valid] == 1).all()
        assert torch.equal(~valid[1:], ended[:-1])
        for environment, (lengths, offset) in enumerate(zip(LENGTHS, OFFSETS, strict=True)):
            for step in ended[:, environment].nonzero().flatten().tolist():
                episode, length = after[step, environment].tolist()
                assert episode == offset + finished[environment]
                assert length == lengths[int(episode) % len(lengths)]
                finished[environment] += 1
    assert collector.env_steps == 5 * ROLLOUT * 3 - finished.sum() + ended[-1].sum()


def test_acting_counts_across_rollouts(agent, collector, memories) -> None:
    for _ in range(5):
        trajectory = collector.collect(agent)
        assert_counts_before(trajectory.state, trajectory.observations[0], trajectory.is_first[0])
    assert memories[0].steps == 5 * ROLLOUT * 3
    assert memories[0].disagreements == []


@pytest.mark.parametrize("run", [1, 2, 4, 12], indirect=True, ids=lambda length: f"length{length}")
def test_states_are_those_before_each_sequence(agent, collector) -> None:
    for _ in range(4):
        trajectory = collector.collect(agent)
        batch, _ = agent.prepare(trajectory)
        for state in states_of(batch):
            assert state.shape == (1, ROLLOUT // agent.learner.sequence_length * 3, 1)
            assert_counts_before(state[0], batch.observations[0], batch.is_first[0])


@pytest.mark.parametrize("run", [1, 4, 12], indirect=True, ids=lambda length: f"length{length}")
def test_minibatches_count_like_the_environments(agent, collector, memories, spy_on_steps) -> None:
    spy = spy_on_steps(agent)
    for _ in range(4):
        agent.learn(collector.collect(agent))
        for call in spy.calls:  # now: the next rollout overwrites this one
            batch, sequences = call.inputs
            chosen = batch.select(sequences)
            for state in states_of(chosen):
                assert_counts_before(state[0], chosen.observations[0], chosen.is_first[0])
        spy.calls.clear()
    # Acting, the unroll, the last value, and every sequence in each of two passes.
    rows = {"actor": ROLLOUT * 3, "unroll": ROLLOUT * 3, "passes": 2 * ROLLOUT * 3}
    if len(memories) == 1:
        assert memories[0].steps == 4 * (sum(rows.values()) + 3)
    else:
        assert memories[0].steps == 4 * sum(rows.values())
        assert memories[1].steps == 4 * (rows["unroll"] + 3 + rows["passes"])
    for memory in memories:
        assert memory.disagreements == []


@pytest.mark.parametrize("sharing", ["separate"], indirect=True)
def test_critic_goes_on_from_before_the_next_rollout(agent, collector) -> None:
    for _ in range(5):
        trajectory = collector.collect(agent)
        agent.learn(trajectory)
        assert_counts_before(
            agent.learner.critic_state, trajectory.observations[-1], trajectory.is_first[-1]
        )
        assert not agent.learner.critic_state.requires_grad
    assert "learner.critic_state" in agent.state_dict()


def test_sequences_in_minibatches_are_windows_of_one_environment(
    agent, collector, spy_on_steps
) -> None:
    spy = spy_on_steps(agent)
    trajectory = collector.collect(agent)
    agent.learn(trajectory)
    assert len(spy.calls) == 2 * 3
    for half in (spy.calls[:3], spy.calls[3:]):
        assert sorted(torch.cat([call.inputs[1] for call in half]).tolist()) == list(range(9))
    for call in spy.calls:
        batch, chosen = call.inputs
        sequences = batch.select(chosen)
        for observations, is_first in zip(
            sequences.observations.unbind(1), sequences.is_first.unbind(1), strict=True
        ):
            step = observations[1:] - observations[:-1]
            goes_on = ~is_first[1:]
            assert (step[goes_on] == torch.tensor([0.0, 1.0])).all()
            assert (step[~goes_on][:, 0] == 1).all()  # the very next episode
    # All parts of the batch are cut alike.
    cut = to_sequences(trajectory.rewards, 4)
    assert cut.shape == batch.returns.shape
    assert torch.equal(to_sequences(trajectory.valid, 4), batch.valid)


def test_carried_states_hold_no_graph(agent, collector) -> None:
    for _ in range(2):
        trajectory = collector.collect(agent)
        metrics = agent.learn(trajectory)
        assert not trajectory.state.requires_grad
        assert not any(value.requires_grad for value in metrics.values())


def test_evaluation_counts_too(agent, counting, memories) -> None:
    result = evaluate(
        agent,
        counting,
        episodes=9,
        seeds=[1, 2, 3],
        generator=np.random.default_rng(0),
        deterministic=True,
    )
    assert memories[0].steps > 0
    assert memories[0].disagreements == []
    # From the second episode of each environment on: the collector began the first one.
    assert sorted(result.lengths) == sorted([5, 2, 3, 4, 1, 4, 1, 9, 1])
