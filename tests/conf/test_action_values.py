"""What agents with action values, and those with a replay, refuse; what their numbers come to."""

from typing import Any

import pytest

from conf.checking import steps
from conf.composing.command_line import InvalidConfiguration, load
from training.building.instantiation import plain

REPLAY = ["agent=dqn", "env.num_envs=4"]


def problems(words: list[str], config_name: str = "config") -> list[str]:
    with pytest.raises(InvalidConfiguration) as refusal:
        load(words, config_name)
    assert all("\n" not in problem for problem in refusal.value.problems)
    return refusal.value.problems


@pytest.mark.parametrize("agent", ["dqn", "pqn"])
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["share_backbone=true"], "share_backbone: expected false, because"),
        (["extractor@critic.extractor=mlp"], "critic.extractor: expected null, because"),
        (["memory@critic.memory=lstm"], "critic.memory: expected null, because"),
        (["agent.epsilon=0.1", "agent.final_epsilon=0.2"], "agent.final_epsilon: expected at most"),
        (["agent.epsilon=1.5"], "agent.epsilon: expected a number >= 0 and <= 1, got 1.5"),
        (["agent.clip_range=0.1"], "agent.clip_range: unknown key; only PPO has it"),
        (["agent.gae_lambda=1"], "agent.gae_lambda: unknown key; only A2C, PPO have it"),
    ],
)
def test_refused_where_actions_have_values(agent: str, words: list[str], line: str) -> None:
    (problem,) = problems([f"agent={agent}", *words])
    assert problem.startswith(line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["agent.rollout_length=8"], "agent.rollout_length: unknown key; only A2C, PPO, PQN"),
        (["agent.polyak_rate=0"], "agent.polyak_rate: expected a number > 0 and <= 1, got 0"),
        (["agent.target_update_interval=0"], "agent.target_update_interval: expected an integer"),
        (["agent.noisy_sigma=0"], "agent.noisy_sigma: expected a number > 0, got 0"),
        (["agent.burn_in=3"], "agent.burn_in: expected 0, because memory=none"),
        (
            ["memory=lstm", "agent.sequence_stride=6"],
            "agent.sequence_stride: 6 neither divides agent.train_frequency 4 nor is a multiple of "
            "it; choose 4 or 8",
        ),
        (
            ["memory=gru", "agent.sequence_stride=3"],
            "agent.sequence_stride: 3 neither divides agent.train_frequency 4 nor is a multiple of "
            "it; choose 2 or 4",
        ),
        (
            ["agent.batch_size=2_000", "agent.buffer_size=1_999"],
            "agent.batch_size: 2000 is more than agent.buffer_size 1999 holds: 1996 steps",
        ),
        (
            ["memory=lstm", "agent.batch_size=1_000", "agent.buffer_size=2_000"],
            "agent.batch_size: 1000 is more than agent.buffer_size 2000 holds: 500 sequences, 4 s",
        ),
        (
            ["agent.buffer_size=900"],
            "agent.learning_starts: expected at most agent.buffer_size 900, got 1000",
        ),
        (
            ["total_env_steps=900"],
            "agent.learning_starts: expected less than total_env_steps 900, or nothing is learnt, "
            "got 1000",
        ),
        (
            ["agent.learning_starts=1", "agent.n_step=5"],
            "agent.learning_starts: 1 leaves 4 steps of each of env.num_envs 4 at the first "
            "update, fewer than a window: agent.burn_in 0 + sequence 1 + agent.n_step 5 - 1 = 5; "
            "choose at least 20",
        ),
        (
            ["agent.buffer_size=30", "agent.train_frequency=8", "agent.learning_starts=0"],
            "agent.buffer_size: 30 / env.num_envs 4 holds 7 steps of each environment, fewer than "
            "agent.train_frequency 8 brings at once; choose at least 32",
        ),
    ],
)
def test_refused_of_a_replay(words: list[str], line: str) -> None:
    (problem,) = problems([*REPLAY, *words])
    assert problem.startswith(line)


LSTM = [*REPLAY, "memory=lstm", "agent.learning_starts=68", "agent.batch_size=2"]


def test_a_buffer_must_hold_a_window_wherever_it_was_cut() -> None:
    """Started every 8 steps, of 5 + 10 + 3 - 1 of them."""
    words = [*LSTM, "agent.burn_in=5", "memory.sequence_length=10", "agent.n_step=3"]
    words += ["agent.sequence_stride=8"]
    (problem,) = problems([*words, "agent.buffer_size=95"])
    assert problem == (
        "agent.buffer_size: 95 / env.num_envs 4 holds 16 steps of each environment, fewer than a "
        "window needs: agent.burn_in 5 + sequence 10 + agent.n_step 3 - 1 + 7 up to a start = 24; "
        "choose at least 96"
    )
    load([*words, "agent.buffer_size=96"])


