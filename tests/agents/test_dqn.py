"""DQN on the stream: whose memory, which steps, what target, when."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents.dqn import DQN
from agents.mathematics.losses import select_actions
from agents.trajectory import Trajectory
from networks.observations import map_observations
from tests.agents.conftest import COUNTING, FORGETFUL, NO_NOISE, StepSpy, targets_of

DISCOUNT = 0.9
PLAIN = [
    "agent=dqn",
    f"agent.discount={DISCOUNT}",
    "agent.buffer_size=300",
    "agent.batch_size=16",
    "agent.target_update_interval=12",
    "extractor=flatten",
    "value_head.gain=1.0",
    "optimizer=sgd",
    "optimizer.learning_rate=0.001",
    "optimizer.momentum=0",
    "optimizer.max_grad_norm=null",
]
"""Linear values of observations as they are."""
SEQUENCES = [
    *FORGETFUL,
    "memory.sequence_length=6",
    "agent.sequence_stride=4",
    "agent.learning_starts=36",
]
Build = Callable[..., Any]


def random_trajectory(seed: int, steps: int, *, state_size: int = 0) -> Trajectory:
    """Three environments, ends of all kinds, resets that follow from them."""
    draws = np.random.default_rng(seed)
    ends = [torch.from_numpy(draws.random((steps, 3)) < 0.15) for _ in range(2)]
    is_first = torch.zeros(steps + 1, 3, dtype=torch.bool)
    is_first[0] = True
    for step in range(steps):
        for flags in ends:
            flags[step] &= ~is_first[step + 1]
        if step + 2 <= steps:
            is_first[step + 2] = ends[0][step] | ends[1][step]
            # A step that resets ends nothing.
            if step + 1 < steps:
                for flags in ends:
                    flags[step + 1] &= ~is_first[step + 2]
    return Trajectory(
        observations=torch.from_numpy(draws.normal(size=(steps + 1, 3, 4)).astype(np.float32)),
        is_first=is_first,
        actions=torch.from_numpy(draws.integers(2, size=(steps, 3))),
        rewards=torch.from_numpy(draws.normal(size=(steps, 3)).astype(np.float32)),
        terminated=ends[0],
        truncated=ends[1],
        state=torch.zeros(3, state_size),
    )


# ---- whose memory


@pytest.mark.parametrize(
    ("burn_in", "length", "stride", "n_step", "double_q"),
    [(0, 4, 4, 1, False), (3, 5, 2, 2, True), (4, 4, 8, 3, True), (2, 1, 1, 1, True)],
)
def test_memories_count_like_the_environments_from_wherever_a_window_starts(
    build, counting, burn_in, length, stride, n_step, double_q
) -> None:
    run = build(
        *PLAIN,
        *COUNTING,
        f"memory.sequence_length={length}",
        f"agent.burn_in={burn_in}",
        f"agent.sequence_stride={stride}",
        f"agent.n_step={n_step}",
        f"agent.double_q={str(double_q).lower()}",
        "agent.learning_starts=36",
        "agent.buffer_size=96",  # wraps
        "agent.batch_size=8",
        environments=counting,
    )
    agent, spy = run.agent, StepSpy(run.agent)
    assert agent.learner.learnt == slice(burn_in, burn_in + length)
    for _ in range(24):
        agent.learn(run.collector.collect(agent))
    backbone, _ = agent.learner.target_network.copies
    assert len(spy.calls) > 20
    for each in (agent.actor.memory, backbone.memory):
        assert each.steps > 500
        assert not each.disagreements


def test_a_memory_that_is_cleared_at_each_step_equals_none(build) -> None:
    learnt = []
    for words in ([], [*FORGETFUL, "memory.sequence_length=1", "agent.sequence_stride=1"]):
        agent = build(*PLAIN, "agent.n_step=2", "agent.double_q=true", *words).agent
        for seed in range(8):
            state_size = agent.actor.memory.state_size
            agent.learn(random_trajectory(seed, 12, state_size=state_size))
        assert agent.learner.clock.updates > 10
        learnt.append(agent.optimizer.flat.clone())
    assert torch.equal(*learnt)


# ---- which steps


def filled(build: Build, *words: str) -> DQN:
    agent = build(*PLAIN, *words).agent
    for seed in range(6):
        agent.learn(random_trajectory(seed, 12, state_size=agent.actor.memory.state_size))
    return agent


def step_on(agent: DQN, window: Trajectory, weights: Tensor | None = None) -> Any:
    """A gradient step from the agent's present weights, which are put back."""
    before = agent.optimizer.flat.clone()
    agent.gradient_step.begin(0.0, 0, measures=True)
    result = agent.gradient_step(window, weights, NO_NOISE)
    agent.optimizer.flat.copy_(before)
    return result


