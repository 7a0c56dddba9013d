"""Targets, losses and updates of DDPG, TD3 and SAC, against their definitions step by step."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurl
from agents.trajectory import Trajectory
from tests.agents.conftest import COUNTING, StepSpy, counting_environments
from tests.agents.test_targets import walked
from training.stream.loop import iterations

NAMES = ("ddpg", "td3", "sac")
EVERY_AGENT = pytest.mark.parametrize("name", NAMES)
WINDOWS = ["agent.sequence_length=5", "agent.burn_in=2", "agent.n_step=2", "agent.discount=0.8"]
GRU = ["extractor=mlp", "extractor.hidden_sizes=[6]", "memory=gru"]
NETWORKS = {
    "single steps": ["agent.n_step=2", "agent.discount=0.8"],
    "separate": [*GRU, *WINDOWS],
    "shared": [*GRU, *WINDOWS, "share_backbone=true"],
    "from zeros": [*GRU, *WINDOWS, "agent.stored_state=false"],
}
STEEP = 1.5
"""Factor of the weights, so that values and actions differ between states."""


def learn(run: Any, rounds: int) -> None:
    total = run.collector.env_steps + rounds * 1000
    steps = iterations(run.agent, run.collector, total_env_steps=total)
    for _ in range(rounds):
        next(steps)


@torch.enable_grad()
def trained(build: Callable[..., Any], name: str, *words: str) -> Any:
    """An agent whose target networks have fallen behind, with resets in its windows."""
    run = build(
        f"agent={name}",
        "agent.buffer_size=90",  # it goes round
        "agent.train_frequency=3",
        "agent.polyak_rate=0.1",
        "optimizer.learning_rate=0.01",
        "policy_head.gain=2.0",  # actions at their bounds too
        *words,
    )
    learn(run, 14)
    with torch.no_grad():
        run.agent.optimizer.flat.mul_(STEEP)
    return run.agent


def window_of(agent: Any) -> Trajectory:
    return agent.learner.replay.sample(8, agent.generator, importance_exponent=0.0).window


def stepwise(backbone: Any, window: Trajectory, state: Tensor) -> Tensor:
    """Summaries `[W + 1, N, H]`, one observation at a time from the window's first."""
    found = []
    for observations, is_first in zip(window.observations, window.is_first, strict=True):
        summary, state = backbone(observations[None], state, is_first[None])
        found.append(summary[0])
    return torch.stack(found)


def followed(agent: Any, window: Trajectory) -> tuple[Tensor, Tensor, Tensor, slice]:
    """Rewards, discounts and steps to bootstrap from, `[L, N]`, of the steps that are learnt."""
    learner = agent.learner
    learnt, n_step = learner.learnt, learner._n_step
    flags = (each.numpy() for each in (window.rewards, window.terminated, window.truncated))
    rewards, terminated, truncated = flags
    walks = [
        [
            walked(rewards[:, n], terminated[:, n], truncated[:, n], t, n_step, 0.8)
            for n in range(rewards.shape[1])
        ]
        for t in range(learnt.start, learnt.stop)
    ]
    found = torch.tensor(walks, dtype=torch.float64)
    return found[..., 0].float(), found[..., 1].float(), found[..., 2].long(), learnt


def told(agent: Any, window: Trajectory, noise: Any) -> tuple[Tensor, Tensor, Any]:
    """The critics' outputs, what they are fitted to, and the losses."""
    head, kept = agent.networks.value_head, []
    loss = head.loss

    def note(output: Tensor, target: Tensor) -> Tensor:
        kept.append((output, target))
        return loss(output, target)

    head.loss = note
    agent.choose_losses(2)  # all of them
    losses = agent.losses(window, None, noise)
    del head.loss
    ((output, target),) = kept
    return output, target, losses


def values(head: Any, summaries: Tensor, actions: Tensor) -> Tensor:
    """One critic after the other, from its weights alone: `[L, N, C]`."""
    found = []
    for critic in range(head.layers.output_shape[0]):
        rows = torch.cat([summaries, actions], -1)
        for number, layer in enumerate(m for m in head.layers.sequence if hasattr(m, "weight")):
            rows = rows.relu() if number else rows
            rows = rows @ layer.weight[critic] + layer.bias[critic]
        found.append(rows[..., 0])
    return torch.stack(found, -1)


