"""DQN on the stream: whose memory, which steps, what target, when."""

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.dqn import DQN
from agents.learning.optimizer import Group, Optimizer
from agents.learning.parts import ActionValues, AuxiliaryLosses, taken
from agents.learning.replay_learner import UpdateClock, Windows
from agents.learning.schedules import schedule
from agents.learning.targets import QTarget
from agents.learning.update_rules import SGD
from agents.replay.replay import Replay
from agents.replay.samplers import PrioritizedSampler, UniformSampler
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.extractors.mlp import Flatten
from networks.heads.action_values import ActionLayers
from networks.heads.greedy import make_action_values
from networks.heads.values import MSEValueHead, NoScale
from networks.inputs import make_input
from networks.memory.memories import CellMemory, Memory, NoMemory
from networks.normalization import NoNormalization, NoRewardScaling
from networks.observations import map_observations
from training.stream.collect import Collector

DISCOUNT = 0.9
Make = Callable[..., DQN]


def build_dqn(
    memory: Memory,
    space: gymnasium.Space[Any],
    actions: gymnasium.Space[Any],
    *,
    burn_in: int = 0,
    sequence_length: int = 1,
    stride: int = 1,
    n_step: int = 1,
    double_q: bool = False,
    prioritized: bool = False,
    num_envs: int = 3,
    buffer_size: int = 300,
    interval: int = 12,
    batch_size: int = 16,
) -> DQN:
    """DQN around a memory that reads observations as they are."""
    inputs = make_input(space)
    backbone = Backbone(
        inputs=inputs,
        normalization=NoNormalization(),
        extractor=(extractor := Flatten(inputs.shape)),
        feature_size=extractor.output_size,
        memory=memory,
        frozen_until=0.0,
        half_precision=False,
    )
    torch.manual_seed(0)

    def make_value_head(num_actions: int) -> MSEValueHead:
        return MSEValueHead(
            lambda width: ActionLayers(
                memory.output_size,
                width,
                num_actions=num_actions,
                dueling=False,
                noisy=False,
                noisy_sigma=0.5,
                hidden_sizes=[],
                activation="tanh",
                initialization="orthogonal",
                gain=1.0,
            )
        )

    networks = ActionValues(
        backbone, make_action_values(actions, make_value_head), AuxiliaryLosses({}, {})
    )
    windows = Windows(
        burn_in=burn_in,
        sequence_length=sequence_length,
        stride=stride,
        keeps_state=memory.state_size > 0,
    )
    sampler = PrioritizedSampler(priority_exponent=0.6) if prioritized else UniformSampler()
    return DQN(
        networks=networks,
        replay=Replay(
            buffer_size=buffer_size,
            num_envs=num_envs,
            window_length=burn_in + sequence_length + n_step - 1,
            stride=stride,
            valid_step=burn_in if sequence_length == 1 else None,
            state_horizon=burn_in + sequence_length,
            frame_stacks={},
            keeps_state=windows.keeps_state,
            sampler=sampler,
        ),
        windows=windows,
        clock=UpdateClock(learning_starts=0, replay_ratio=0.25, target_update_interval=interval),
        target=QTarget(
            networks,
            windows=windows,
            reward_scaling=NoRewardScaling(),
            scale=NoScale(),
            discount=DISCOUNT,
            n_step=n_step,
            double_q=double_q,
        ),
        optimizer=lambda parts: Optimizer(
            parts,
            rule=lambda parameters, decay: SGD(
                parameters, momentum=0.0, nesterov=False, weight_decay=decay
            ),
            default=Group(schedule("constant", 1e-3, 0.0), weight_decay=0.0, frozen_until=0),
            groups={},
            routes={},
            max_grad_norm=float("inf"),
        ),
        generator=np.random.default_rng(0),
        batch_size=batch_size,
        polyak_rate=1.0,
        epsilon=lambda progress: 0.5,
        importance_exponent=lambda progress: 0.4,
        priority_max_share=0.9,
        compile=False,
    )


class SpySteps:
    """Stands in for the gradient step and keeps what it was given."""

    def __init__(self, agent: DQN) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._step = agent._gradient_step
        agent._gradient_step = self

    def __call__(self, *arguments: Any) -> Any:
        result = self._step(*arguments)
        self.calls.append((*arguments, result))
        return result


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
        observations=torch.from_numpy(draws.normal(size=(steps + 1, 3, 2)).astype(np.float32)),
        is_first=is_first,
        actions=torch.from_numpy(draws.integers(2, size=(steps, 3))),
        rewards=torch.from_numpy(draws.normal(size=(steps, 3)).astype(np.float32)),
        terminated=ends[0],
        truncated=ends[1],
        state=torch.zeros(3, state_size),
    )


SPACE, ACTIONS = gymnasium.spaces.Box(-9, 9, (2,)), gymnasium.spaces.Discrete(2)
NO_NOISE = (None, None, None)