def draw(agent: DQN, size: int = 200) -> Trajectory:
    replay = agent.learner.replay
    return replay.sample(size, np.random.default_rng(1), importance_exponent=1.0).window


def heads_of(agent: DQN) -> tuple[nn.Module, nn.Module]:
    """The network's, and the target network's."""
    return agent.networks.value_head, agent.learner.target_network.copies[1]


def test_the_loss_is_the_squared_error_of_the_one_step_target(build) -> None:
    agent = filled(build, "agent.prioritized=true")
    window = draw(agent)
    head, target_head = heads_of(agent)
    observations = window.observations
    with torch.no_grad():
        value = select_actions(head(observations[:1]), window.actions)[0]
        following = target_head(observations[1]).max(-1).values
    target = window.rewards[0] + DISCOUNT * following * ~window.terminated[0]
    result, error = step_on(agent, window), target - value
    loss = error.square().mean().item()
    assert result.metrics["loss/value"].item() == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(result.priorities, error.abs())


def test_a_double_target_is_chosen_by_one_network_and_valued_by_the_other(build) -> None:
    # The target network stays what it was.
    words = ["agent.target_update_interval=1000000", "optimizer.learning_rate=0.1"]
    agent = filled(build, "agent.double_q=true", *words)
    window = draw(agent)
    head, target_head = heads_of(agent)
    with torch.no_grad():
        chosen = head(window.observations[1]).argmax(-1)
        valued = target_head(window.observations[1])
    following = valued.gather(-1, chosen[:, None]).squeeze(-1)
    assert (chosen != valued.argmax(-1)).any()
    expected = window.rewards[0] + DISCOUNT * following * ~window.terminated[0]
    torch.testing.assert_close(targets_of(agent, window)[0], expected)


def test_targets_of_terminal_steps_are_their_rewards(build) -> None:
    agent = filled(build)
    window = draw(agent)
    ends = window.terminated[0]
    assert ends.any()
    found = targets_of(agent, window)
    assert torch.equal(found[0][ends], window.rewards[0][ends])


def changed(window: Trajectory, **parts: Tensor) -> Trajectory:
    fields = {name: getattr(window, name) for name in Trajectory.__dataclass_fields__}
    return Trajectory(**{**fields, **parts})


def test_steps_that_only_reset_change_nothing(build) -> None:
    agent = filled(build, *SEQUENCES, "agent.n_step=2", "agent.prioritized=true")
    window = draw(agent)
    resets = ~window.valid
    assert resets[:6].any()
    rewards = window.rewards.masked_fill(resets, 1e9)
    actions = torch.where(resets, 1 - window.actions, window.actions)
    expected = step_on(agent, window)
    found = step_on(agent, changed(window, rewards=rewards, actions=actions))
    for tag, value in expected.metrics.items():
        assert torch.equal(value, found.metrics[tag]), tag
    assert torch.equal(expected.gradients, found.gradients)
    assert torch.equal(expected.priorities, found.priorities)


def test_steps_that_only_reset_are_no_environment_steps(build) -> None:
    run = build(
        "agent=dqn", "env.id=neurl/Counting-v0", "+env.kwargs.lengths=[1,2]",
        "agent.replay_ratio=1", "agent.learning_starts=0", "normalize_observations=true",
    )  # fmt: skip
    rows = []
    for _ in range(6):
        trajectory = run.collector.collect(run.agent)
        run.agent.learn(trajectory)
        rows.append(trajectory.step_observations[trajectory.valid].clone())
    steps = run.collector.env_steps
    assert steps == sum(map(len, rows)) < 6 * 12
    assert steps - 12 <= run.agent.learner.clock.updates <= steps
    normalization = run.agent.actor.normalization
    assert normalization.count.item() == steps
    torch.testing.assert_close(normalization.mean, torch.cat(rows).double().mean(0))


def test_importance_weights_scale_each_window_s_loss(build) -> None:
    agent = filled(build, *SEQUENCES)
    window = draw(agent)
    weights = torch.zeros(200)
    weights[7] = 3.0
    found = step_on(agent, window, weights)
    alone = map_observations(lambda part: part[:, 7:8], window.observations)
    parts = {
        name: getattr(window, name)[:, 7:8]
        for name in ("is_first", "actions", "rewards", "terminated", "truncated")
    }
    own = changed(window, observations=alone, state=window.state[7:8], **parts)
    only = step_on(agent, own)
    share = own.valid[:6].sum() / window.valid[:6].sum()
    loss, alone = (each.metrics["loss/value"].item() for each in (found, only))
    assert loss == pytest.approx(3 * alone * share.item(), rel=1e-4)
    torch.testing.assert_close(found.gradients, 3 * only.gradients * share, rtol=1e-4, atol=1e-6)