@EVERY_AGENT
@pytest.mark.parametrize("words", NETWORKS.values(), ids=NETWORKS)
@torch.no_grad()
def test_losses_are_those_of_the_definition(build, name: str, words: list[str]) -> None:
    """Every network rolls over the window from its own state, to the step that it is read at."""
    agent = trained(build, name, *words)
    window, noise = window_of(agent), agent.noise()
    if name == "td3":
        noise = noise._replace(actions=10 * noise.actions)  # most of it is clipped
    rewards, discounts, steps, learnt = followed(agent, window)
    assert len(rewards) == 1 or window.is_first[1:].any()
    networks, shares = agent.networks, agent.networks.shares_backbone
    target_critic, target_head, *target_policy = agent.learner.target_network.copies
    zero = networks.critic.memory.initial_state(8)
    # Without stored states windows begin from zeros.
    of_actor = window.state if agent.learner.keeps_state else agent.actor.memory.initial_state(8)
    of_critic = of_actor if shares else zero

    def after(summaries: Tensor) -> Tensor:
        return summaries[steps, torch.arange(8)]

    summaries = after(stepwise(target_critic, window, of_critic))
    entropy = 0.0
    if name == "sac":
        policy = agent.policy_head(after(stepwise(agent.actor, window, of_actor)))
        actions = policy.sample(noise.next)
        entropy = -agent.temperature.log.exp() * policy.log_prob(actions)
    else:
        actor, policy_head = target_policy
        actions = policy_head(after(stepwise(actor, window, of_actor))).mode()
    if name == "td3":
        actions = actions + (0.2 * noise.actions).clamp(-0.5, 0.5)
        assert (actions.abs() > 1).any()
        actions = actions.clamp(-1, 1)
    lowest = values(target_head, summaries, actions).amin(-1)
    expected = rewards + discounts * (lowest + entropy)

    output, target, found = told(agent, window, noise)
    torch.testing.assert_close(target, expected[..., None].expand_as(target), rtol=1e-3, atol=1e-3)
    here = stepwise(networks.critic, window, of_critic)[learnt]
    taken = window.actions[learnt]
    close = functools.partial(torch.testing.assert_close, rtol=1e-3, atol=1e-3)
    close(output, values(networks.value_head, here, taken))
    valid = window.valid[learnt]
    losses = (output - target).square().sum(-1)
    close(found.losses["critic"], losses[valid].mean())

    policy = agent.policy_head(stepwise(agent.actor, window, of_actor)[learnt])
    if name == "sac":
        actions, log_probs = policy.sample_with_log_prob(noise.here)
        alpha = agent.temperature.log.exp()
        cost = alpha * log_probs - values(networks.value_head, here, actions).amin(-1)
        gap = -1.0 + log_probs[valid].mean()  # the target entropy is minus one dimension
        close(found.losses["temperature"], -agent.temperature.log * gap)
    else:
        cost = -values(networks.value_head, here, policy.mode())[..., 0]
    close(found.losses["actor"], cost[valid].mean())


@EVERY_AGENT
@pytest.mark.parametrize("head", ["mse", "hl_gauss", "quantile"])
def test_nothing_follows_a_termination_not_even_entropy(build, name: str, head: str) -> None:
    agent = trained(build, name, f"value_head={head}")
    window = window_of(agent)
    ended = replace(window, terminated=torch.ones_like(window.terminated))
    _, target, _ = told(agent, ended, agent.noise())
    rewards = ended.rewards[agent.learner.learnt, :, None]
    if head == "quantile":
        rewards = rewards[..., None]
    assert torch.equal(target, rewards.expand_as(target))


@pytest.mark.parametrize("name", ["td3", "sac"])
@pytest.mark.parametrize("order", [(3.0, 5.0), (5.0, 3.0)])
@torch.no_grad()
def test_of_two_constant_critics_the_lower_counts(build, name: str, order: Any) -> None:
    words = ["agent.temperature=1e-9"] if name == "sac" else []
    agent = trained(build, name, "agent.discount=0.5", *words)
    for head in (agent.networks.value_head, agent.learner.target_network.copies[1]):
        head.layers.sequence[-1].weight.zero_()
        head.layers.sequence[-1].bias.copy_(torch.tensor(order)[:, None, None])
    window = window_of(agent)
    _, target, found = told(agent, window, agent.noise())
    expected = window.rewards + 0.5 * 3.0 * ~window.terminated
    torch.testing.assert_close(target, expected[..., None].expand_as(target))
    # TD3's actor follows its first critic.
    assert found.losses["actor"].item() == pytest.approx(-3.0 if name == "sac" else -order[0])


