"""Pre-training: collect frames, fit a network to them, save its best weights; resumable.

pretraining/frames     the collected frames, until they are no longer needed
pretraining/progress   weights, moments and counters after the latest epochs
pretraining/weights    the best weights and their facts; the rest is then removed
"""

import math
import shutil
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv
from omegaconf import DictConfig
from torch import Tensor

from training.pretraining.fitting import Fitting, Limits, Objective
from training.process.signals import StopRequest, stop_requests
from training.runs.identity import differences
from training.runs.resume import as_written
from training.saving.checkpoint import DamagedCheckpoint, load_checkpoint, save_checkpoint
from training.stream.episodes import Abandoned
from training.tracking.tracking import NoTensorBoard, TensorBoard

_PIECE = 64 * 2**20
"""Approximate bytes of one piece: memory holds it twice while it is written or read."""


def save_recording(
    directory: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Write tensors in pieces along their first dimension.

    Args:
        state: plain numbers and text, saved with them.

    Raises:
        OSError: it could not be written; no part of it is left.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    count = max(1, ceil(size / _PIECE))
    rows = {name: len(tensor) for name, tensor in tensors.items()}
    cut = {name: tensor.tensor_split(count) for name, tensor in tensors.items()}
    try:
        for index in range(count):
            save_checkpoint(
                _piece(directory, index),
                tensors={name: pieces[index] for name, pieces in cut.items()},
                state={"pieces": count, "rows": rows, "state": dict(state)},
                step=index,
            )
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def load_recording(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a recording; None if there is no intact one."""
    try:
        piece, state = load_checkpoint(_piece(directory, 0))
        whole = {
            name: tensor.new_empty(state["rows"][name], *tensor.shape[1:])
            for name, tensor in piece.items()
        }
        filled = dict.fromkeys(whole, 0)
        for index in range(state["pieces"]):
            if index > 0:
                piece, _ = load_checkpoint(_piece(directory, index))
            for name, tensor in piece.items():
                whole[name][filled[name] : filled[name] + len(tensor)] = tensor
                filled[name] += len(tensor)
    except DamagedCheckpoint:
        return None
    return whole, state["state"]


def _piece(directory: Path, index: int) -> Path:
    return directory / f"{index:05d}"


Recording = tuple[dict[str, Tensor], dict[str, Any]]
"""Named tensors and plain numbers, `env_steps` among these."""
_KEPT = 2
"""Epochs of progress to keep on disk, in case the newest is damaged."""


class Interrupted(Exception):
    """The user asked to stop; saved progress remains."""

    def __init__(self, number: int) -> None:
        """Record the signal's number."""
        super().__init__(f"interrupted by signal {number}")
        self.number = number

    def message(self, directory: Path) -> str:
        """Say how to resume."""
        return f"interrupted in pre-training; go on: resume={directory}"


class Task(ABC):
    """What is pre-trained, and on which data."""

    @abstractmethod
    def check(self, environments: VectorEnv[Any, Any, Any]) -> None:
        """Check, before anything is written, that the data can be collected.

        Raises:
            ValueError: in one line, why not.
        """

    @abstractmethod
    def collect(self, should_abandon: Callable[[], bool]) -> Recording:
        """Collect the data.

        Raises:
            Abandoned: it was asked to stop.
        """

    @abstractmethod
    def objective(self, recording: Recording) -> Objective:
        """Build the network and its loss on the collected data."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights as they are stored."""

    @abstractmethod
    def show(self, tensorboard: TensorBoard | NoTensorBoard, step: int) -> None:
        """Show the network's output on held-out data."""


@dataclass(frozen=True)
class Pretrained:
    """The result of pre-training.

    Attributes:
        tensors: the weights as the task stores them.
        facts: `env_steps` of collecting, `epochs`, `measures`, ...
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    @property
    def env_steps(self) -> int:
        """Environment steps taken for it."""
        return int(self.facts["env_steps"])

    def __str__(self) -> str:
        """Describe it in one line: its data and result."""
        facts = self.facts
        return (
            f"{facts['frames']:,} frames: {_listed(facts['measures'])} (epoch "
            f"{facts['best_epoch']} of {facts['epochs']})"
        )


class SavedPretraining:
    """What pre-training resumes from: its latest progress, or its result.

    Attributes:
        tensors, state: as `Pretraining` saved them.
        is_over: whether these are the final weights.
        threads: of the process that saved it.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, is_over: bool
    ) -> None:
        """Wrap the result of `load_checkpoint`."""
        self.tensors, self.state, self.is_over = tensors, state, is_over
        self.threads = max(1, int(state["identity"]["threads"]))

    def refuse(self, directory: Path, now: Mapping[str, Any]) -> None:
        """Refuse to resume with another network, environment, package version or thread count.

        Raises:
            ValueError: with every difference, one per line.
        """
        with as_written(directory):
            found = differences(self.state["identity"], now)
        if found:
            lines = "\n".join(f"resume={directory}: {difference}" for difference in found)
            raise ValueError(
                f"{lines}\nPre-training goes on bit for bit only where it was; begin a new run"
            )


class Files:
    """The directory `pretraining` of a run, or of `pretrain.py`."""

    def __init__(self, directory: Path) -> None:
        root = directory / "pretraining"
        self.root = root
        self.frames, self.progress, self.weights = (
            root / name for name in ("frames", "progress", "weights")
        )

    def saved(self) -> SavedPretraining | None:
        """Read the weights, or else the latest progress; None if there is neither.

        Raises:
            DamagedCheckpoint: the weights are damaged.
        """
        if any(self.weights.glob("manifest*.json")):
            return SavedPretraining(*load_checkpoint(self.weights), is_over=True)
        if not any(self.progress.glob("manifest*.json")):
            return None
        try:
            return SavedPretraining(*load_checkpoint(self.progress), is_over=False)
        except DamagedCheckpoint as error:
            warnings.warn(f"{error}; pre-training begins anew", RuntimeWarning, stacklevel=2)
            return None

    def clear(self, *, keep_frames: bool) -> None:
        """Remove files that only unfinished pre-training needs."""
        shutil.rmtree(self.progress, ignore_errors=True)
        if not keep_frames:
            shutil.rmtree(self.frames, ignore_errors=True)


class Pretraining:
    """One pre-training in one directory."""

    def __init__(
        self,
        task: Task,
        options: DictConfig,
        directory: Path,
        *,
        tensorboard: TensorBoard | NoTensorBoard,
        seed: int,
        facts: Mapping[str, Any],
        saved: SavedPretraining | None,
    ) -> None:
        """Take the parts.

        Args:
            options: `frames`, `batch_size`, `epochs`, `patience`, `learning_rate`, ...
            facts: saved with the weights; `identity` among them.
            saved: what to resume from; None for a new one.
        """
        self._task, self._options, self._files = task, options, Files(directory)
        self._tensorboard, self._seed, self._facts = tensorboard, seed, facts
        self._saved = saved

    def run(self) -> Pretrained:
        """Pre-train to the end, or read a finished result.

        Raises:
            Interrupted: a first SIGINT or SIGTERM; at most one epoch's work is lost.
            Unfitted: the loss is not finite.
            OSError: the weights could not be written.
        """
        if self._saved is not None and self._saved.is_over:
            self._files.clear(keep_frames=self._options.keep_frames)
            with as_written(self._files.root):
                return Pretrained(self._saved.tensors, self._saved.state["pretraining"])
        if self._saved is None:
            shutil.rmtree(self._files.root, ignore_errors=True)
        with stop_requests() as stop:
            try:
                return self._run(stop)
            except Abandoned as error:
                raise Interrupted(stop.number or 0) from error

    def _run(self, stop: StopRequest) -> Pretrained:
        recording = self._recording(stop)
        options = self._options
        limits = Limits(options.epochs, options.patience, options.learning_rate)
        fitting = Fitting(self._task.objective(recording), limits, seed=self._seed)
        if self._saved is not None:
            with as_written(self._files.root):
                fitting.load_state_dict(self._saved.tensors, self._saved.state["fitting"])
            say(f"pre-training goes on after {fitting.epoch} epochs")

        def watch() -> None:
            if stop:
                raise Interrupted(stop.number or 0)

        for _ in fitting.epochs(watch):
            self._after_epoch(fitting)
        fitting.load_best()
        return self._finish(fitting, recording[1])

    def _recording(self, stop: StopRequest) -> Recording:
        """Read the collected data, or collect it."""
        known = load_recording(self._files.frames) if self._saved is not None else None
        if known is not None:
            return known
        shutil.rmtree(self._files.frames, ignore_errors=True)
        started = time.monotonic()
        recording = self._task.collect(lambda: bool(stop))
        say(
            f"pre-training: {recording[1]['env_steps']:,} steps collected in "
            f"{time.monotonic() - started:.1f} s"
        )
        try:
            save_recording(self._files.frames, *recording)
        except OSError as error:  # a full disk must not end it: frames can be collected again
            warnings.warn(f"frames not kept: {error}", RuntimeWarning, stacklevel=2)
        return recording

    def _after_epoch(self, fitting: Fitting) -> None:
        measures = {f"pretraining/{name}": value for name, value in fitting.measures.items()}
        self._tensorboard.scalars(measures, fitting.epoch, time.time())
        is_best = "  best" if fitting.best_epoch == fitting.epoch else ""
        say(f"{fitting.epoch:>12,} epochs   {_listed(fitting.measures)}{is_best}")
        tensors, state = fitting.state_dict()
        try:
            self._save(self._files.progress, tensors, {"fitting": state}, fitting.epoch)
        except OSError as error:
            warnings.warn(f"{error}; pre-training goes on", RuntimeWarning, stacklevel=2)

    def _finish(self, fitting: Fitting, collected: Mapping[str, Any]) -> Pretrained:
        self._task.show(self._tensorboard, fitting.best_epoch)
        facts = {
            "env_steps": collected["env_steps"],
            "frames": self._options.frames,
            "epochs": fitting.epoch,
            "best_epoch": fitting.best_epoch,
            "measures": fitting.best_measures,
        }
        tensors = self._task.weights()
        self._save(self._files.weights, tensors, {"pretraining": facts}, fitting.best_epoch)
        self._files.clear(keep_frames=self._options.keep_frames)
        return Pretrained(tensors, facts)

    def _save(
        self, directory: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], step: int
    ) -> None:
        position = {"tensorboard": self._tensorboard.position()}
        content = {**self._facts, **state, **position}
        save_checkpoint(directory, tensors=tensors, state=content, step=step, keep=_KEPT)


def _listed(measures: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.5g}"
        for name, value in measures.items()
        if not math.isnan(value)
    )


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
