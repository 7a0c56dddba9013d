"""A run that is killed at any moment, any number of times, ends as if it never had been."""

import os
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.faults

RUNS = int(os.environ.get("FAULT_RUNS", "11"))
"""Runs that are killed at random moments, over all cases."""
KILLS = 2
SMALL = [
    "env.num_envs=4",
    "extractor.hidden_sizes=[16]",
    "total_env_steps=24000",
    "evaluation.interval=4000",
    "evaluation.episodes=4",
    "evaluation.num_envs=4",
    "evaluation.final_episodes=4",
    "checkpoint.interval=600",
    "tracking.interval=1",
    "normalize_observations=true",
    "normalize_rewards=true",
    "optimizer.schedule=linear",
    "policy_head.gain=1.0",
]
CASES = {
    f"{agent} {memory} {vectorization}": [
        f"agent={agent}",
        "agent.rollout_length=32" if agent == "ppo" else "agent.rollout_length=8",
        *(["agent.num_epochs=2", "agent.num_minibatches=2"] if agent == "ppo" else []),
        f"memory={memory}",
        *(["memory.hidden_size=8"] if memory == "lstm" else []),
        f"env.vectorization={vectorization}",
    ]
    for agent in ("ppo", "a2c")
    for memory in ("none", "lstm")
    for vectorization in ("sync", "async")
}
REPLAY = [
    "agent=dqn",
    "agent.train_frequency=8",
    "agent.replay_ratio=0.05",
    "agent.target_update_interval=50",
    "agent.buffer_size=5_000",  # it goes round, several times
    "agent.batch_size=8",
]
LSTM = ["memory=lstm", "memory.hidden_size=8", "memory.sequence_length=8", "agent.burn_in=4"]
CASES |= {
    "dqn none sync": REPLAY,
    "dqn none async": [*REPLAY, "env.vectorization=async", "env.frame_stack=2", "agent.noisy=true"],
    "dqn prioritised lstm sync": [
        *(word for word in REPLAY if "ratio" not in word),
        *LSTM,
        "agent.replay_ratio=0.02",
        "agent.prioritized=true",
        "agent.n_step=3",
    ],
}


@pytest.fixture(scope="module")
def undisturbed(training, duration, tmp_path_factory):
    """Each case's run that nobody kills, and how long it takes."""
    known: dict[str, tuple[Path, float]] = {}

    def look_up(case: str) -> tuple[Path, float]:
        if case not in known:
            directory = tmp_path_factory.mktemp("undisturbed") / "run"
            run = training([*SMALL, *CASES[case]], directory)
            known[case] = directory, duration(run.finish)
        return known[case]

    return look_up


@pytest.mark.parametrize("number", range(RUNS))
def test_killed_at_random_moments(number, undisturbed, training, same_run, tmp_path) -> None:
    case = list(CASES)[number % len(CASES)]
    expected, seconds = undisturbed(case)
    random = np.random.default_rng(number)
    run = training([*SMALL, *CASES[case]], tmp_path / "run")
    for _ in range(KILLS):
        run.kill_after(random.uniform(0.1, seconds))
    run.finish()
    same_run(expected, run.directory)


@pytest.mark.parametrize("number", range(max(2, RUNS // 3)))
def test_killed_while_saving_and_while_going_on(
    number, undisturbed, training, same_run, tmp_path
) -> None:
    """At calls that write, sync, rename and remove; the early ones of a resumed run restore it."""
    case = list(CASES)[(5 * number) % len(CASES)]
    expected, _ = undisturbed(case)
    random = np.random.default_rng(100 + number)
    run = training([*SMALL, *CASES[case]], tmp_path / "run")
    for most in (200, 12, 100):
        run.die_at(int(random.integers(1, most)))
    run.finish()
    same_run(expected, run.directory)
