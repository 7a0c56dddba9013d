"""What a configuration becomes: seeds that are the run's own, and parts that do what words say."""

from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from conf.composing.command_line import load
from conf.schema.agents import PPOOptions
from conf.schema.heads import MSEValueHeadOptions
from envs.seeding import environment_seeds
from networks.heads.box import BoxHead, GaussianHead
from networks.heads.distributions import DiagonalGaussian
from networks.heads.policy import BernoulliHead, CategoricalHead, MultiCategoricalHead
from networks.heads.values import ValueHead
from networks.memory.memories import CellMemory
from training.building.heads import build_policy_head


def test_environments_train_on_the_seeds_of_training(build) -> None:
    run = build("env.id=CartPole-v1", "seed=5", "env.num_envs=2")
    found = run.collector.collect(run.agent).observations[0]
    own = gymnasium.make("CartPole-v1")
    for row, seed in zip(found, environment_seeds(5, 2, purpose="train"), strict=True):
        np.testing.assert_array_equal(row.numpy(), own.reset(seed=seed)[0])


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_an_agent_draws_and_is_drawn_by_its_seed_alone(build, kind: str) -> None:
    made = []
    for seed, elsewhere in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(elsewhere)
        agent = build(f"agent={kind}", f"seed={seed}", "policy_head.gain=1.0").agent
        made.append((agent.optimizer.flat.clone(), agent.generator.random(3).tolist()))
    assert torch.equal(made[0][0], made[1][0])
    assert not torch.equal(made[0][0], made[2][0])
    assert made[0][1] == made[1][1] != made[2][1]
    assert made[0][1] != np.random.default_rng(0).random(3).tolist()


def test_states_are_stored_where_that_is_asked_for(build) -> None:
    for asked in ("true", "false"):
        run = build(
            "agent=dqn", "memory=gru", "agent.sequence_length=4", f"agent.stored_state={asked}"
        )
        for _ in range(6):
            run.agent.learn(run.collector.collect(run.agent))
        replay = run.agent.learner.replay
        window = replay.sample(32, np.random.default_rng(0), importance_exponent=1.0).window
        assert bool(window.state.any()) == (asked == "true")


def test_importance_weights_undo_all_of_the_bias_in_the_end(build) -> None:
    words = ["agent=dqn", "agent.prioritized=true", "agent.importance_exponent=0.25"]
    learner = build(*words).agent.learner
    found = [learner.importance_exponent(progress) for progress in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.25, 0.625, 1.0])


def test_single_steps_that_only_reset_are_not_drawn(build) -> None:
    run = build(
        "agent=dqn", "env.id=neurl/Counting-v0", "+env.kwargs.lengths=[1,2]",
        "agent.learning_starts=90", "agent.n_step=2",
    )  # fmt: skip
    for _ in range(8):
        run.agent.learn(run.collector.collect(run.agent))
    replay = run.agent.learner.replay
    window = replay.sample(200, np.random.default_rng(0), importance_exponent=1.0).window
    assert window.valid[0].all()
    assert not window.valid[1].all()


@pytest.mark.parametrize("kind", ["ppo", "a2c", "dqn", "pqn"])
def test_rewards_are_scaled_by_the_return_that_is_learnt(build, kind: str) -> None:
    """An endless reward of 1: its return at a discount of 0.5 goes to 2."""
    run = build(
        f"agent={kind}",
        "env.id=neurl/Endless-v0",
        "+env.kwargs.limit=null",
        "normalize_rewards=true",
        "agent.discount=0.5",
    )
    for _ in range(4):
        run.agent.learn(run.collector.collect(run.agent))
    steps = run.collector.env_steps // 2
    expected = sum(0.5**step for step in range(min(steps, 60)))
    scaling = run.agent.learner.reward_scaling
    assert scaling.accumulator.tolist() == pytest.approx([expected] * 2)


class Broad(BoxHead):
    """A policy head of a user's own, on our options."""

    Options = GaussianHead.Options

    def forward(self, summary: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.linear(summary), torch.ones(self.encoded_size))

    def choice(self):
        return lambda mean, noise: mean if noise is None else mean + np.float32(np.e) * noise


class Steep(ValueHead):
    """A value head of a user's own, with plain keyword arguments."""

    def __init__(self, layers, *, power: int = 2) -> None:
        super().__init__(layers, 1)
        self.power = power

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).abs() ** self.power