def test_priorities_are_errors_without_weights_and_change_what_is_drawn(build) -> None:
    agent = build(*PLAIN, "agent.prioritized=true").agent
    replay, kept = agent.learner.replay, {}
    update = replay.update

    def note(starts: Any, priorities: Tensor) -> None:
        kept.update(zip(starts.tolist(), priorities.tolist(), strict=True))
        update(starts, priorities)

    replay.update = note
    for seed in range(6):
        agent.learn(random_trajectory(seed, 12))
    window = draw(agent)
    expected = step_on(agent, window).priorities
    found = step_on(agent, window, torch.linspace(0.1, 1, 200)).priorities
    assert torch.equal(found, expected)
    sample = replay.sample(200, np.random.default_rng(1), importance_exponent=1.0)
    is_known = np.array([start in kept for start in sample.starts.tolist()])
    known = np.array([kept[start] for start in sample.starts[is_known].tolist()])
    assert len(set(known)) > 10
    # Weights undo P ~ p^0.6, and so tell which priority each window has.
    products = sample.weights.numpy()[is_known] * (known + 1e-6) ** 0.6
    np.testing.assert_allclose(products, products[0], rtol=1e-4)


def test_importance_weights_follow_progress(build) -> None:
    agent, found = filled(build, "agent.prioritized=true"), []
    replay = agent.learner.replay
    sample = replay.sample
    agent.learner.importance_exponent = lambda progress: progress

    def note(*arguments: Any, importance_exponent: float) -> Any:
        found.append(importance_exponent)
        return sample(*arguments, importance_exponent=importance_exponent)

    replay.sample = note
    agent.progress = 0.75
    agent.learn(random_trajectory(7, 12))
    assert set(found) == {0.75}


def test_burn_in_takes_no_gradient(build) -> None:
    run = build("agent=dqn", "memory=gru", "agent.burn_in=3", "memory.sequence_length=4")
    agent = run.agent
    for _ in range(6):
        agent.learn(run.collector.collect(agent))
    window = draw(agent, 8)
    observations = window.observations.clone().requires_grad_()
    found = agent.losses(changed(window, observations=observations), None, NO_NOISE)
    (gradient,) = torch.autograd.grad(found.losses["critic"], observations)
    assert not gradient[:3].any()
    assert gradient[3:7].abs().sum((1, 2)).min() > 0
    assert not gradient[7:].any()  # what targets read


def test_stored_states_are_those_that_acting_had(build) -> None:
    run = build(
        "agent=dqn", "memory=lstm", "agent.train_frequency=8", "agent.sequence_stride=2",
        "agent.replay_ratio=0.01", "agent.sequence_length=4",
    )  # fmt: skip
    agent, states = run.agent, []
    act = agent.act

    def noting(observations: Any, state: Any, is_first: Any, *, explore: bool) -> Any:
        states.append(torch.from_numpy(state.copy()))
        return act(observations, state, is_first, explore=explore)

    agent.act = noting
    for _ in range(5):
        agent.learn(run.collector.collect(agent))
    sample = agent.learner.replay.sample(64, np.random.default_rng(0), importance_exponent=1.0)
    step, environment = np.divmod(sample.starts, 3)
    kept = torch.stack([states[s][e] for s, e in zip(step, environment, strict=True)])
    torch.testing.assert_close(sample.window.state, kept, atol=1e-5, rtol=0)
    assert sample.window.state.abs().sum() > 0


# ---- when


def weights_of(agent: DQN) -> tuple[Tensor, Tensor]:
    """Of the network, and of the target network."""
    network, target = map(nn.Module.parameters, heads_of(agent))
    return tuple(nn.utils.parameters_to_vector(each).detach() for each in (network, target))


