"""A run's progress: its counters, scores and times, and when the next events are due."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

from training.evaluation.evaluation import Evaluation
from training.process.memory import peak_memory

Occasion = Literal["evaluation", "checkpoint", "tracking"]


def goal_of(config: DictConfig) -> float | None:
    """Return the score that ends a run; None: only its budget does."""
    goal: Any = config.evaluation.get("stop_at")
    score: float | None = config.task.solved_at if goal == "solved" else goal
    return score


class Due:
    """Tells whether a multiple of an interval was reached or passed since the last mark.

    Attributes:
        next: steps before which nothing is due.
    """

    def __init__(self, intervals: Mapping[str, int]) -> None:
        """Start at step 0, where nothing is due; intervals are environment steps, 0 is never."""
        self._intervals = dict(intervals)
        self._reached = dict.fromkeys(self._intervals, 0)
        self._look_ahead()

    def _look_ahead(self) -> None:
        self._next = {
            what: (self._reached[what] + 1) * interval if interval else math.inf
            for what, interval in self._intervals.items()
        }
        self.next = min(self._next.values())

    def __call__(self, what: Occasion, steps: int) -> bool:
        """Tell whether it is time."""
        return steps >= self._next[what]

    def mark(self, what: str, steps: int) -> None:
        """Mark it as done."""
        interval = self._intervals[what]
        self._reached[what] = steps // interval if interval else 0
        self._look_ahead()

    def state_dict(self) -> dict[str, Any]:
        """Return the steps reached and the intervals."""
        return {"intervals": dict(self._intervals), "reached": dict(self._reached)}

    def load_state_dict(self, state: Mapping[str, Any], steps: int) -> None:
        """Resume; a changed interval counts from here."""
        for what, interval in self._intervals.items():
            if state["intervals"][what] == interval:
                self._reached[what] = state["reached"][what]
            else:
                self.mark(what, steps)
        self._look_ahead()


@dataclass
class Progression:
    """Counters, scores and times of a run, over all its sessions.

    Attributes:
        stopped_at: the score that ended the run, as `evaluation.stop_at` asks.
        pretraining_seconds: of all sessions that pre-trained; `training_seconds` has none of them.
        earlier_peak_mib: the largest resident memory of earlier sessions.
        lost_iterations: iterations in a row without a finite gradient, since `lost_since` steps.
    """

    env_steps: int = 0
    stopped_at: float | None = None
    updates: int = 0
    skipped: int = 0
    restarts: int = 0
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
        return self.env_steps / self.training_seconds if self.training_seconds else 0.0

    @property
    def wall_seconds(self) -> float:
        """Seconds of all sessions, evaluations included."""
        return self.earlier_seconds + time.monotonic() - self._started

    @property
    def peak_memory_mib(self) -> float | None:
        """Largest resident memory of any session's process; None if the system does not tell."""
        return max(filter(None, [self.earlier_peak_mib, peak_memory()]), default=None)

    def summary(self) -> dict[str, Any]:
        """Plain numbers for `summary.json`."""
        best = None if self.best is None else self.best.summary()
        return {
            "env_steps": self.env_steps,
            "stopped_at": self.stopped_at,
            "pretraining_env_steps": self.pretraining_env_steps,
            "pretraining_seconds": self.pretraining_seconds,
            "updates": self.updates,
            "skipped_updates": self.skipped,
            "environment_restarts": self.restarts,
            "resumes": self.resumes,
            "wall_seconds": self.wall_seconds,
            "training_seconds": self.training_seconds,
            "steps_per_second": self.steps_per_second,
            "phase_seconds": self.phase_seconds,
            "peak_memory_mib": self.peak_memory_mib,
            "evaluation": None if self.evaluation is None else self.evaluation.summary(),
            "best": None if best is None else {**best, "env_steps": self.best_env_steps},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        return {
            **asdict(self),
            "earlier_seconds": self.wall_seconds,
            "earlier_peak_mib": self.peak_memory_mib,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Progression":
        """Resume from a saved state, in a new session."""
        scores = ("evaluation", "best")
        restored = {name: state[name] and Evaluation.from_dict(state[name]) for name in scores}
        return cls(**{**state, **restored, "resumes": state["resumes"] + 1})
