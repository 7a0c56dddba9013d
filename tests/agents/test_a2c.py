"""A2C's single step: it is PPO's first one, and its returns are those of the paper."""

import copy
from types import SimpleNamespace

import pytest
import torch

from agents.learning.sequences import to_sequences
from training.stream.loop import iterations


def learn_once(run) -> dict[str, torch.Tensor]:
    return run.agent.learn(run.collector.collect(run.agent))


def weights_of(agent) -> torch.Tensor:
    return agent.optimizer.flat.clone()


# Equivalence

SETTINGS = {
    "mlp": ["memory=none"],
    "lstm": ["memory=lstm"],
    "gru shared": ["memory=gru", "share_backbone=true", "memory.sequence_length=4"],
    "lstm cut": ["memory=lstm", "memory.sequence_length=3", "normalize_rewards=true"],
    "normalized": ["memory=rnn", "normalize_observations=true", "agent.normalize_advantages=true"],
    "gae": ["agent.gae_lambda=0.9", "agent.entropy_coefficient=0.1", "value_head=huber"],
    "box": ["env.id=neurl/ContinuousTarget-v0", "agent.entropy_coefficient=0.1"],
    "rmsprop": ["memory=none", "optimizer=rmsprop_tf"],
}
ONE_STEP = ["agent.num_epochs=1", "agent.num_minibatches=1", "agent.clip_range=1e9"]
SAME = {"agent.gae_lambda": "1.0", "agent.normalize_advantages": "false"}


@pytest.mark.parametrize("words", SETTINGS.values(), ids=SETTINGS)
def test_one_step_of_ppo_without_clipping_is_the_same(
    build, spy_on_steps, words: list[str]
) -> None:
    given = {word.partition("=")[0] for word in words}
    common = [*words, *(f"{key}={value}" for key, value in SAME.items() if key not in given)]
    a2c = build("agent=a2c", "agent.discount=0.9", *common)
    ppo = build(*ONE_STEP, "agent.discount=0.9", *common)
    assert torch.equal(weights_of(a2c.agent), weights_of(ppo.agent))
    spies = spy_on_steps(a2c.agent), spy_on_steps(ppo.agent)
    for _ in range(3):  # of a common experience, into which memories carry what was learnt
        trajectory = a2c.collector.collect(a2c.agent)
        for agent in (a2c.agent, ppo.agent):
            agent.learn(copy.deepcopy(trajectory))
        found, expected = (spy.calls[-1].result.gradients for spy in spies)
        assert found.norm() > 1e-3
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(weights_of(a2c.agent), weights_of(ppo.agent), rtol=0, atol=1e-6)
        assert all(spy.calls[-1].counted for spy in spies)
    assert len(spies[0].calls) == 3


# Returns


def test_returns_reach_as_far_as_the_rollout(build, trajectory) -> None:
    """Lambda 1, discount 0.5: r_t + 0.5 r_{t+1} + ... + the value that the rollout ends on."""
    run = build(
        "agent=a2c",
        "agent.discount=0.5",
        "agent.rollout_length=3",
        "env.num_envs=2",
        "env.id=neurl/Endless-v0",
    )
    stream = trajectory(
        torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]])[..., None],
        torch.zeros(3, 2, dtype=torch.int64),
        torch.tensor([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]]),
        terminated=torch.tensor([[False, False], [False, True], [False, False]]),
    )
    agent = run.agent
    with torch.no_grad():
        state, first = torch.zeros(1, 0), torch.zeros(1, 1, dtype=torch.bool)
        summary, _ = agent.critic(torch.full((1, 1, 1), 0.7), state, first)
        last = agent.value_head(summary).item()
    batch, _ = agent.prepare(stream)
    returns = batch.returns.view(3, 2)  # sequences of one step, window by window
    # 16 + last / 2;  4 + that / 2;  1 + that / 2
    expected = [1 + (4 + (16 + last / 2) / 2) / 2, 4 + (16 + last / 2) / 2, 16 + last / 2]
    assert returns[:, 0].tolist() == pytest.approx(expected)
    # The second environment ends with its second step; its third only resets.
    assert returns[:2, 1].tolist() == pytest.approx([2 + 8 / 2, 8])
    assert batch.valid.view(3, 2).tolist() == [[True, True], [True, True], [True, False]]
    torch.testing.assert_close(batch.advantages, batch.returns - batch.old_values)


# Signs


def at_zero(agent) -> SimpleNamespace:
    """The policy and the value where the observation is 0."""
    state, first = torch.zeros(1, 0), torch.ones(1, 1, dtype=torch.bool)
    with torch.no_grad():
        summary, _ = agent.actor(torch.zeros(1, 1, 1), state, first)
        value, _ = agent.critic(torch.zeros(1, 1, 1), state, first)
        return SimpleNamespace(
            policy=agent.policy_head(summary[0]), value=agent.value_head(value[0]).item()
        )


