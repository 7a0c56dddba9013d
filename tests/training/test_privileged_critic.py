"""Policies whose critic saw everything play where nobody tells it."""

from typing import Any

import numpy as np
import pytest

import neurl
from conf.composing.command_line import load
from training.building.environments import build_environments
from training.evaluation.evaluation import Evaluator

FULL = ["pomdp=mask_velocity", "critic.observation=full", "memory=gru", "memory.hidden_size=4"]


@pytest.fixture(scope="module")
def run(train) -> Any:
    return train(*FULL, "total_env_steps=200", "evaluation.interval=0")


def test_a_policy_plays_in_environments_with_and_without_a_twin(run) -> None:
    policy = neurl.load(run.directory)
    config = policy.config
    plain = load([word for word in FULL if not word.startswith(("pomdp", "critic"))])
    scores = []
    for own, for_acting in ((config, True), (config, False), (plain, True)):
        environments = build_environments(own, num_envs=2, for_acting=for_acting)
        evaluator = Evaluator(environments, seed=0, deterministic=True)
        scores.append(evaluator(policy.agent, episodes=4, index=0))
        environments.close()
    assert scores[0] == scores[1]
    assert len(scores[2].returns) == 4  # CartPole itself, which has no twin


def test_a_loaded_policy_reads_what_the_policy_sees(run) -> None:
    policy = neurl.load(run.directory)
    environments = policy.environments(num_envs=2)
    assert environments.single_observation_space.shape == (4,)
    environments.close()
    assert policy.predict(np.zeros(4, np.float32)) in (0, 1)
