"""Evaluations with seeds and a generator of a test's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import training.evaluation.evaluation
from training.evaluation.evaluation import Evaluation, Play, Watch, unwatched
from training.stream.collect import Collector


def evaluate(
    agent: Any,
    environments: Any,
    *,
    episodes: int,
    seeds: Sequence[int],
    generator: np.random.Generator,
    deterministic: bool,
    watch: Watch = unwatched,
    max_episode_steps: int | None = None,
) -> Evaluation:
    """Play `episodes` complete episodes."""
    collector = Collector(environments, rollout_length=1, seeds=seeds)
    collector.explores, collector.behaves = not deterministic, False
    limit = max_episode_steps or training.evaluation.evaluation.MAX_EPISODE_STEPS
    return Play(collector, episodes, limit).run(agent, generator, watch)