def test_the_numbers_that_a_refusal_names_are_accepted() -> None:
    load([*REPLAY, "agent.learning_starts=20", "agent.n_step=5"])
    load([*REPLAY, "agent.buffer_size=32", "agent.train_frequency=8", "agent.learning_starts=0",
          "agent.batch_size=32"])  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ["agent=dqn", "agent.sequence_stride=7"],
        ["agent=dqn", "agent.prioritized=false", "agent.priority_exponent=0"],
        ["agent=dqn", "gradients.extractor=[critic]"],
        ["agent=dqn", "auxiliary=next_latent"],
        ["agent=dqn", "memory=lstm", "agent.sequence_stride=2"],
        ["agent=dqn", "memory=lstm", "agent.sequence_stride=40", "agent.burn_in=40"],
        ["agent=dqn", "value_head=hl_gauss", "precision=bf16", "normalize_rewards=true"],
        ["agent=dqn", "agent.epsilon=0", "agent.final_epsilon=0", "agent.noisy=true"],
        ["agent=pqn", "memory=gru", "memory.sequence_length=16"],
    ],
)
def test_accepted(words: list[str]) -> None:
    load(words)


@pytest.mark.parametrize("agent", ["dqn", "pqn"])
def test_values_of_actions_have_a_normalised_network_unless_another_is_chosen(agent: str) -> None:
    usual = load([f"agent={agent}"]).extractor
    assert (usual.activation, usual.normalization) == ("relu", "layer")
    chosen = load([f"agent={agent}", "extractor=mlp"]).extractor
    assert (chosen.activation, chosen.normalization) == ("tanh", "none")
    assert load([f"agent={agent}", "extractor.hidden_sizes=[9]"]).extractor.hidden_sizes == [9]


def test_pqn_has_its_published_optimizer_unless_another_is_chosen() -> None:
    assert load(["agent=pqn"]).optimizer._target_ == "torch.optim.RAdam"
    assert load(["agent=pqn", "optimizer=sgd"]).optimizer._target_ == "torch.optim.SGD"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (4, 1, 1, 1, 25_000)),
        (["agent.n_step=3"], (4, 1, 3, 1, 25_000)),
        (["memory=lstm"], (4, 32, 32, 4, 25_000)),
        (["memory=lstm", "memory.sequence_length=10"], (4, 10, 10, 4, 25_000)),
        (["memory=lstm", "agent.sequence_length=20", "agent.burn_in=7"], (4, 20, 27, 4, 25_000)),
        (["memory=lstm", "agent.sequence_stride=12"], (4, 32, 32, 12, 24_996)),
        (["memory=lstm", "memory.sequence_length=1"], (4, 1, 1, 4, 25_000)),
        (["memory.sequence_length=6", "agent.train_frequency=2"], (2, 6, 6, 2, 25_000)),
    ],
)
def test_steps_of_a_replay(words: list[str], expected: tuple[int, ...]) -> None:
    config: dict[str, Any] = plain(load([*REPLAY, *words]))
    assert expected == (
        steps.steps_per_iteration(config),
        steps.training_sequence_length(config),
        steps.window_length(config),
        steps.replay_stride(config),
        steps.replayed_steps(config),
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["agent=a2c"], (5, 1)),
        (["agent=pqn", "memory=lstm"], (32, 32)),
        (["agent=ppo", "memory@critic.memory=gru", "critic.memory.sequence_length=16"], (128, 16)),
    ],
)
def test_steps_of_rollouts(words: list[str], expected: tuple[int, int]) -> None:
    config: dict[str, Any] = plain(load(words))
    assert steps.steps_per_iteration(config) == expected[0]
    assert steps.training_sequence_length(config) == expected[1]


def test_single_environments_of_python_keep_their_defaults() -> None:
    """`neurl.build` adds a number of minibatches only where there is such a key."""
    from conf.composing.command_line import has_key

    assert not has_key(["agent=dqn"], "agent.num_minibatches")
    assert has_key(["agent=pqn"], "agent.num_minibatches")
    for agent in ("dqn", "pqn"):
        load([f"agent={agent}", "env.num_envs=1", *["agent.num_minibatches=1"] * (agent == "pqn")])


@pytest.mark.filterwarnings("ignore:experiment=.*left out")
def test_an_agent_brings_its_learning_rate_to_an_experiment_of_another() -> None:
    """pqn.yaml has one for short runs, radam.yaml one for millions of steps."""
    own = load(["agent=pqn"]).optimizer
    assert load(["experiment=cartpole", "agent=pqn"]).optimizer == own
    assert own.learning_rate != load(["optimizer=radam"]).optimizer.learning_rate