# ---- whose memory


@pytest.mark.parametrize(
    ("burn_in", "length", "stride", "n_step", "double_q"),
    [(0, 4, 4, 1, False), (3, 5, 2, 2, True), (4, 4, 8, 3, True), (2, 1, 1, 1, True)],
)
def test_memories_count_like_the_environments_from_wherever_a_window_starts(
    counting, counting_memory, burn_in, length, stride, n_step, double_q
) -> None:
    memory = counting_memory()
    agent = build_dqn(
        memory,
        counting.single_observation_space,
        counting.single_action_space,
        burn_in=burn_in,
        sequence_length=length,
        stride=stride,
        n_step=n_step,
        double_q=double_q,
        buffer_size=96,  # wraps
    )
    collector = Collector(counting, rollout_length=4, seeds=[1, 2, 3])
    spy = SpySteps(agent)
    for _ in range(24):
        agent.learn(collector.collect(agent))
    target = agent.target.network.get_submodule("backbone").memory
    assert len(spy.calls) > 20
    for each in (memory, target):
        assert each.steps > 500
        assert not each.disagreements


class Forgetful(CellMemory):
    """Says what it reads; its state is empty of meaning, and as good as cleared at each step."""

    state_size = 1
    output_size = 2

    def __init__(self) -> None:
        super().__init__()

    def step(
        self, inputs: Float[Tensor, "B F"], state: Float[Tensor, "B S"]
    ) -> tuple[Tensor, Tensor]:
        return inputs, torch.zeros_like(state)


def test_a_memory_that_is_cleared_at_each_step_equals_none() -> None:
    learnt = []
    for memory in (NoMemory(2), Forgetful()):
        agent = build_dqn(memory, SPACE, ACTIONS, n_step=2, double_q=True)
        for seed in range(8):
            agent.learn(random_trajectory(seed, 12, state_size=memory.state_size))
        assert agent.clock.updates > 10
        learnt.append(agent.optimizer.flat.clone())
    assert torch.equal(*learnt)


# ---- which steps


def filled(**options: Any) -> DQN:
    agent = build_dqn(NoMemory(2), SPACE, ACTIONS, **options)
    for seed in range(6):
        agent.learn(random_trajectory(seed, 12))
    return agent


def step_on(agent: DQN, window: Trajectory, weights: Tensor | None = None) -> tuple[Tensor, ...]:
    """A gradient step from the agent's present weights, which are put back."""
    before = agent.optimizer.flat.clone()
    pace = agent.optimizer.pace(0.0, 0)
    size = window.is_first.shape[1]
    weights = torch.ones(size) if weights is None else weights
    result = agent._step(window, weights, NO_NOISE, pace, torch.zeros(0), True)
    agent.optimizer.flat.copy_(before)
    return result


def draw(agent: DQN, size: int = 200) -> Trajectory:
    sample = agent.replay.sample(size, np.random.default_rng(1), importance_exponent=1.0)
    return sample.window


def test_the_loss_is_the_squared_error_of_the_one_step_target() -> None:
    agent = filled(prioritized=True)
    window = draw(agent)
    head, slow = agent.value_head, agent.target.network.get_submodule("value_head")
    observations = window.observations
    with torch.no_grad():
        value = taken(head(observations[:1]), window.actions)[0]
        following = slow(observations[1]).max(-1).values
    target = window.rewards[0] + DISCOUNT * following * ~window.terminated[0]
    metrics, priorities, _ = step_on(agent, window)
    error = target - value
    assert metrics[0].item() == pytest.approx(error.square().mean().item(), rel=1e-5)
    torch.testing.assert_close(priorities, error.abs())


def test_a_double_target_is_chosen_by_one_network_and_valued_by_the_other() -> None:
    agent = filled(double_q=True, interval=10**6)  # the slow copy stays what it was
    window = draw(agent)
    head, slow = agent.value_head, agent.target.network.get_submodule("value_head")
    with torch.no_grad():
        chosen = head(window.observations[1]).argmax(-1)
        valued = slow(window.observations[1])
    following = valued.gather(-1, chosen[:, None]).squeeze(-1)
    assert (chosen != valued.argmax(-1)).any()
    expected = window.rewards[0] + DISCOUNT * following * ~window.terminated[0]
    torch.testing.assert_close(agent.target(window, window.state, NO_NOISE)[0], expected)


def test_targets_of_terminal_steps_are_their_rewards() -> None:
    agent = filled()
    window = draw(agent)
    ends = window.terminated[0]
    assert ends.any()
    found = agent.target(window, window.state, NO_NOISE)
    assert torch.equal(found[0][ends], window.rewards[0][ends])


