"""The checkpoints of a run: the last ones, with everything, and the best one's weights."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.agent import Agent
from training.evaluation.evaluation import Evaluation
from training.runs.progression import Progression
from training.saving.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    Entry,
    Tensors,
    load_checkpoint,
    part_of,
    prefixed,
    roll_back,
    save_checkpoint,
)
from training.saving.files import costs_a_warning

_KEPT_BEST = 2
"""Best checkpoints to keep: the run may be resumed from before the newest one."""


class Archive:
    """`checkpoints/last` and `checkpoints/best` of one run.

    Attributes:
        env_steps: of `last`; None before there is one.
        before_last: called before `last` is written.
    """

    def __init__(self, directory: Path, agent: Agent, *, keep_last: int) -> None:
        """Save the agent's tensors into every checkpoint of the run's directory.

        Its experience goes into `last` alone: only a resumed run needs it.
        """
        self._last, self._best = (directory / "checkpoints" / name for name in ("last", "best"))
        self._agent, self._keep_last = agent, keep_last
        self._chunks: dict[str, Entry] = {}  # of `last`, written or resumed from
        self.env_steps: int | None = None
        self.before_last: Callable[[], None] = lambda: None

    def save_last(self, at: Progression, tensors: Tensors, state: Any, must_succeed: bool) -> None:
        """Save everything.

        A full disk costs the checkpoint, not the run: the next one may fit.

        Raises:
            OSError: it could not be saved, and no checkpoint to resume from exists.
        """
        options: dict[str, Any] = {"keep": self._keep_last, "known": self._chunks}
        experience = self._agent.experience()
        if experience is not None:
            kept, numbers = experience.state_dict()
            tensors = {**tensors, **prefixed("experience", kept)}
            state, options["chunks"] = {**state, "experience": numbers}, experience.chunks()
        with nullcontext() if must_succeed else costs_a_warning("{}; training goes on"):
            self.before_last()
            self._chunks = self._save(self._last, at, tensors, state, **options)
            self.env_steps = at.env_steps

    def save_best(self, at: Progression, found: Evaluation) -> None:
        """Save the weights of the best evaluation so far."""
        with costs_a_warning("{}; training goes on"):
            self._save(self._best, at, {}, {"evaluation": asdict(found)}, keep=_KEPT_BEST)

    def _save(
        self, directory: Path, at: Progression, tensors: Tensors, state: Any, **options: Any
    ) -> dict[str, Entry]:
        options["tensors"] = {**prefixed("agent", self._agent.state_dict()), **tensors}
        options["state"] = {"env_steps": at.env_steps, "updates": at.updates, **state}
        if self._agent.behaviour is not None:  # what others may begin with
            trained = [part for part, losses in self._agent.routes.items() if losses]
            options["state"]["pretrained"] = trained
        return save_checkpoint(directory, step=at.env_steps, **options)

    def load_best(self) -> bool:
        """Load the best weights into the agent; False if they cannot be read."""
        try:
            tensors, _ = load_checkpoint(self._best)
        except DamagedCheckpoint as error:
            warnings.warn(f"{error}; the last weights are evaluated", RuntimeWarning, stacklevel=2)
            return False
        self._agent.load_state_dict(part_of(tensors, "agent"))
        return True

    def evaluate_best(self, evaluate: Callable[[], Evaluation]) -> Evaluation | None:
        """Evaluate the best weights; None if they cannot be read. The agent keeps its own."""
        own = {name: tensor.clone() for name, tensor in self._agent.state_dict().items()}
        try:
            return evaluate() if self.load_best() else None
        finally:
            self._agent.load_state_dict(own)

    def go_back(self, at: Progression, saved: Checkpoint) -> None:
        """Resume from `last` at `at`; discard a best checkpoint of later steps."""
        self.env_steps, self._chunks = at.env_steps, saved.chunks.entries
        if at.best is None or roll_back(self._best, at.best_env_steps):
            return
        at.best = None
        with suppress(DamagedCheckpoint):
            _, state = load_checkpoint(self._best)
            at.best = Evaluation.from_dict(state["evaluation"])
            at.best_env_steps = state["env_steps"]
