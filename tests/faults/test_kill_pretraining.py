"""Pre-training that is killed at any moment ends as if it never had been, and so does its run."""

import os
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.faults

RUNS = int(os.environ.get("FAULT_RUNS", "5"))
"""Runs that are killed."""
WORDS = [
    "env.num_envs=4",
    "num_threads=1",
    "extractor=vae",
    "extractor.latent_size=3",
    "extractor.freeze=2000",
    "extractor.pretrain.frames=6000",
    "extractor.pretrain.epochs=12",
    "normalize_observations=true",
    "total_env_steps=4000",
    "evaluation.interval=2000",
    "evaluation.episodes=2",
    "evaluation.num_envs=2",
    "evaluation.final_episodes=2",
    "checkpoint.interval=600",
]


@pytest.fixture(scope="module")
def undisturbed(training, duration, tmp_path_factory) -> tuple[Path, float]:
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    return directory, duration(training(WORDS, directory).finish)


@pytest.mark.parametrize("number", range(RUNS))
def test_killed_at_random_moments(number, undisturbed, training, same_run, tmp_path) -> None:
    expected, seconds = undisturbed
    random = np.random.default_rng(number)
    run = training(WORDS, tmp_path / "run")
    for _ in range(3):
        run.kill_after(random.uniform(0.2, 0.9) * seconds)
    run.finish()
    same_run(expected, run.directory)
    same_run(expected / "pretraining", run.directory / "pretraining")


@pytest.mark.parametrize("number", range(max(2, RUNS // 2)))
def test_killed_while_saving(number, undisturbed, training, same_run, tmp_path) -> None:
    expected, _ = undisturbed
    random = np.random.default_rng(100 + number)
    run = training(WORDS, tmp_path / "run")
    for most in (60, 12, 60):
        run.die_at(int(random.integers(1, most)))
    run.finish()
    same_run(expected, run.directory)
    same_run(expected / "pretraining", run.directory / "pretraining")
