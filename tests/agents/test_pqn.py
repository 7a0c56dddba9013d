"""PQN: its returns are Q(lambda)'s of the networks that acted, and nothing else reaches them."""

import dataclasses

import pytest
import torch
from torch import Tensor

from agents.learning.sequences import Batch, to_sequences
from agents.pqn import PQN
from agents.trajectory import Trajectory
from tests.agents.conftest import COUNTING, FORGETFUL

DISCOUNT, LAMBDA = 0.9, 0.7
ONE_STEP = ["agent.num_epochs=1", "agent.num_minibatches=1"]
NUMBERS = [f"agent.discount={DISCOUNT}", f"agent.td_lambda={LAMBDA}"]


@pytest.fixture
def build(build):
    return lambda *words: build("agent=pqn", *words)


def prepared(agent: PQN, trajectory: Trajectory) -> Batch:
    return agent.prepare(trajectory)[0]


def learn_once(run) -> dict[str, Tensor]:
    return run.agent.learn(run.collector.collect(run.agent))


def weights_of(agent: PQN) -> Tensor:
    return agent.optimizer.flat.clone()


# Returns


class ActingSpy:
    """Notes, at every step of acting, the values of all actions; and the state after it."""

    def __init__(self, agent: PQN) -> None:
        self.agent, self._act = agent, agent.act
        self.values: list[Tensor] = []
        agent.act = self

    @torch.no_grad()
    def __call__(self, observations, state, is_first, *, explore):
        self.values.append(self.read(*map(torch.from_numpy, (observations, state, is_first))))
        actions, self.state = self._act(observations, state, is_first, explore=explore)
        return actions, self.state

    @torch.no_grad()
    def read(self, observations, state, is_first) -> Tensor:
        summary, _ = self.agent.actor(observations[None], state, is_first[None])
        head = self.agent.networks.value_head
        return head.value(head(summary[0]))


def q_lambda(rewards, best, ends, terminated) -> list[float]:
    """Returns of one environment from the definition, n-step returns one after another.

        (1 - lambda) sum_n lambda^(n - 1) G^(n), the last of them with all weight that is left

    Args:
        best: value of the best action at each observation, the last one included.
    """
    found = []
    for start in range(len(rewards)):
        total, share, earned, factor = 0.0, 1.0, 0.0, 1.0
        for step in range(start, len(rewards)):
            earned += factor * rewards[step]
            factor *= DISCOUNT
            n_step = earned + (0.0 if terminated[step] else factor * best[step + 1])
            if ends[step] or step == len(rewards) - 1:
                total += share * n_step
                break
            total += share * (1 - LAMBDA) * n_step
            share *= LAMBDA
        found.append(total)
    return found


def counted(ending: str) -> list[str]:
    """Episodes that begin and end everywhere in rollouts; what is shown counts their steps."""
    lengths = "+env.kwargs.lengths=[3,5,2,1,1,9]"
    return ["env.id=neurl/Counting-v0", lengths, f"+env.kwargs.ending={ending}"]


CASES = {
    "none": ["memory=none"],
    "lstm": ["memory=lstm"],
    "gru cut": ["memory=gru", "memory.sequence_length=4"],
    "dueling histogram": ["agent.dueling=true", "value_head=hl_gauss", "value_head.bins=11"],
}