def recurrent(**options: Any) -> tuple[DQN, Trajectory]:
    agent = build_dqn(NoMemory(2), SPACE, ACTIONS, sequence_length=6, stride=4, **options)
    for seed in range(6):
        agent.learn(random_trajectory(seed, 12))
    return agent, draw(agent)


def changed(window: Trajectory, **parts: Tensor) -> Trajectory:
    fields = {name: getattr(window, name) for name in Trajectory.__dataclass_fields__}
    return Trajectory(**{**fields, **parts})


def test_steps_that_only_reset_change_nothing() -> None:
    agent, window = recurrent(n_step=2, prioritized=True)
    resets = ~window.valid
    assert resets[:6].any()
    rewards = window.rewards.masked_fill(resets, 1e9)
    actions = torch.where(resets, 1 - window.actions, window.actions)
    expected = step_on(agent, window)
    found = step_on(agent, changed(window, rewards=rewards, actions=actions))
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


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
    assert steps - 12 <= run.agent.clock.updates <= steps
    normalization = run.agent.actor.normalization
    assert normalization.count.item() == steps
    torch.testing.assert_close(normalization.mean, torch.cat(rows).double().mean(0))


def test_importance_weights_scale_each_window_s_loss() -> None:
    agent, window = recurrent()
    weights = torch.zeros(200)
    weights[7] = 3.0
    metrics, _, gradients = step_on(agent, window, weights)
    alone = map_observations(lambda part: part[:, 7:8], window.observations)
    parts = {
        name: getattr(window, name)[:, 7:8]
        for name in ("is_first", "actions", "rewards", "terminated", "truncated")
    }
    own = changed(window, observations=alone, state=window.state[7:8], **parts)
    only, _, own_gradients = step_on(agent, own)
    share = own.valid[:6].sum() / window.valid[:6].sum()
    assert metrics[0].item() == pytest.approx(3 * only[0].item() * share.item(), rel=1e-4)
    torch.testing.assert_close(gradients, 3 * own_gradients * share, rtol=1e-4, atol=1e-6)


def test_priorities_are_errors_without_weights_and_change_what_is_drawn() -> None:
    agent = build_dqn(NoMemory(2), SPACE, ACTIONS, prioritized=True)
    update, kept = agent.replay.update, {}

    def note(starts: Any, priorities: Tensor) -> None:
        kept.update(zip(starts.tolist(), priorities.tolist(), strict=True))
        update(starts, priorities)

    agent.replay.update = note  # type: ignore[method-assign]
    for seed in range(6):
        agent.learn(random_trajectory(seed, 12))
    window = draw(agent)
    expected = step_on(agent, window)[1]
    found = step_on(agent, window, torch.linspace(0.1, 1, 200))[1]
    assert torch.equal(found, expected)
    sample = agent.replay.sample(200, np.random.default_rng(1), importance_exponent=1.0)
    is_known = np.array([start in kept for start in sample.starts.tolist()])
    known = np.array([kept[start] for start in sample.starts[is_known].tolist()])
    assert len(set(known)) > 10
    # Weights undo P ~ p^0.6, and so tell which priority each window has.
    products = sample.weights.numpy()[is_known] * (known + 1e-6) ** 0.6
    np.testing.assert_allclose(products, products[0], rtol=1e-4)


def test_importance_weights_follow_progress() -> None:
    agent, sample, found = filled(prioritized=True), None, []
    sample = agent.replay.sample
    agent.importance_exponent = lambda progress: progress

    def note(*arguments: Any, importance_exponent: float) -> Any:
        found.append(importance_exponent)
        return sample(*arguments, importance_exponent=importance_exponent)

    agent.replay.sample = note  # type: ignore[method-assign]
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
    kept: dict[str, Tensor] = {}
    agent.optimizer.descend = lambda losses, pace, active: (  # type: ignore[method-assign]
        kept.update(losses) or (torch.zeros(2), torch.zeros(1))
    )
    agent._step(
        changed(window, observations=observations),
        torch.ones(8),
        NO_NOISE,
        agent.optimizer.pace(0.0, 0),
        torch.zeros(0),
        True,
    )
    (gradient,) = torch.autograd.grad(kept["critic"], observations)
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

    def noting(observations: Tensor, state: Tensor, is_first: Tensor, *, explore: bool) -> Any:
        states.append(state.clone())
        return act(observations, state, is_first, explore=explore)

    agent.act = noting
    for _ in range(5):
        agent.learn(run.collector.collect(agent))
    sample = agent.replay.sample(64, np.random.default_rng(0), importance_exponent=1.0)
    step, environment = np.divmod(sample.starts, 3)
    kept = torch.stack([states[s][e] for s, e in zip(step, environment, strict=True)])
    torch.testing.assert_close(sample.window.state, kept, atol=1e-5, rtol=0)
    assert sample.window.state.abs().sum() > 0


# ---- when


