"""The life of a run: train, watch, evaluate, save, summarise."""

import importlib.metadata
import platform
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from agents.agent import Agent
from envs.vector import EnvironmentFailure
from training.checkpoint import load_checkpoint, save_checkpoint, write_json
from training.collect import Collector
from training.episodes import EpisodeHistory, InvalidExperience
from training.evaluation import Evaluation, Evaluator
from training.loop import Iteration, iterations
from training.tracking import NoTensorBoard, Progress, TensorBoard

Status = Literal["running", "finished", "interrupted", "failed"]
_RETURN_WINDOW = 100
"""Episodes in the running average of the training return."""


_MAX_LOST_ITERATIONS = 3


class Diverged(RuntimeError):
    """The networks have left what numbers can hold; their last finite weights are kept."""


@dataclass(frozen=True)
class Intervals:
    """How often things happen, in environment steps; 0 is never."""

    evaluation: int
    checkpoint: int
    tracking: int


@dataclass
class Progression:
    """Where the run stands; everything that `summary.json` reports of it."""

    env_steps: int = 0
    updates: int = 0
    training_seconds: float = 0.0
    evaluation: Evaluation | None = None
    best: Evaluation | None = None
    best_env_steps: int = 0
    phase_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second of collecting and learning."""
        return self.env_steps / self.training_seconds if self.training_seconds else 0.0


class Run:
    """One training run and its directory.

    Leaves `checkpoints/last` and `checkpoints/best`, event files and `summary.json`, which is
    rewritten at each evaluation and last of all.
    """

    def __init__(
        self,
        *,
        agent: Agent,
        collector: Collector,
        evaluator: Evaluator,
        directory: Path,
        tensorboard: TensorBoard | NoTensorBoard,
        progress: Progress,
        total_env_steps: int,
        intervals: Intervals,
        evaluation_episodes: int,
        final_episodes: int,
        final_checkpoint: Literal["last", "best"],
        facts: Mapping[str, Any],
    ) -> None:
        """Take the parts; `facts` go into the summary as they are (seed, parameters)."""
        self._agent, self._collector, self._evaluator = agent, collector, evaluator
        self._directory, self._tensorboard, self._progress = directory, tensorboard, progress
        self._total, self._intervals = total_env_steps, intervals
        self._evaluation_episodes, self._final_episodes = evaluation_episodes, final_episodes
        self._final_checkpoint = final_checkpoint
        self._facts = facts
        self._history = EpisodeHistory(_RETURN_WINDOW)
        self._due = _Due(intervals)
        self._unlogged: Iteration | None = None
        self._lost_iterations = 0
        self.plays_best = False  # whether the agent's weights are those of checkpoints/best
        self._started = time.perf_counter()
        self.at = Progression()
        self.stopped_by: int | None = None

    def train(self) -> Status:
        """Train to the end or until asked to stop; return how it went.

        `stopped_by` then holds the number of the signal that stopped it.

        The first SIGINT or SIGTERM finishes the iteration, saves and returns; a second one
        interrupts at once.
        """
        status: Status = "failed"
        self._write_summary("running")
        try:
            with _stop_requests() as stop:
                for iteration in iterations(
                    self._agent, self._collector, total_env_steps=self._total
                ):
                    self._after(iteration)
                    if stop:
                        break
                outcome: Status = "interrupted" if stop else "finished"
                self._finish(outcome)
            status, self.stopped_by = outcome, stop[0] if stop else None
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except (InvalidExperience, EnvironmentFailure, Diverged):
            if not self.plays_best:  # the weights are whole: none of these leaves a step half taken
                self._save("last")
            raise
        finally:
            self._progress.close()
            self._write_summary(status)
            self._tensorboard.close()
        return status

    def _after(self, iteration: Iteration) -> None:
        at = self.at
        at.env_steps = iteration.env_steps
        at.updates += int(iteration.metrics.get("update/steps", 1))
        self._watch_divergence(iteration)
        at.training_seconds += sum(iteration.seconds.values())
        for phase, seconds in iteration.seconds.items():
            at.phase_seconds[phase] = at.phase_seconds.get(phase, 0.0) + seconds
        self._history.extend(iteration.episodes)
        self._progress.update(at.env_steps, self._history.return_mean)
        self._unlogged = iteration
        if self._due("tracking", at.env_steps):
            self._log(iteration)
        if self._due("evaluation", at.env_steps) and at.env_steps < self._total:
            self._evaluate(self._evaluation_episodes)
        if self._due("checkpoint", at.env_steps):
            self._save("last")

    def _watch_divergence(self, iteration: Iteration) -> None:
        """Stop where nothing is learnt any more, because no gradient is finite."""
        skipped = float(iteration.metrics.get("update/skipped", 0.0))
        learnt_nothing = skipped > 0 and not float(iteration.metrics.get("update/steps", 1.0))
        self._lost_iterations = self._lost_iterations + 1 if learnt_nothing else 0
        if self._lost_iterations >= _MAX_LOST_ITERATIONS:
            raise Diverged(
                f"no gradient was finite in {self._lost_iterations} updates in a row, "
                f"until {iteration.env_steps:,} steps; lower optimizer.learning_rate or "
                "optimizer.max_grad_norm, or set normalize_rewards=true"
            )

    def _log(self, iteration: Iteration) -> None:
        total = sum(iteration.seconds.values())
        values = {tag: float(value) for tag, value in iteration.metrics.items()}
        values |= self._history.report()
        values |= {f"time/{phase}": s / total for phase, s in iteration.seconds.items()}
        values["time/steps_per_second"] = self.at.steps_per_second
        self._scalars(values)
        self._unlogged = None

    def _scalars(self, values: Mapping[str, float]) -> None:
        self._tensorboard.scalars(values, self.at.env_steps, time.time())

    def _evaluate(self, episodes: int) -> Evaluation:
        at = self.at
        at.evaluation = self._evaluator(self._agent, episodes=episodes, index=at.env_steps)
        if not self.plays_best:  # earlier weights have their point on the curve already
            self._scalars(
                {
                    "evaluation/return": at.evaluation.return_mean,
                    "evaluation/length": at.evaluation.length_mean,
                }
            )
        steps = at.best_env_steps if self.plays_best else at.env_steps
        self._progress.write(
            f"{steps:>12,} steps   evaluation {at.evaluation.return_mean:9.2f}"
            f" +- {at.evaluation.return_std:.2f}   "
            + ("best weights" if self.plays_best else f"{at.steps_per_second:,.0f} steps/s")
        )
        is_best = at.best is None or at.evaluation.return_mean >= at.best.return_mean
        if is_best and not self.plays_best:
            at.best, at.best_env_steps = at.evaluation, at.env_steps
            self._save("best")
        self._tensorboard.flush()
        self._write_summary("running")
        return at.evaluation

    def _finish(self, status: Status) -> None:
        self._save("last")
        if self._unlogged is not None:
            self._log(self._unlogged)
        if status == "finished":
            # The best checkpoint is chosen before the long evaluation, which then measures it.
            if self._final_checkpoint == "best" and self.at.best is not None:
                tensors, _ = load_checkpoint(self._directory / "checkpoints" / "best")
                self._agent.load_state_dict(tensors)
                self.plays_best = True
            self._evaluate(self._final_episodes)

    def _save(self, name: str) -> None:
        save_checkpoint(
            self._directory / "checkpoints" / name,
            tensors=self._agent.state_dict(),
            state={
                "env_steps": self.at.env_steps,
                "updates": self.at.updates,
                "generator": self._agent.generator.bit_generator.state,
            },
            step=self.at.env_steps,
        )

    def _write_summary(self, status: Status) -> None:
        at = self.at
        best = None if at.best is None else {**at.best.summary(), "env_steps": at.best_env_steps}
        content = {
            "status": status,
            "env_steps": at.env_steps,
            "updates": at.updates,
            "wall_seconds": time.perf_counter() - self._started,
            "training_seconds": at.training_seconds,
            "steps_per_second": at.steps_per_second,
            "phase_seconds": at.phase_seconds,
            "evaluation": None if at.evaluation is None else at.evaluation.summary(),
            "evaluation_checkpoint": "best" if self.plays_best else "last",
            "best": best,
            "train_return_mean": self._history.return_mean,
            **self._facts,
            "versions": versions(),
        }
        write_json(self._directory / "summary.json", content)


class _Due:
    """Says when the next multiple of an interval was reached or passed."""

    def __init__(self, intervals: Intervals) -> None:
        self._intervals = intervals
        self._reached = {"evaluation": 0, "checkpoint": 0, "tracking": 0}

    def __call__(self, what: Literal["evaluation", "checkpoint", "tracking"], steps: int) -> bool:
        interval: int = getattr(self._intervals, what)
        if interval == 0:
            return False
        multiple = steps // interval
        is_due = multiple > self._reached[what]
        self._reached[what] = multiple
        return is_due


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect the first stop signal in a list; later ones act as usual."""
    received: list[int] = []

    def request(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    kept: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in kept.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            kept[number] = signal.signal(number, request)
        except ValueError:  # not the main thread: its owner handles signals
            break
    try:
        yield received
    finally:
        restore()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("neurl", "torch", "gymnasium", "numpy", "hydra-core")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout, not installed
            found[name] = "not installed"
    return found