def test_a_step_makes_the_better_action_likelier_and_the_value_truer(build) -> None:
    run = build("agent=a2c", "env.id=neurl/ActionReward-v0", "optimizer.learning_rate=0.02")
    torch.nn.init.constant_(run.agent.value_head.layers.output.bias, 3.0)
    before = at_zero(run.agent)
    for _ in range(3):
        learn_once(run)
    after = at_zero(run.agent)
    chance, better = (each.policy.log_probabilities.exp()[0, 1] for each in (before, after))
    assert better > chance + 0.01
    assert abs(after.value) < abs(before.value) - 0.02  # the return is 0 on average


@pytest.mark.parametrize(("coefficient", "sign"), [(0.1, 1), (0.0, 0)])
def test_the_entropy_bonus_alone_raises_entropy(build, trajectory, coefficient, sign) -> None:
    run = build(
        "agent=a2c",
        "env.id=neurl/ConstantReward-v0",
        f"agent.entropy_coefficient={coefficient}",
        "value_head.gain=0.001",
    )
    with torch.no_grad():
        run.agent.policy_head.output.bias.copy_(torch.tensor([1.0, -1.0]))
    torch.nn.init.zeros_(run.agent.value_head.layers.output.weight)
    # No reward and no value: no advantage.
    nothing = trajectory(
        torch.zeros(13, 3, 1), torch.zeros(12, 3, dtype=torch.int64), torch.zeros(12, 3)
    )
    before = at_zero(run.agent).policy.entropy()
    run.agent.learn(nothing)
    assert torch.sign(at_zero(run.agent).policy.entropy() - before).item() == sign


# Steps


def test_every_rollout_is_one_step_at_the_schedules_of_the_steps_before_it(
    build, spy_on_steps
) -> None:
    run = build(
        "agent=a2c",
        "optimizer.learning_rate=0.01",
        "optimizer.schedule=linear",
        "optimizer.final_learning_rate=0.002",
        "agent.entropy_coefficient=0.1",
        "agent.entropy_coefficient_schedule=linear",
    )
    spy, total, before, rounds = spy_on_steps(run.agent), 200, 0, 0
    for iteration in iterations(run.agent, run.collector, total_env_steps=total):
        rounds += 1
        assert len(spy.calls) == rounds
        rate = 0.01 - before / total * 0.008
        assert spy.calls[-1].learning_rate == pytest.approx(rate)
        assert iteration.metrics["schedule/learning_rate"].item() == pytest.approx(rate)
        assert spy.calls[-1].entropy_coefficient == pytest.approx(0.1 * (1 - before / total))
        assert iteration.metrics["update/steps"].item() == 1
        before = iteration.env_steps
    assert rounds > 5
    assert run.agent.optimizer.rules[0].count.item() == rounds


def test_all_sequences_are_in_the_step(build, spy_on_steps) -> None:
    run = build("agent=a2c", "memory=gru", "memory.sequence_length=4")
    spy, trajectory = spy_on_steps(run.agent), run.collector.collect(run.agent)
    run.agent.learn(trajectory)
    (call,) = spy.calls
    batch, _ = call.inputs
    assert torch.equal(batch.actions, to_sequences(trajectory.actions, 4))
    assert batch.actor_state.shape == (1, 9, 5)


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_steps_that_are_not_finite_are_skipped_and_counted(build, memory: str) -> None:
    run = build("agent=a2c", f"memory={memory}", "optimizer.weight_decay=0.1")
    agent = run.agent
    learn_once(run)
    before = [weights_of(agent), *(buffer.clone() for buffer in agent.optimizer.buffers())]
    loss = agent.value_head.loss
    agent.value_head.loss = lambda output, target: loss(output, target) * torch.nan
    metrics = learn_once(run)
    assert (metrics["update/steps"], metrics["update/skipped"]) == (0, 1)
    after = [agent.optimizer.flat, *agent.optimizer.buffers()]
    assert all(map(torch.equal, after, before))
    agent.value_head.loss = loss
    metrics = learn_once(run)
    assert (metrics["update/steps"], metrics["update/skipped"]) == (1, 0)
    assert not torch.equal(agent.optimizer.flat, before[0])


def test_a_rollout_with_one_valid_step_stays_finite(build, trajectory) -> None:
    run = build(
        "agent=a2c", "agent.normalize_advantages=true", "env.num_envs=1", "agent.rollout_length=2"
    )
    single = trajectory(
        torch.randn(3, 1, 4),
        torch.zeros(2, 1, dtype=torch.int64),
        torch.ones(2, 1),
        terminated=torch.tensor([[True], [False]]),
    )
    metrics = run.agent.learn(single)
    assert metrics["update/steps"].item() == 1
    assert weights_of(run.agent).isfinite().all()