def slow_weights(agent: DQN) -> Tensor:
    return nn.utils.parameters_to_vector(
        agent.target.network.get_submodule("value_head").parameters()
    )


def own_weights(agent: DQN) -> Tensor:
    return nn.utils.parameters_to_vector(agent.value_head.parameters())


class SpyTarget:
    """Stands in for the gradient step; keeps the target's weights and the network's before each."""

    def __init__(self, agent: DQN) -> None:
        self.steps: list[tuple[Tensor, Tensor]] = []
        self._agent, self._step = agent, agent._gradient_step
        agent._gradient_step = self

    def __call__(self, *arguments: Any) -> Any:
        with torch.no_grad():
            self.steps.append((slow_weights(self._agent), own_weights(self._agent)))
        return self._step(*arguments)


@pytest.mark.parametrize(("num_envs", "frequency"), [(1, 1), (1, 24), (4, 6), (3, 40)])
def test_the_target_is_copied_between_blocks_by_environment_steps(
    build, num_envs: int, frequency: int
) -> None:
    """Where it is copied no step of a block has been taken, and resets count nowhere."""
    run = build(
        "agent=dqn", f"env.num_envs={num_envs}", f"agent.train_frequency={frequency}",
        "agent.replay_ratio=0.5", "agent.target_update_interval=30", "agent.learning_starts=30",
    )  # fmt: skip
    agent, target = run.agent, own_weights(run.agent).clone()
    blocks = 0
    while run.collector.env_steps < 400:
        before = run.collector.env_steps
        trajectory = run.collector.collect(agent)
        if run.collector.env_steps // 30 > before // 30:
            target = own_weights(agent).clone()
        spy = SpyTarget(agent)
        agent.learn(trajectory)
        agent._gradient_step = spy._step
        assert all(torch.equal(slow, target) for slow, _ in spy.steps)
        blocks += bool(spy.steps)
    assert blocks > 3
    assert agent.clock.updates > 150
    assert not torch.equal(own_weights(agent), target)


def test_a_slow_target_moves_after_each_gradient_step(build) -> None:
    run = build(
        "agent=dqn", "agent.train_frequency=20", "agent.polyak_rate=0.25",
    )  # fmt: skip
    agent = run.agent
    spy = SpyTarget(agent)
    while len(spy.steps) < 20:
        agent.learn(run.collector.collect(agent))
    for (slow, _), (later, own) in itertools.pairwise(spy.steps):
        torch.testing.assert_close(later, slow + 0.25 * (own - slow))


@pytest.mark.parametrize("head", ["hl_gauss", "two_hot", "c51"])
def test_a_learnt_support_has_seen_the_targets_of_every_gradient_step(build, head: str) -> None:
    """A reward that most batches of a block do not hold is inside before it is learnt from."""
    run = build(
        "agent=dqn", f"value_head={head}", "value_head.support=auto", "agent.noisy=true",
        "agent.train_frequency=40", "agent.replay_ratio=0.5", "agent.double_q=true",
    )  # fmt: skip
    agent, found = run.agent, []
    head, slow = agent.value_head, agent.target.network.get_submodule("value_head")
    step = agent._gradient_step

    def spy(window: Trajectory, *arguments: Any) -> Any:
        found.append((window.rewards.max().item(), head.support.limits[1].item()))
        assert torch.equal(slow.support.limits, head.support.limits)
        if head.fits_returns:
            targets = agent.target(window, window.state, arguments[1])
            assert targets.abs().max() <= head.support.limits[1]
        return step(window, *arguments)

    agent._gradient_step = spy
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
        run.agent.reach(steps, total_env_steps=100)
        found.append(run.agent.policy_head.epsilon.item())
    assert found == pytest.approx([1, 0.55, 0.1, 0.1, 0.1])


def test_weights_from_elsewhere_are_the_target_s_too(build) -> None:
    agent = build("agent=dqn").agent
    with torch.no_grad():
        agent.optimizer.flat.add_(1)
    agent.adopt()
    own = agent.target.network.get_submodule("value_head").state_dict()
    for name, tensor in agent.value_head.state_dict().items():
        assert torch.equal(own[name], tensor)


def test_rewards_are_scaled_when_sampled_and_raw_in_replay(build) -> None:
    run = build("agent=dqn", "clip_rewards=0.5", "agent.learning_starts=0")
    agent = run.agent
    spy = SpySteps(agent)
    for _ in range(4):
        agent.learn(run.collector.collect(agent))
    window = spy.calls[-1][0]
    assert (window.rewards == 1).all()
    found = agent.target(window, window.state, NO_NOISE)
    ends = window.terminated[0]
    window = changed(window, terminated=torch.ones_like(window.terminated))
    assert (agent.target(window, window.state, NO_NOISE) == 0.5).all()
    assert found.shape == ends[None].shape


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
