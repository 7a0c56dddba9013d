"""A run's progress: its counters, scores and times, and when the next events are due."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

from training.evaluation.evaluation import Evaluation
from training.process.memory import peak_memory
from training.stream.loop import Iteration

Occasion = Literal["evaluation", "checkpoint", "tracking"]


def goal_of(config: DictConfig) -> float | None:
    """Return the score that ends a run; None: only its budget does."""
    goal: Any = config.evaluation.get("stop_at")
    score: float | None = config.task.solved_at if goal == "solved" else goal
    return score


class Due:
    """Tells whether a multiple of an interval was reached or passed since the last mark."""

    def __init__(self, intervals: Mapping[str, int], steps: int = 0) -> None:
        """Start where nothing is due; intervals are environment steps, 0 is never."""
        self._intervals = dict(intervals)
        self._next: dict[str, float] = {}
        for what in intervals:
            self.mark(what, steps)

    @property
    def next(self) -> float:
        """Steps before which nothing is due."""
        return min(self._next.values())

    def __call__(self, what: Occasion, steps: int) -> bool:
        """Tell whether it is time."""
        return steps >= self._next[what]

    def mark(self, what: str, steps: int) -> None:
        """Mark it as done."""
        interval = self._intervals[what]
        self._next[what] = (steps // interval + 1) * interval if interval else math.inf

    def state_dict(self) -> dict[str, Any]:
        """Return the intervals, and the steps at which each is due next."""
        ahead = {what: steps for what, steps in self._next.items() if steps < math.inf}
        return {"intervals": dict(self._intervals), "next": ahead}

    def load_state_dict(self, state: Mapping[str, Any], steps: int) -> None:
        """Resume; a changed interval counts from here."""
        for what, interval in self._intervals.items():
            self.mark(what, steps)
            if state["intervals"][what] == interval:
                self._next[what] = state["next"].get(what, math.inf)


_MAX_LOST_ITERATIONS = 3
_OF_A_SUMMARY = (
    "env_steps", "stopped_at", "pretraining_env_steps", "pretraining_seconds", "updates",
    "skipped_updates", "environment_restarts", "resumes", "training_seconds", "phase_seconds",
)  # fmt: skip


class Diverged(RuntimeError):
    """No gradient is finite any more; the last finite weights are kept."""


@dataclass
class Progression:
    """Counters, scores and times of a run, over all its sessions.

    Attributes:
        begun_at: environment steps that the policy was trained for before the run.
        stopped_at: the score that ended the run, as `evaluation.stop_at` asks.
        pretraining_seconds: of all sessions that pre-trained; `training_seconds` has none of them.
        earlier_peak_mib: the largest resident memory of earlier sessions.
        lost_iterations: iterations in a row without a finite gradient, since `lost_since` steps.
    """

    env_steps: int = 0
    begun_at: int = 0
    stopped_at: float | None = None
    updates: int = 0
    skipped_updates: int = 0
    environment_restarts: int = 0
    resumes: int = 0
    training_seconds: float = 0.0
    earlier_seconds: float = 0.0
    evaluation: Evaluation | None = None
    best: Evaluation | None = None
    best_env_steps: int = 0
    pretraining_env_steps: int = 0
    pretraining_seconds: float = 0.0
    earlier_peak_mib: float | None = None
    lost_iterations: int = 0
    lost_since: int = 0
    phase_seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start the clock of this session."""
        self._started = time.monotonic()

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second of collecting and learning."""
        seconds = self.training_seconds
        return (self.env_steps - self.begun_at) / seconds if seconds else 0.0

    def count(self, iteration: Iteration) -> None:
        """Count an iteration's steps, updates and times.

        Raises:
            Diverged: it is the last of several without a finite gradient.
        """
        taken, skipped = iteration.counts
        self.env_steps = iteration.env_steps
        self.updates += taken
        self.skipped_updates += skipped
        for phase, seconds in iteration.seconds.items():
            self.training_seconds += seconds
            self.phase_seconds[phase] = self.phase_seconds.get(phase, 0.0) + seconds
        if taken or not skipped:
            self.lost_iterations, self.lost_since = 0, self.env_steps
            return
        self.lost_iterations += 1
        if self.lost_iterations >= _MAX_LOST_ITERATIONS:
            raise Diverged(
                f"no gradient was finite in {self.lost_iterations} updates in a row, from "
                f"{self.lost_since:,} to {self.env_steps:,} steps. Lower optimizer.learning_rate "
                "or optimizer.max_grad_norm, or set normalize_rewards=true or "
                "normalize_observations=true"
            )

    def summary(self) -> dict[str, Any]:
        """Plain numbers for `summary.json`; those of time and memory are over all sessions."""
        now = self.state_dict()
        best = self.best and {**self.best.summary(), "env_steps": self.best_env_steps}
        return {
            **{name: now[name] for name in _OF_A_SUMMARY},
            "wall_seconds": now["earlier_seconds"],
            "peak_memory_mib": now["earlier_peak_mib"],
            "steps_per_second": self.steps_per_second,
            "evaluation": self.evaluation and self.evaluation.summary(),
            "best": best,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, this session among the earlier ones."""
        peaks = filter(None, [self.earlier_peak_mib, peak_memory()])  # None where it is unknown
        seconds = self.earlier_seconds + time.monotonic() - self._started
        now = {"earlier_seconds": seconds, "earlier_peak_mib": max(peaks, default=None)}
        return asdict(self) | now

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Progression":
        """Resume from a saved state, in a new session."""
        scores = ("evaluation", "best")
        restored = {name: state[name] and Evaluation.from_dict(state[name]) for name in scores}
        return cls(**{**state, **restored, "resumes": state["resumes"] + 1})
