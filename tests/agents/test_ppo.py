"""PPO's updates: their signs, when they stop, what they skip, and what must not matter."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from training.stream.loop import iterations


def learn_once(run) -> dict[str, torch.Tensor]:
    return run.agent.learn(run.collector.collect(run.agent))


def weights_of(agent) -> torch.Tensor:
    return agent.optimizer.flat.clone()


def at_zero(agent) -> SimpleNamespace:
    """The policy and the value where the observation is 0."""
    state, first = torch.zeros(1, 0), torch.ones(1, 1, dtype=torch.bool)
    with torch.no_grad():
        summary, _ = agent.actor(torch.zeros(1, 1, 1), state, first)
        value, _ = agent.critic(torch.zeros(1, 1, 1), state, first)
        return SimpleNamespace(
            policy=agent.policy_head(summary[0]), value=agent.value_head(value[0]).item()
        )


def set_biases(agent, **heads: list[float]) -> None:
    with torch.no_grad():
        for name, bias in heads.items():
            head = getattr(agent, name)
            getattr(head, "layers", head).output.bias.copy_(torch.tensor(bias))


# The signs


def test_a_step_makes_the_better_action_likelier(build) -> None:
    run = build("env.id=neurl/ActionReward-v0", "optimizer.learning_rate=0.01")
    before = at_zero(run.agent).policy.log_probabilities.exp()
    learn_once(run)
    after = at_zero(run.agent).policy.log_probabilities.exp()
    assert after[0, 1] > before[0, 1] + 0.01


def test_a_step_moves_a_continuous_action_to_where_it_pays(build) -> None:
    run = build(
        "env.id=neurl/ActionReward-v0",
        "+env.kwargs.continuous=true",
        "optimizer.learning_rate=0.01",
    )
    before = at_zero(run.agent).policy.mode()
    learn_once(run)
    assert at_zero(run.agent).policy.mode() > before + 0.01


@pytest.mark.parametrize(("coefficient", "sign"), [(0.1, 1), (0.0, 0)])
def test_the_entropy_bonus_alone_raises_entropy(build, trajectory, coefficient, sign) -> None:
    run = build(
        "env.id=neurl/ConstantReward-v0",
        f"agent.entropy_coefficient={coefficient}",
        "agent.normalize_advantages=false",
        "value_head.gain=0.001",
    )
    set_biases(run.agent, policy_head=[1.0, -1.0])
    torch.nn.init.zeros_(run.agent.value_head.layers.output.weight)
    # No reward and no value: no advantage.
    nothing = trajectory(
        torch.zeros(13, 3, 1), torch.zeros(12, 3, dtype=torch.int64), torch.zeros(12, 3)
    )
    before = at_zero(run.agent).policy.entropy()
    run.agent.learn(nothing)
    assert torch.sign(at_zero(run.agent).policy.entropy() - before).item() == sign


@pytest.mark.parametrize("start", [3.0, -3.0])
@pytest.mark.parametrize("value_head", ["mse", "huber"])
def test_values_move_towards_the_return(build, start: float, value_head: str) -> None:
    run = build(
        "env.id=neurl/ConstantReward-v0", f"value_head={value_head}", "optimizer.learning_rate=0.01"
    )
    set_biases(run.agent, value_head=[start])
    before = at_zero(run.agent).value
    learn_once(run)
    after = at_zero(run.agent).value
    assert abs(after - 1) < abs(before - 1) - 0.02


def test_clipped_values_stop_at_the_range(build) -> None:
    options = ["env.id=neurl/ConstantReward-v0", "optimizer.learning_rate=0.1"]
    moved = []
    for limit in ("null", "0.05"):
        run = build(*options, f"agent.value_clip_range={limit}", "agent.num_epochs=10")
        set_biases(run.agent, value_head=[-3.0])
        before = at_zero(run.agent).value
        learn_once(run)
        moved.append(at_zero(run.agent).value - before)
    # Beyond the range the clipped value's loss is the larger one and has no gradient: momentum
    # alone remains.
    assert 0.05 < moved[1] < 0.6 * moved[0]


@pytest.mark.parametrize(
    ("ending", "low", "high"),
    [("truncated", 9.7, 10.3), ("terminated", 3.0, 6.0), ("both", 3.0, 6.0)],
)
def test_endless_reward_is_worth_ten_unless_episodes_terminate(build, ending, low, high) -> None:
    # 1 / (1 - 0.9) = 10; ended after at most ten steps, the mean of (1 - 0.9^n) / 0.1 is 4.1.
    run = build(
        "env.id=neurl/Endless-v0",
        f"+env.kwargs.ending={ending}",
        "extractor=flatten",
        "agent.discount=0.9",
        "agent.gae_lambda=0.9",
        "optimizer.learning_rate=0.1",
        "optimizer.max_grad_norm=10",
    )
    for _ in range(40):
        metrics = learn_once(run)
    assert low < metrics["value/mean"].item() < high


# Stopping and skipping


def test_a_tiny_target_kl_allows_at_most_one_step(build) -> None:
    run = build("agent.target_kl=1e-12", "optimizer.learning_rate=0.1", "policy_head.gain=1.0")
    before = weights_of(run.agent)
    metrics = learn_once(run)
    steps = metrics["update/steps"].item()
    assert steps in (0, 1)
    assert run.agent.optimizer.rules[0].count.item() == steps
    assert torch.equal(weights_of(run.agent), before) == (steps == 0)


def test_target_kl_stops_before_the_step_that_went_too_far(build, spy_on_steps) -> None:
    run = build("agent.target_kl=0.01", "agent.num_epochs=10", "optimizer.learning_rate=0.05")
    spy = spy_on_steps(run.agent)
    metrics = learn_once(run)
    counted = [call.counted for call in spy.calls]
    assert 1 < len(counted) < 30
    assert counted == [True] * (len(counted) - 1) + [False]
    assert metrics["update/steps"].item() == len(counted) - 1
    assert metrics["update/skipped"].item() == 0  # it was left out, not broken
    assert run.agent.optimizer.rules[0].count.item() == len(counted) - 1


def test_target_kl_is_passed_by_half_of_it_and_no_more(build) -> None:
    """The second of two steps sees how far the first one went: k. The limit is 1.5 target_kl."""
    words = ["agent.num_epochs=2", "agent.num_minibatches=1", "optimizer.learning_rate=0.02"]
    metrics = learn_once(build(*words))
    distance = 2 * metrics["policy/approximate_kl"].item()  # the mean of 0 and k
    assert distance > 1e-4
    taken = [
        learn_once(build(*words, f"agent.target_kl={distance / share}"))["update/steps"].item()
        for share in (1.4, 1.6)
    ]
    assert taken == [2, 1]


def test_every_pass_is_a_partition_of_its_own(build, spy_on_steps) -> None:
    run = build()
    spy = spy_on_steps(run.agent)
    for _ in range(2):
        learn_once(run)
    drawn = [call.inputs[1].tolist() for call in spy.calls]
    passes = [drawn[first : first + 3] for first in range(0, 12, 3)]
    for parts in passes:
        assert sorted(number for part in parts for number in part) == list(range(36))
    assert len({str(parts) for parts in passes}) == 4


def test_without_target_kl_every_step_counts(build, spy_on_steps) -> None:
    run = build("optimizer.learning_rate=0.05")
    spy = spy_on_steps(run.agent)
    metrics = learn_once(run)
    assert len(spy.calls) == metrics["update/steps"].item() == 2 * 3
    assert metrics["update/skipped"].item() == 0


def test_steps_that_are_not_finite_are_skipped_and_counted(
    build, monkeypatch, spy_on_steps
) -> None:
    run = build("memory=lstm", "agent.num_epochs=3", "optimizer.weight_decay=0.1")
    agent, loss, calls = run.agent, run.agent.value_head.loss, []

    def poisoned(output, target):
        calls.append(len(calls) in (2, 5))
        return loss(output, target) * (float("nan") if calls[-1] else 1.0)

    monkeypatch.setattr(agent.value_head, "loss", poisoned)
    states: list[list[torch.Tensor]] = []

    def note(*_, **__) -> None:
        moving = agent.optimizer.flat, *agent.optimizer.rules.buffers()
        states.append([tensor.clone() for tensor in moving])

    spy = spy_on_steps(agent, note)
    metrics = learn_once(run)
    note()
    assert len(calls) == 9
    for was_poisoned, (before, after) in zip(calls, itertools.pairwise(states), strict=True):
        moved = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
        assert moved == [not was_poisoned] * 4  # parameters, both moments, the count
    assert [call.counted for call in spy.calls] == [not was for was in calls]
    assert metrics["update/skipped"].item() == 2
    assert metrics["update/steps"].item() == 7
    assert weights_of(agent).isfinite().all()


def test_metrics_are_means_over_the_minibatches(build, spy_on_steps) -> None:
    run = build("optimizer.learning_rate=0.05", "policy_head.gain=1.0")
    agent, found, ratios = run.agent, [], []

    @torch.no_grad()
    def measure(batch, sequences, *, clip_range, entropy_coefficient) -> None:
        chosen = batch.select(sequences)
        summary, _ = agent.actor(chosen.observations, chosen.actor_state[0], chosen.is_first)
        policy, valid = agent.policy_head(summary), chosen.valid
        log_ratio = (policy.log_prob(chosen.actions) - chosen.old_log_probs)[valid]
        ratio = log_ratio.exp()
        is_clipped = (ratio < 1 - clip_range) | (ratio > 1 + clip_range)
        ratios.append(ratio)
        found.append(
            {
                "policy/entropy": policy.entropy()[valid].mean().item(),
                "policy/approximate_kl": (ratio - 1 - log_ratio).mean().item(),
                "policy/clip_fraction": is_clipped.float().mean().item(),
            }
        )

    spy = spy_on_steps(agent, measure)
    metrics = learn_once(run)
    assert torch.cat(ratios).min() < 0.8
    assert torch.cat(ratios).max() > 1.2
    for tag in found[0]:
        expected = [minibatch[tag] for minibatch in found]
        assert len(set(expected)) > 1
        assert metrics[tag].item() == pytest.approx(sum(expected) / 6, rel=1e-4), tag
    for tag in ("loss/policy", "loss/value"):
        expected = [call.result.metrics[tag].item() for call in spy.calls]
        assert metrics[tag].item() == pytest.approx(sum(expected) / 6, rel=1e-4), tag


# Schedules


def test_every_round_learns_at_the_schedules_of_the_steps_before_it(build, spy_on_steps) -> None:
    run = build(
        "optimizer.learning_rate=0.01",
        "optimizer.schedule=linear",
        "optimizer.final_learning_rate=0.002",
        "agent.clip_range=0.3",
        "agent.clip_range_schedule=linear",
        "agent.entropy_coefficient=0.1",
        "agent.entropy_coefficient_schedule=linear",
    )
    spy, total, before = spy_on_steps(run.agent), 200, 0
    rounds = 0
    for iteration in iterations(run.agent, run.collector, total_env_steps=total):
        progress = before / total
        assert len(spy.calls) == 6
        for call in spy.calls:
            assert call.learning_rate == pytest.approx(0.01 - progress * 0.008)
            assert call.clip_range == pytest.approx(0.3 * (1 - progress))
            assert call.entropy_coefficient == pytest.approx(0.1 * (1 - progress))
        rate = iteration.metrics["schedule/learning_rate"].item()
        assert rate == pytest.approx(spy.calls[0].learning_rate)
        before, rounds = iteration.env_steps, rounds + 1
        spy.calls.clear()
    assert rounds > 5
    assert before >= total


def test_a_rollout_with_one_valid_step_stays_finite(build, trajectory) -> None:
    run = build("env.num_envs=1", "agent.rollout_length=2", "agent.num_minibatches=1")
    single = trajectory(
        torch.randn(3, 1, 4),
        torch.zeros(2, 1, dtype=torch.int64),
        torch.ones(2, 1),
        terminated=torch.tensor([[True], [False]]),
    )
    assert single.valid.sum() == 1
    metrics = run.agent.learn(single)
    assert metrics["update/steps"].item() == 2
    assert weights_of(run.agent).isfinite().all()
    assert metrics["value/explained_variance"].isnan()  # nothing varies


def test_numbers_that_are_none_are_skipped_with_a_target_kl_too(build) -> None:
    """nan is not far: it must reach the count of skipped steps, or nobody notices."""
    run = build("agent.target_kl=0.01")
    trajectory = run.collector.collect(run.agent)
    with torch.no_grad():
        run.agent.critic.extractor.layers[0].weight.fill_(torch.nan)
    metrics = run.agent.learn(trajectory)
    assert metrics["update/steps"] == 0
    assert metrics["update/skipped"] > 0