@dataclass(kw_only=True)
class FlatOptions(MSEValueHeadOptions):
    """Keys of a value head of a user's own."""

    slope: float = 0.5


class Flat(ValueHead):
    """Takes its options as one."""

    Options = FlatOptions

    def __init__(self, layers, options: FlatOptions) -> None:
        super().__init__(layers, 1)
        self.options = options

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return self.options.slope * (output - target).abs()


@pytest.mark.parametrize("choice", ["auto", "categorical"])
@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (spaces.Discrete(3), CategoricalHead),
        (spaces.MultiDiscrete([2, 3]), MultiCategoricalHead),
        (spaces.MultiBinary(3), BernoulliHead),
    ],
)
def test_discrete_actions_have_a_categorical_head(choice: str, space, kind) -> None:
    config = load([f"policy_head={choice}", "policy_head.hidden_sizes=[7]"])
    head = build_policy_head(config, PPOOptions, space, 5)
    assert type(head) is kind
    assert head.hidden.output_size == 7


def test_heads_of_a_users_own(build) -> None:
    words = ["env=pendulum", "trusted_packages=[tests]", f"policy_head._target_={__name__}.Broad"]
    run = build(*words, f"value_head._target_={__name__}.Steep", "+value_head.power=4")
    assert type(run.agent.policy_head) is Broad
    assert run.agent.value_head.power == 4
    rows, state = np.zeros((2, 3), np.float32), run.agent.initial_state(2)
    actions, _ = run.agent.act(rows, state, np.ones(2, bool), explore=False)
    assert actions.shape == (2, 1)
    run.agent.learn(run.collector.collect(run.agent))
    run = build(*words, f"value_head._target_={__name__}.Flat", "value_head.slope=0.25")
    assert run.agent.value_head.options == FlatOptions(
        hidden_sizes=[], activation="tanh", initialization="orthogonal", gain=1.0, slope=0.25
    )


class Misfit(CellMemory):
    """A memory of a user's own that is not as it says."""

    def __init__(self, input_size: int, *, reads: int, told: int, dtype: str = "float32") -> None:
        super().__init__()
        self.layer, self.dtype = nn.Linear(reads, 3), getattr(torch, dtype)
        self.state_size, self.output_size = 3, told

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = state + self.layer(inputs)
        return state.to(self.dtype), state


@pytest.mark.parametrize(
    ("own", "line"),
    [
        ({"reads": 99, "told": 3}, "cannot read 8 features: mat1 and mat2"),
        ({"reads": 8, "told": 2}, r"makes \[2, 2, 3\] of torch.float32 .* say \[2, 2, 2\] of"),
        (
            {"reads": 8, "told": 3, "dtype": "bfloat16"},
            r"makes \[2, 2, 3\] of torch.bfloat16 .* say \[2, 2, 3\] of torch.float32",
        ),
    ],
)
def test_a_memory_of_a_users_own_that_is_not_as_it_says_is_refused(build, own, line: str) -> None:
    words = ["trusted_packages=[tests]", f"memory._target_={__name__}.Misfit"]
    with pytest.raises(ValueError, match=f"^memory: Misfit {line}"):
        build(*words, *(f"+memory.{key}={value}" for key, value in own.items()))


@pytest.mark.parametrize("agent", ["ppo", "a2c"])
@pytest.mark.parametrize("head", ["gaussian", "squashed_gaussian"])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_continuous_policies_learn(build, agent: str, head: str, memory: str) -> None:
    run = build(
        f"agent={agent}", f"policy_head={head}", f"memory={memory}", "env=pendulum",
        "agent.entropy_coefficient=0.1",
    )  # fmt: skip
    before = run.agent.optimizer.flat.clone()
    trajectory = run.collector.collect(run.agent)
    assert head == "gaussian" or trajectory.actions.abs().max() <= 1
    metrics = run.agent.learn(trajectory)
    assert metrics["policy/entropy"].isfinite()
    assert run.agent.optimizer.flat.isfinite().all()
    assert not torch.equal(run.agent.optimizer.flat, before)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["env=pendulum", "policy_head=categorical"], "use policy_head=auto"),
        (["env=cartpole", "policy_head=squashed_gaussian"], "use policy_head=categorical"),
    ],
)
def test_a_policy_head_for_other_actions_is_refused(build, words, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^policy_head: \w+ does not fit the action.*{line}$"):
        build(*words)