@pytest.mark.parametrize(
    ("case", "ending"),
    [
        ("none", "terminated"),
        ("none", "truncated"),
        ("lstm", "truncated"),
        ("gru cut", "both"),
        ("gru cut", "terminated"),
        ("dueling histogram", "truncated"),
    ],
)
def test_returns_are_those_of_the_values_that_acting_had(build, case: str, ending: str) -> None:
    """Noted one observation at a time while acting, before any gradient step, by brute force."""
    run = build(*CASES[case], *NUMBERS, *counted(ending), "optimizer.learning_rate=0.01")
    spy = ActingSpy(run.agent)
    for _ in range(3):  # of weights that move, and of memories that are carried over
        spy.values.clear()
        trajectory = run.collector.collect(run.agent)
        state = torch.from_numpy(spy.state)
        last = spy.read(trajectory.observations[-1], state, trajectory.is_first[-1])
        values = torch.stack([*spy.values, last])
        length = run.agent.learner.sequence_length
        rollout = prepared(run.agent, trajectory)
        found = rollout.returns.unflatten(1, (-1, 3)).transpose(0, 1).reshape(12, 3)
        assert rollout.returns.shape == (length, 12 // length * 3)
        for index in range(3):
            expected = q_lambda(
                trajectory.rewards[:, index].tolist(),
                values[:, index].amax(-1).tolist(),
                trajectory.ended[:, index].tolist(),
                trajectory.terminated[:, index].tolist(),
            )
            valid = trajectory.valid[:, index]
            torch.testing.assert_close(
                found[valid, index], torch.tensor(expected)[valid], rtol=0, atol=2e-5
            )
        taken = values[:-1].gather(-1, trajectory.actions[..., None])[..., 0]
        old = rollout.old_values.unflatten(1, (-1, 3)).transpose(0, 1).reshape(12, 3)
        torch.testing.assert_close(old, taken, rtol=0, atol=1e-5)
        run.agent.learn(trajectory)
    assert trajectory.ended.sum() > 3


def test_lambda_zero_is_one_step_q_learning(build) -> None:
    run = build("agent.td_lambda=0", f"agent.discount={DISCOUNT}", *counted("terminated"))
    trajectory = run.collector.collect(run.agent)
    with torch.no_grad():
        summary, _ = run.agent.actor(trajectory.observations, trajectory.state, trajectory.is_first)
        best = run.agent.networks.value_head(summary)[1:].amax(-1)
    expected = trajectory.rewards + DISCOUNT * best * ~trajectory.terminated
    found = prepared(run.agent, trajectory).returns.view(12, 3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert trajectory.terminated.any()


def test_returns_stay_what_they_were_while_the_network_moves(build, spy_on_steps) -> None:
    run = build("optimizer.learning_rate=0.01")
    seen: list[Tensor] = []
    spy_on_steps(run.agent, lambda batch, _: seen.append(batch.returns.clone()))
    learn_once(run)
    assert len(seen) == 2 * 3
    assert all(torch.equal(returns, seen[0]) for returns in seen)


def test_rewards_are_scaled_for_learning_alone(build) -> None:
    run = build("normalize_rewards=true", "agent.discount=0.5")
    trajectory = run.collector.collect(run.agent)
    prepared(run.agent, trajectory)
    scale = run.agent.learner.reward_scaling.statistics.scale.item()
    assert scale != pytest.approx(1, abs=0.05)
    assert trajectory.rewards[trajectory.valid].unique().tolist() == [1.0]
    clipped = build("clip_rewards=0.25", "agent.td_lambda=0", "agent.discount=0")
    batch = prepared(clipped.agent, clipped.collector.collect(clipped.agent))
    assert (batch.returns[batch.valid] == 0.25).all()


# Gradient steps


def test_a_single_step_moves_towards_the_returns_of_the_actions_taken(build, trajectory) -> None:
    """One state, two actions, discount 0: the gradient is 2 (Q - r) / n of the actions taken."""
    run = build(
        *ONE_STEP, "env.id=neurl/ConstantReward-v0", "agent.discount=0", "optimizer=sgd",
        "optimizer.momentum=0", "optimizer.learning_rate=0.1", "optimizer.max_grad_norm=null",
        "agent.rollout_length=2", "env.num_envs=2",
    )  # fmt: skip
    output = run.agent.networks.value_head.layers.actions.output
    with torch.no_grad():
        output.weight.zero_()
        output.bias.copy_(torch.arange(len(output.bias)).float())
    before = output.bias.clone()
    stream = trajectory(
        torch.zeros(3, 2, 1), torch.tensor([[0, 0], [0, 1]]), torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    )
    metrics = run.agent.learn(stream)
    gradient = torch.zeros_like(before)
    gradient[0] = 2 * ((0 - 1) + (0 - 2) + (0 - 3)) / 4
    gradient[1] = 2 * (1 - 5) / 4
    torch.testing.assert_close(output.bias, before - 0.1 * gradient)
    assert metrics["loss/value"].item() == pytest.approx((1 + 4 + 9 + 16) / 4)
    assert metrics["value/td_error"].item() == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert metrics["value/mean"].item() == pytest.approx(0.25)


@pytest.mark.parametrize("words", [["memory=none"], ["memory=lstm", "memory.sequence_length=4"]])
def test_the_order_of_a_full_batch_does_not_matter(build, words) -> None:
    """The sums of a gradient alone are added up in another order."""
    learnt = []
    for order in (1, -1):
        run = build(*words, *ONE_STEP, "optimizer=sgd")
        trajectory = run.collector.collect(run.agent)
        rollout = prepared(run.agent, trajectory)
        sequences = torch.arange(rollout.valid.shape[1])
        chosen = sequences if order == 1 else sequences.flip(0)
        run.agent.gradient_step.begin(0.0, 0, measures=False)
        run.agent.gradient_step(rollout, chosen)
        learnt.append(weights_of(run.agent))
    torch.testing.assert_close(*learnt, rtol=0, atol=1e-6)


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_the_first_step_of_sequences_is_that_of_whole_rollouts(build, memory: str) -> None:
    """The states before sequences are those of one unroll: the values are, and so is the loss."""
    losses = []
    for length in (12, 4, 1):
        run = build(f"memory={memory}", f"memory.sequence_length={length}", *ONE_STEP)
        learnt = learn_once(run)
        losses.append([learnt["loss/value"], learnt["value/mean"], learnt["value/td_error"]])
    for each in losses[1:]:
        torch.testing.assert_close(each, losses[0], rtol=1e-5, atol=1e-6)


def test_a_memory_that_is_cleared_at_each_step_equals_none(build) -> None:
    """Sequences of one step both: the same minibatches."""
    learnt = []
    for words in ([], [*FORGETFUL, "memory.sequence_length=1"]):
        run = build(*words)
        for _ in range(3):
            learn_once(run)
        learnt.append(weights_of(run.agent))
    assert torch.equal(*learnt)


def test_every_pass_is_a_partition_of_the_sequences(build, spy_on_steps) -> None:
    run = build("memory=gru", "memory.sequence_length=4")
    spy = spy_on_steps(run.agent)
    learn_once(run)
    drawn = [call.inputs[1].tolist() for call in spy.calls]
    assert len(drawn) == 2 * 3
    for half in (drawn[:3], drawn[3:]):
        assert sorted(number for part in half for number in part) == list(range(9))
    assert drawn[:3] != drawn[3:]


@pytest.mark.parametrize(
    ("length", "ending"), [(1, "both"), (4, "terminated"), (4, "truncated"), (12, "truncated")]
)
def test_the_memory_counts_steps_as_the_environments_do(build, length: int, ending: str) -> None:
    """In acting, the unroll, the observation after it and both passes, across rollouts."""
    run = build(*counted(ending), *COUNTING, f"memory.sequence_length={length}")
    memory = run.agent.actor.memory
    for _ in range(4):
        trajectory = run.collector.collect(run.agent)
        run.agent.learn(trajectory)
        state, first = prepared(run.agent, trajectory).actor_state[0], trajectory.is_first[:-1]
        first = first[::length].flatten()
        shown = trajectory.observations[:-1:length, :, 1].flatten()
        assert torch.equal(state[~first, 0], shown[~first])
    # Acting, the unroll (twice: it is looked at here) and one observation more, two passes.
    assert memory.steps == 4 * (36 + 2 * (36 + 3) + 2 * 36)
    assert memory.disagreements == []


# What it is made of


def test_learning_follows_the_seed_and_nothing_else(build) -> None:
    finished = []
    for seed, elsewhere in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(elsewhere)
        run = build("memory=lstm", f"seed={seed}")
        for _ in range(2):
            learn_once(run)
        finished.append(weights_of(run.agent))
    assert torch.equal(finished[0], finished[1])
    assert not torch.equal(finished[0], finished[2])


def test_every_parameter_is_in_one_part_that_is_trained_and_reported(build) -> None:
    run = build("memory=lstm", "agent.dueling=true", "value_head.hidden_sizes=[4]")
    agent = run.agent
    before = [parameter.detach().clone() for parameter in agent.parameters()]
    metrics = learn_once(run)
    for parameter, kept in zip(agent.parameters(), before, strict=True):
        assert not torch.equal(parameter, kept)
    parts = {name: {id(p) for p in part} for name, part in agent.parts().items()}
    assert {name for name, part in parts.items() if part} == {
        "actor.extractor",
        "actor.memory",
        "value_head",
    }
    assert sum(map(len, parts.values())) == len(before)
    for part in ("actor.extractor", "actor.memory", "value_head"):
        assert metrics[f"gradient_norm/{part}"] > 0
        assert metrics[f"update_ratio/{part}"] > 0
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    positions = {f"value/td_error/{where}" for where in ("start", "middle", "end")}
    told = {"loss/value", "value/mean", "value/max", "value/td_error", "schedule/epsilon"}
    assert told | positions <= metrics.keys()


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_frozen_features_are_computed_once(build, monkeypatch, memory: str) -> None:
    run = build("extractor.freeze=true", f"memory={memory}")
    extractor = run.agent.actor.extractor
    before, calls, forward = [p.clone() for p in extractor.parameters()], [], extractor.forward
    trajectory = run.collector.collect(run.agent)
    monkeypatch.setattr(
        extractor, "forward", lambda rows: (calls.append(len(rows)), forward(rows))[1]
    )
    run.agent.learn(trajectory)
    assert calls == [13 * 3]
    assert all(map(torch.equal, extractor.parameters(), before))
    rollout = prepared(run.agent, trajectory)
    assert rollout.observations is None


def test_learning_on_kept_features_is_learning_on_observations(build) -> None:
    runs = [build("extractor.freeze=true", "memory=gru", "memory.sequence_length=4") for _ in "ab"]
    prepare = runs[1].agent.prepare

    def with_observations(trajectory: Trajectory) -> tuple[Batch, dict[str, Tensor]]:
        batch, metrics = prepare(trajectory)
        cut = to_sequences(trajectory.step_observations, 4)
        return dataclasses.replace(batch, observations=cut, actor_features=None), metrics

    runs[1].agent.prepare = with_observations
    for run in runs:
        for _ in range(2):
            learn_once(run)
    found, expected = (weights_of(run.agent) for run in runs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("routes", ["[critic,auxiliary]", "[auxiliary]"])
def test_auxiliary_losses_train_features_and_no_memory(build, routes: str) -> None:
    """Rewards and values of 0 leave nothing to learn but from the auxiliary loss."""
    words = ["auxiliary=next_latent", "auxiliary.next_latent.hidden_sizes=[5]", "memory=gru"]
    run = build(*words, f"gradients.extractor={routes}")
    torch.nn.init.zeros_(run.agent.networks.value_head.layers.actions.output.weight)
    trajectory = run.collector.collect(run.agent)
    trajectory.rewards.zero_()
    before = {name: p.detach().clone() for name, p in run.agent.named_parameters()}
    assert run.agent.learn(trajectory)["loss/next_latent"] > 0
    moved = {
        ".".join(name.split(".")[:2])
        for name, parameter in run.agent.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    assert moved == {"actor.extractor", "auxiliary.by_backbone"}


def test_without_a_route_the_values_train_no_extractor(build) -> None:
    run = build("gradients.extractor=[]", "memory=gru")
    before = {name: p.detach().clone() for name, p in run.agent.actor.named_parameters()}
    learn_once(run)
    for name, parameter in run.agent.actor.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("extractor.")


# Exploration


def test_epsilon_falls_with_environment_steps_and_acts(build) -> None:
    run = build("agent.epsilon=0.8", "agent.final_epsilon=0.2", "agent.epsilon_fraction=0.5")
    head, found = run.agent.policy_head, []
    for steps in (0, 25, 50, 75, 100):
        run.agent.update_progress(steps, total_env_steps=100)
        found.append(head.epsilon.item())
        assert learn_once(run)["schedule/epsilon"].item() == found[-1]
    assert found == pytest.approx([0.8, 0.5, 0.2, 0.2, 0.2])


# What is refused


@pytest.mark.parametrize("head", ["c51", "quantile"])
def test_heads_that_fit_no_returns_are_refused_in_words(build, head: str) -> None:
    with pytest.raises(Exception, match=rf"value_head: .*{head}|value_head.*return"):
        build(f"value_head={head}")


def test_actions_without_a_value_each_are_refused_in_words(build) -> None:
    with pytest.raises(ValueError, match="use agent=ppo"):
        build("env.id=neurl/ContinuousTarget-v0")
