"""Options of the critics of TD3 and SAC, against their definitions in small."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conf.composing.command_line import InvalidConfiguration, load
from networks.augmentation import shifted
from networks.layers import BatchRenorm
from tests.agents.test_action_critics import GRU, WINDOWS, learn, told, window_of
from tests.grid import ID, registered

BOTH = pytest.mark.parametrize("name", ["td3", "sac"])
RENORM = ["value_head.normalization=batch_renorm", "policy_head.normalization=batch_renorm"]
CROSSQ = ["agent.target_networks=false", *RENORM]
QUANTILES = ["value_head=quantile", "value_head.quantiles=4", "agent.dropped_quantiles=1"]


def prepared(build: Any, name: str, *words: str) -> Any:
    """An agent that has learnt a little, with resets in its windows."""
    run = build(f"agent={name}", "agent.train_frequency=3", "agent.replay_ratio=0.5", *words)
    learn(run, 10)
    return run.agent


@torch.no_grad()
def with_constant_critics(agent: Any, outputs: Tensor) -> None:
    """Let every critic give the same output, `[C, K]`, everywhere."""
    for head in {agent.networks.value_head, agent.learner.target_network.copies[1]}:
        output = head.layers.sequence[-1]
        output.weight.zero_()
        output.bias.copy_(outputs.view(output.bias.shape))


def without_entropy(name: str) -> list[str]:
    return ["agent.temperature=1e-9"] if name == "sac" else []


@BOTH
def test_the_lowest_of_a_random_subset_is_the_target(build, name: str) -> None:
    """REDQ, of five critics two; the actor of SAC follows the mean of all."""
    words = ["agent.num_critics=5", "agent.critic_subset=2", "agent.discount=0.5"]
    agent = prepared(build, name, *words, *without_entropy(name))
    levels = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0])
    with_constant_critics(agent, levels[:, None])
    window, seen = window_of(agent), []
    window = replace(window, terminated=torch.zeros_like(window.terminated))
    for _ in range(80):
        noise = agent.noise()
        _, target, found = told(agent, window, noise)
        assert len(set(noise.critics.tolist())) == 2
        expected = window.rewards + 0.5 * levels[noise.critics].min()
        torch.testing.assert_close(target, expected[..., None].expand_as(target))
        seen.append(levels[noise.critics].min().item())
    # Of ten pairs, the lowest is 1 in four, 2 in three, 3 in two, 4 in one.
    shares = [np.mean(np.equal(seen, level)) for level in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(shares, [0.4, 0.3, 0.2, 0.1, 0], atol=0.15)
    followed = 3.0 if name == "sac" else 5.0
    assert found.losses["actor"].item() == pytest.approx(-followed, abs=1e-5)


@BOTH
def test_the_highest_of_all_quantiles_are_dropped(build, name: str) -> None:
    """TQC, of two critics with four quantiles one each: two of the eight."""
    agent = prepared(build, name, *QUANTILES, "agent.discount=0.5", *without_entropy(name))
    with_constant_critics(agent, torch.tensor([[1.0, 9.0, 2.0, 8.0], [3.0, 4.0, 0.0, 5.0]]))
    window = window_of(agent)
    output, target, found = told(agent, window, agent.noise())
    kept = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    expected = window.rewards[..., None] + 0.5 * kept * ~window.terminated[..., None]
    assert target.shape == (1, 8, 2, 6)
    torch.testing.assert_close(target, expected[:, :, None].expand_as(target))
    # Each critic's quantiles at 1/8, 3/8 ... are fitted to all that were kept.
    levels, errors = (
        torch.tensor([0.125, 0.375, 0.625, 0.875]),
        target[..., None, :] - output[..., None],
    )
    huber = torch.where(errors.abs() <= 1, errors.square() / 2, errors.abs() - 0.5)
    losses = ((levels[:, None] - (errors < 0).float()).abs() * huber).mean(-1).sum((-2, -1))
    torch.testing.assert_close(found.losses["critic"], losses.mean())
    followed = 4.0 if name == "sac" else 5.0  # the mean of all; TD3's first critic
    assert found.losses["actor"].item() == pytest.approx(-followed, abs=1e-5)


# ---- no target networks


def spied(head: nn.Module) -> list[tuple[Tensor, bool]]:
    """What a head reads, and whether it was in training mode."""
    seen: list[tuple[Tensor, bool]] = []
    head.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[0], module.training)))
    return seen


@BOTH
@pytest.mark.parametrize("words", [[], [*GRU, *WINDOWS]], ids=["single steps", "gru"])
def test_without_target_networks_one_pass_reads_both_steps(build, name: str, words: Any) -> None:
    agent = prepared(build, name, "agent.target_networks=false", "agent.n_step=1", *words)
    window, noise = window_of(agent), agent.noise()
    seen = spied(agent.networks.value_head)
    joint = told(agent, window, noise)
    length = len(window.rewards[agent.learner.learnt])
    first = seen[0][0]
    assert len(first) == 2 * length
    if not words:
        torch.testing.assert_close(first[0, :, :3], window.observations[0])
        torch.testing.assert_close(first[0, :, 3:], window.actions[0])
        torch.testing.assert_close(first[1, :, :3], window.observations[1])
    # Without batch statistics, it is as if the target networks were never behind.
    agent.learner.target_network.update(1.0)
    agent.critics._is_joint = False
    apart = told(agent, window, noise)
    for one, other in zip(joint[:2], apart[:2], strict=True):
        torch.testing.assert_close(one, other)
    for loss, value in joint[2].losses.items():
        torch.testing.assert_close(value, apart[2].losses[loss])
    assert not joint[1].requires_grad


@BOTH
def test_both_steps_share_batch_statistics_which_the_actor_does_not_change(build, name) -> None:
    agent = prepared(build, name, *CROSSQ)
    window, noise = window_of(agent), agent.noise()
    norm = next(m for m in agent.networks.value_head.modules() if isinstance(m, BatchRenorm))
    before, seen = norm.mean.clone(), spied(agent.networks.value_head.layers)
    with agent.training_mode():
        agent.choose_losses(2)
        losses = agent.losses(window, None, noise).losses
        (both, trains), (_, also) = seen
        assert trains
        assert also  # dropout stays on for the actor's loss, as in DroQ
        expected = before.lerp(both.flatten(0, -2).mean(0).expand_as(before), 0.01)
        torch.testing.assert_close(norm.mean, expected)
        assert norm.training
    assert norm.steps == agent.learner.clock.updates + 1
    acting = next(m for m in agent.policy_head.modules() if isinstance(m, BatchRenorm))
    delay = 2 if name == "td3" else 1
    assert acting.steps == norm.steps // delay  # where it is fitted alone
    assert all(loss.isfinite() for loss in losses.values())


@BOTH
def test_without_target_networks_nothing_is_copied(build, name: str) -> None:
    run = build(f"agent={name}", *CROSSQ, "agent.policy_delay=3", "agent.replay_ratio=1")
    agent, learner = run.agent, run.agent.learner
    assert learner.target_network.copies[1] is agent.networks.value_head
    assert not [*learner.target_network.parameters()]
    before = {n: p.detach().clone() for n, p in agent.named_parameters()}
    learn(run, 20)
    assert learner.clock.updates > 10
    still = {n for n, p in agent.named_parameters() if torch.equal(p, before[n])}
    assert still == set()
    keys = [key for key in agent.state_dict() if "target_network" in key]
    assert keys == []


@BOTH
def test_acting_reads_running_statistics_and_changes_none(build, name: str) -> None:
    agent = prepared(build, name, *CROSSQ)
    kept = {n: buffer.clone() for n, buffer in agent.named_buffers()}
    rows, first = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.ones(6, bool)
    together, _ = agent.act(rows, agent.initial_state(6), first, explore=False)
    alone = [
        agent.act(row[None], agent.initial_state(1), first[:1], explore=False)[0] for row in rows
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)
    in_torch = agent.policy_head(torch.from_numpy(rows)).mode().detach().numpy()
    np.testing.assert_allclose(together, in_torch, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(buffer, kept[n]) for n, buffer in agent.named_buffers())


@BOTH
def test_dropout_is_on_where_critics_are_fitted_and_off_in_targets(build, name: str) -> None:
    """DroQ."""
    words = ["value_head.dropout=0.5", "value_head.normalization=layer"]
    agent = prepared(build, name, *words)
    window, noise = window_of(agent), agent.noise()
    with agent.training_mode():
        found = [told(agent, window, noise) for _ in range(2)]
    outputs, targets, _ = zip(*found, strict=True)
    assert not torch.equal(*outputs)
    assert torch.equal(*targets)


def test_sac_delays_actor_and_temperature_and_scales_its_entropy(build) -> None:
    words = ["agent.policy_delay=3", "agent.target_entropy_scale=0.5", "agent.replay_ratio=1"]
    run = build("agent=sac", *words)
    agent, due = run.agent, []
    assert agent._target_entropy(None, None) == -0.5
    losses = agent.losses
    agent.losses = lambda *inputs: due.append(agent.due) or losses(*inputs)
    learn(run, 12)
    assert len(due) > 9
    rest = ("critic", "actor", "temperature")
    assert due == [rest if n % 3 == 0 else ("critic",) for n in range(1, len(due) + 1)]


# ---- augmentation


@pytest.mark.parametrize("name", ["dqn", "sac"])
@pytest.mark.parametrize("observations", ["image hwc", "image chw", "camera"])
def test_every_image_of_a_window_is_shifted_by_itself(build, name: str, observations: str) -> None:
    """DrQ: in gradient steps alone, the step and the next one; by the agent's generator."""
    actions = "discrete" if name == "dqn" else "finite box"
    given = [f"env.id={ID}", f"+env.kwargs.actions={actions}", "+env.kwargs.size=9"]
    given += [f"+env.kwargs.observations={observations}", "agent.random_shift=2", "extractor=cnn"]
    if observations == "camera":
        given[-1:] = ["extractor=dict", "+extractor@extractor.keys.camera=cnn"]
    with registered():
        run = build(f"agent={name}", *given, "agent.train_frequency=8", "agent.replay_ratio=0.1")
        agent, drawn, learnt = run.agent, [], []
        sample, losses = agent.learner.replay.sample, agent.losses
        agent.learner.replay.sample = lambda *a, **k: drawn.append(sample(*a, **k)) or drawn[-1]
        agent.losses = lambda *inputs: learnt.append(inputs[0]) or losses(*inputs)
        learn(run, 6)
    assert len(drawn) == len(learnt) > 1
    stored, seen = (
        (w.observations["camera"], w.observations["speed"])
        if observations == "camera"
        else (w.observations, w.rewards)
        for w in (drawn[-1].window, learnt[-1])
    )
    assert torch.equal(stored[1], seen[1])
    height = 2 if observations == "image chw" else 1
    both = [each[0].flatten(0, 1) for each in (stored, seen)]
    steps = list(itertools.product(range(-2, 3), repeat=2))
    shifts = []
    for before, after in zip(*both, strict=True):
        fits = [
            s
            for s in steps
            if torch.equal(after, shifted(before[None], torch.tensor([s]), height=height)[0])
        ]
        assert len(fits) == 1
        shifts += fits
    assert len(set(shifts)) > 5
    assert shifts[:8] != shifts[8:]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "agent=sac agent.critic_subset=3",
            "agent.critic_subset: expected at most agent.num_critics 2, got 3",
        ),
        (
            "agent=td3 agent.dropped_quantiles=1",
            "agent.dropped_quantiles: expected 0 without value_head=quantile, got 1",
        ),
        (
            "agent=sac value_head=quantile value_head.quantiles=4 agent.dropped_quantiles=4",
            "agent.dropped_quantiles: expected fewer than value_head.quantiles 4, got 4",
        ),
        (
            "agent=dqn agent.noisy=true value_head.normalization=layer",
            "value_head.normalization: expected none, because agent.noisy=true has no such layers",
        ),
    ],
)
def test_what_cannot_be_is_refused(words: str, line: str) -> None:
    with pytest.raises(InvalidConfiguration, match=line):
        load(words.split())


def test_what_does_not_fit_is_refused_when_built(build) -> None:
    with pytest.raises(ValueError, match=r"agent.target_networks: expected true with discrete"):
        build("agent=sac", "env.id=CartPole-v1", "agent.target_networks=false")
    with pytest.raises(
        ValueError, match=r"policy_head: .* is a BatchRenorm, which acts by running"
    ):
        build("agent=ppo", "policy_head.hidden_sizes=[4]", "policy_head.normalization=batch_renorm")