@EVERY_AGENT
@torch.no_grad()
def test_several_critics_are_the_critics_alone(build, name: str) -> None:
    agent = trained(build, name)
    head, summaries = agent.networks.value_head, torch.randn(4, 5, 3)
    actions = torch.rand(4, 5, 1) * 2 - 1
    found = agent.critics(summaries, actions)
    assert found.shape == (4, 5, 1 if name == "ddpg" else 2)
    torch.testing.assert_close(found, values(head, summaries, actions))
    assert torch.unique(found).numel() == found.numel()


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_delayed_actors_and_targets_move_at_every_so_manieth_step(build, delay: int) -> None:
    words = ["agent.learning_starts=9", "agent.replay_ratio=1"]
    run = build("agent=td3", f"agent.policy_delay={delay}", *words)
    agent, moved = run.agent, []

    def weights() -> list[Tensor]:
        networks = agent.networks
        found = (networks.value_head, networks.policy_head, agent.learner.target_network)
        return [torch.cat([p.flatten() for p in each.parameters()]).detach() for each in found]

    seen = weights()

    class Watching(StepSpy):
        def __call__(self, *inputs: Any, **scheduled: Tensor) -> Any:
            nonlocal seen
            now = weights()
            # The target network follows after the step.
            moved.append([not torch.equal(a, b) for a, b in zip(now, seen, strict=True)])
            seen = now
            return super().__call__(*inputs, **scheduled)

    Watching(agent)
    learn(run, 10)
    taken = agent.learner.clock.updates
    assert taken == len(moved) > 20
    critic, actor, target = zip(*moved[1:], strict=True)  # what the step before has moved
    due = [number % delay == 0 for number in range(1, taken)]
    assert all(critic)
    assert [*actor] == [*target] == due
    assert sum(due) == (taken - 1) // delay


@EVERY_AGENT
@pytest.mark.parametrize("counted", ["terminated", "truncated"])
def test_no_state_is_lost_while_acting_or_in_replay(build, name: str, counted: str) -> None:
    """A separate critic begins a window at zero: it counts from there, or from a later reset."""
    environments = counting_environments(counted)
    environments.close()
    words = [*COUNTING, "+env.kwargs.continuous=true", "agent.sequence_length=4"]
    words += ["share_backbone=true", "agent.burn_in=2", "env.num_envs=3", "agent.n_step=2"]
    run = build(f"agent={name}", *words, "agent.buffer_size=90")
    learn(run, 40)
    agent = run.agent
    memories = [agent.actor.memory, agent.learner.target_network.copies[0].memory]
    assert all(memory.steps > 100 for memory in memories)
    assert [memory.disagreements for memory in memories] == [[], []]


# ---- acting


@EVERY_AGENT
def test_what_was_sent_is_what_is_stored_in_warm_up_and_after(build, name: str) -> None:
    run = build(f"agent={name}", "agent.learning_starts=60", "agent.train_frequency=2")
    agent, sent, stored = run.agent, [], []
    step, add = run.environments.step, agent.learner.replay.add

    def note(actions: np.ndarray) -> Any:
        sent.append(actions.copy())
        return step(actions)

    def keep(trajectory: Trajectory, states: Any) -> None:
        stored.append(trajectory.actions.numpy().copy())
        add(trajectory, states)

    run.environments.step, agent.learner.replay.add = note, keep
    learn(run, 30)
    actions = np.concatenate(stored)
    assert np.abs(actions).max() <= 1.0
    np.testing.assert_allclose(2.0 * actions, np.stack(sent), rtol=1e-6)
    first, rest = actions[:20].ravel(), actions[20:].ravel()
    assert first.std() == pytest.approx(np.sqrt(1 / 3), abs=0.1)  # uniform in [-1, 1]
    if name != "sac":  # the policy, and a tenth of noise
        assert rest.std() < 0.4