@pytest.mark.parametrize(("num_envs", "frequency"), [(1, 1), (1, 24), (4, 6), (3, 40)])
def test_the_target_is_copied_between_blocks_by_environment_steps(
    build, num_envs: int, frequency: int
) -> None:
    """Where it is copied no step of a block has been taken, and resets count nowhere."""
    run = build(
        "agent=dqn", f"env.num_envs={num_envs}", f"agent.train_frequency={frequency}",
        "agent.replay_ratio=0.5", "agent.target_update_interval=30", "agent.learning_starts=30",
    )  # fmt: skip
    agent, (target, _) = run.agent, weights_of(run.agent)
    before_steps: list[Tensor] = []
    spy, blocks = StepSpy(agent, lambda *_: before_steps.append(weights_of(agent)[1])), 0
    while run.collector.env_steps < 400:
        before = run.collector.env_steps
        trajectory = run.collector.collect(agent)
        if run.collector.env_steps // 30 > before // 30:
            target, _ = weights_of(agent)
        before_steps.clear()
        agent.learn(trajectory)
        assert all(torch.equal(found, target) for found in before_steps)
        blocks += bool(before_steps)
    assert blocks > 3
    assert agent.learner.clock.updates == len(spy.calls) > 150
    assert not torch.equal(weights_of(agent)[0], target)


def test_an_averaged_target_moves_after_each_gradient_step(build) -> None:
    run = build(
        "agent=dqn", "agent.train_frequency=20", "agent.polyak_rate=0.25",
    )  # fmt: skip
    agent, found = run.agent, []
    StepSpy(agent, lambda *_: found.append(weights_of(agent)))
    while len(found) < 20:
        agent.learn(run.collector.collect(agent))
    for (_, target), (own, later) in itertools.pairwise(found):
        torch.testing.assert_close(later, target + 0.25 * (own - target))


@pytest.mark.parametrize("head", ["hl_gauss", "two_hot", "c51"])
def test_a_learnt_support_has_seen_the_targets_of_every_gradient_step(build, head: str) -> None:
    """A reward that most batches of a block do not hold is inside before it is learnt from."""
    run = build(
        "agent=dqn", f"value_head={head}", "value_head.support=auto", "agent.noisy=true",
        "agent.train_frequency=40", "agent.replay_ratio=0.5", "agent.double_q=true",
    )  # fmt: skip
    agent, found = run.agent, []
    head, target_head = heads_of(agent)

    def check(window: Trajectory, _: Tensor | None, noise: Any) -> None:
        found.append((window.rewards.max().item(), head.support.limits[1].item()))
        assert torch.equal(target_head.support.limits, head.support.limits)
        if head.fits_returns:
            assert targets_of(agent, window, noise).abs().max() <= head.support.limits[1]

    StepSpy(agent, check)
    agent.learn(run.collector.collect(agent))
    trajectory, first = run.collector.collect(agent), len(found)
    rewards = trajectory.rewards.clone()
    rewards[9] = 1000.0
    agent.is_watched = False
    agent.learn(changed(trajectory, rewards=rewards))
    largest, limits = map(np.array, zip(*found, strict=True))
    assert largest.max() == 1000
    assert largest[first] == 1  # the block's first batch
    assert (largest <= limits).all()


def test_epsilon_falls_with_environment_steps(build) -> None:
    run = build("agent=dqn", "agent.epsilon_fraction=0.5", "agent.final_epsilon=0.1")
    found = []
    for steps in (0, 25, 50, 99, 100):
        run.agent.update_progress(steps, total_env_steps=100)
        found.append(run.agent.policy_head.epsilon.item())
    assert found == pytest.approx([1, 0.55, 0.1, 0.1, 0.1])


def test_weights_from_elsewhere_are_the_target_s_too(build) -> None:
    agent = build("agent=dqn").agent
    with torch.no_grad():
        agent.optimizer.flat.add_(1)
    agent.learner.weights_replaced()
    head, target_head = heads_of(agent)
    for name, tensor in head.state_dict().items():
        assert torch.equal(target_head.state_dict()[name], tensor)


def test_rewards_are_scaled_when_sampled_and_raw_in_replay(build) -> None:
    run = build("agent=dqn", "clip_rewards=0.5", "agent.learning_starts=0")
    agent, spy = run.agent, StepSpy(run.agent)
    for _ in range(4):
        agent.learn(run.collector.collect(agent))
    window, *_ = spy.calls[-1].inputs
    assert (window.rewards == 1).all()
    window = changed(window, terminated=torch.ones_like(window.terminated))
    assert (targets_of(agent, window) == 0.5).all()


def test_only_watched_rounds_are_measured(build) -> None:
    learnt = []
    for is_watched in (True, False):
        run = build("agent=dqn", "agent.prioritized=true", "memory=gru", "agent.sequence_length=4")
        run.agent.is_watched = is_watched
        for _ in range(8):
            metrics = run.agent.learn(run.collector.collect(run.agent))
        for tag in ("replay/age", "value/td_error", "value/td_error/start", "value/td_error/end"):
            assert (tag in metrics) == is_watched, tag
        assert {"update/steps", "update/skipped"} <= metrics.keys()
        learnt.append(run.agent.optimizer.flat.clone())
    assert torch.equal(*learnt)
