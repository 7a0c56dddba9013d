"""The training loop of every agent: collect, learn, repeat."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.agent import Agent
from agents.learning.gradient_step import COUNTS
from networks import ranks
from training.stream.collect import Collector
from training.stream.episodes import Episode


@dataclass(frozen=True)
class Iteration:
    """The result of one round of collecting and learning.

    Attributes:
        env_steps: valid steps since the start, over all environments.
        metrics: of `learn`, by TensorBoard tag.
        episodes: that ended while collecting.
        seconds: by phase: `environment`, `acting`, `update`, `rest`.
    """

    env_steps: int
    metrics: Mapping[str, Tensor | float]
    episodes: list[Episode]
    seconds: dict[str, float]

    @property
    def counts(self) -> tuple[int, int]:
        """Gradient steps taken and skipped; of an agent that counts none, one and none."""
        tags = zip(COUNTS, (1, 0), strict=True)
        taken, skipped = (int(self.metrics.get(tag, usual)) for tag, usual in tags)
        return taken, skipped

    def numbers(self) -> dict[str, float]:
        """Metrics as plain numbers; waits for the GPU."""
        return {tag: float(value) for tag, value in self.metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what is still to be logged, as plain numbers."""
        return {"env_steps": self.env_steps, "metrics": self.numbers(), "seconds": self.seconds}


def iterations(
    agent: Agent,
    collector: Collector,
    *,
    total_env_steps: int,
    schedule_end: int | None = None,
    is_watched: Callable[[int], bool] = lambda env_steps: True,
) -> Iterator[Iteration]:
    """Collect and learn until `total_env_steps` valid steps were taken.

    The agent's schedules use the share of steps taken before each round: the first round learns at
    the schedule's start, and no round at its end.

    Args:
        schedule_end: steps at which schedules end, if that is later than this call.
        is_watched: whether the metrics of the round that ends at a number of steps are read.
    """
    on_cuda = agent.device.type == "cuda"
    schedule_end = max(total_env_steps, schedule_end or 0)
    while collector.env_steps < total_env_steps:
        started = time.perf_counter()
        before = collector.env_steps
        agent.update_progress(before, total_env_steps=schedule_end)
        if collector.curriculum is not None:
            collector.curriculum.update(before)
        trajectory = collector.collect(agent)
        collector.env_steps = before + ranks.total(collector.env_steps - before)
        collected = time.perf_counter()
        if agent.is_watched != (watched := is_watched(collector.env_steps)):
            agent.is_watched = watched  # setting an attribute of a module takes a microsecond
        metrics = agent.learn(trajectory)
        if on_cuda:  # learn() is asynchronous there
            torch.cuda.synchronize(agent.device)
        learnt = time.perf_counter()
        seconds = {**collector.seconds, "update": learnt - collected}
        seconds["rest"] = learnt - started - sum(seconds.values())
        yield Iteration(collector.env_steps, metrics, collector.episodes, seconds)