@EVERY_AGENT
def test_evaluation_and_loaded_policies_do_not_warm_up(build, name: str) -> None:
    run = build(f"agent={name}", "agent.learning_starts=90")
    agent = run.agent
    learn(run, 1)
    assert agent.is_warming_up
    rows = np.zeros((200, 3), np.float32)
    inputs = rows, agent.initial_state(200), np.ones(200, bool)
    with agent.using(np.random.default_rng(0)):
        found, _ = agent.act(*inputs, explore=True)
        modes, _ = agent.act(*inputs, explore=False)
    assert np.ptp(modes) == 0.0
    if name != "sac":
        assert (found - modes).std() == pytest.approx(0.1, abs=0.02)
    assert agent.is_warming_up
    policy = neurl.build(f"agent={name}", "env=pendulum")
    assert not policy.agent.is_warming_up


# ---- discrete actions


@pytest.mark.parametrize("actions", ["discrete", "choices", "bits"])
@pytest.mark.parametrize("words", [[], [*GRU, *WINDOWS]], ids=["single steps", "gru"])
@torch.no_grad()
def test_discrete_sac_takes_expectations_over_every_action(build, actions: str, words: Any) -> None:
    from tests.grid import ID, registered

    with registered():
        given = [f"env.id={ID}", f"+env.kwargs.actions={actions}", "+env.kwargs.observations=box"]
        agent = trained(build, "sac", *given, "agent.n_step=1", "agent.discount=0.8", *words[:-1])
    size = {"discrete": 3, "choices": 2 * 3 * 2, "bits": 2**4}[actions]
    assert agent._target_entropy(None, None) == pytest.approx(0.89 * np.log(size))
    window = window_of(agent)
    rewards, discounts, steps, learnt = followed(agent, window)
    columns = torch.arange(8)
    critic, head = agent.learner.target_network.copies
    zero = agent.networks.critic.memory.initial_state(8)
    q = head(stepwise(critic, window, zero)[steps, columns]).amin(-2)
    policy = agent.policy_head(stepwise(agent.actor, window, window.state)[steps, columns])
    log_probs, alpha = policy.log_probabilities, agent.temperature.log.exp()
    expected = rewards + discounts * (log_probs.exp() * (q - alpha * log_probs)).sum(-1)
    output, target, found = told(agent, window, agent.noise())
    torch.testing.assert_close(target, expected[..., None].expand_as(target), rtol=1e-3, atol=1e-3)

    here = agent.networks.value_head(stepwise(agent.networks.critic, window, zero)[learnt])
    assert here.shape[2:] == (2, size)
    taken = window.actions[learnt]
    for step, n in np.ndindex(*taken.shape):
        # A memory's products of other batches end in other last bits.
        expected = here[step, n, :, taken[step, n]]
        torch.testing.assert_close(output[step, n], expected, rtol=1e-6, atol=1e-6)
    policy = agent.policy_head(stepwise(agent.actor, window, window.state)[learnt])
    log_probs, valid = policy.log_probabilities, window.valid[learnt]
    cost = (log_probs.exp() * (alpha * log_probs - here.amin(2))).sum(-1)
    torch.testing.assert_close(found.losses["actor"], cost[valid].mean(), rtol=1e-3, atol=1e-3)


def test_targets_of_discrete_actions_are_no_distributions(build) -> None:
    for head in ("c51", "quantile"):
        with pytest.raises(ValueError, match="value_head: expected mse, huber, two_hot or hl_"):
            build("agent=sac", "env.id=CartPole-v1", f"value_head={head}")


# ---- refusals


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["agent=td3", "env.id=CartPole-v1"], r"action space Discrete\(2\): agent=td3 follows"),
        (["agent=ddpg", "env.id=CartPole-v1"], "use agent=sac, agent=dqn or agent=ppo"),
        (["agent=td3", "value_head.hidden_sizes=[]"], "would be linear in the action"),
        (["agent=sac", "value_head.hidden_sizes=[]"], "^value_head.hidden_sizes: expected layers"),
    ],
)
def test_what_does_not_fit_is_refused_when_built(build, words: list[str], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        build(*words)


@EVERY_AGENT
@pytest.mark.parametrize("high", [np.inf, np.finfo(np.float32).max])
def test_unbounded_actions_are_refused(build_run, build, name: str, high: float) -> None:
    from training.building.build import build_agent

    run = build(f"agent={name}")
    space = run.environments.single_action_space
    endless = type(space)(-2.0, np.float32(high), (1,))
    with pytest.raises(ValueError, match=r"finite bounds.*agent=ppo or agent=a2c"):
        build_agent(run.config, run.environments.single_observation_space, endless, num_envs=1)
