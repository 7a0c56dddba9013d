"""Evaluations with seeds and a generator of a test's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.evaluation.evaluation import Evaluation, Play, Watch


def evaluate(
    agent: Any,
    environments: Any,
    *,
    episodes: int,
    seeds: Sequence[int],
    generator: np.random.Generator,
    deterministic: bool,
    watch: Watch = lambda play: None,
    max_episode_steps: int | None = None,
) -> Evaluation:
    """Play `episodes` complete episodes."""
    play = Play(environments, seeds, episodes, max_episode_steps, explores=not deterministic)
    return play.run(agent, generator, watch)
