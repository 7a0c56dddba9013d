"""Pre-training: collect frames, fit a network to them, save its best weights; resumable.

pretraining/frames     the collected frames, until they are no longer needed
pretraining/progress   weights, moments and counters after the latest epochs
pretraining/weights    the best weights and their facts; the rest is then removed
"""

import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Int
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from agents.agent import Agent
from conf.checking.pretraining import RANDOM
from envs.seeding import environment_seeds
from training.building.environments import build_environments
from training.building.instantiation import plain
from training.evaluation.policy import refuse_other_spaces
from training.evaluation.restore import load_agent
from training.pretraining.fitting import Fitting, Objective
from training.pretraining.frames import hold_out, load_recording, refuse_too_many, save_recording
from training.pretraining.players import UniformPlayer
from training.process.signals import stop_requests
from training.runs.opening import Session
from training.runs.refusal import Refusal
from training.runs.resume import PRETRAINED, PRETRAINING, as_written
from training.saving.checkpoint import save_checkpoint
from training.saving.files import costs_a_warning
from training.stream.collect import Collector, Player
from training.tracking.tracking import TensorBoard

_KEPT = 2
"""Epochs of progress to keep on disk, in case the newest is damaged."""


class Task(Objective):
    """What is pre-trained, and how its data are collected.

    Attributes:
        key: of its options in the configuration: `frames`, `batch_size`, `epochs`, ...
        source_key: of the run whose policy collects.
        copies: how often the frames are in memory.
    """

    key: ClassVar[str]
    source_key: ClassVar[str]
    copies: ClassVar[int] = 1

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Pre-train for this agent."""
        self.config, self.agent = config, agent
        self.options = OmegaConf.select(config, self.key)

    def check(self, environments: VectorEnv[Any, Any, Any]) -> None:
        """Check, before anything is written, that the data can be collected.

        Raises:
            ValueError: they would not fit into memory, or their source cannot act here.
        """
        space, frames = environments.single_observation_space, self.options.frames
        refuse_too_many(f"{self.key}.frames", space, frames, copies=self.copies)
        self._player(environments)

    def _player(self, environments: VectorEnv[Any, Any, Any]) -> Player:
        """Build the behaviour policy: uniformly random, or the policy of a run.

        Raises:
            ValueError: there is no such run, or it has other spaces.
        """
        config, source = self.config, OmegaConf.select(self.config, self.source_key)
        # Not the environments' seeds: the policy must not draw the same numbers as its environment.
        seeds = environment_seeds(config.seed, 2, purpose="pretraining policy")
        generator = np.random.default_rng(seeds)
        if source == RANDOM:
            return UniformPlayer(self.agent.policy_head, generator)
        trusted = config.trusted_packages
        try:
            _, agent = load_agent(
                Path(source), checkpoint="last", device=config.device, trusted_packages=trusted
            )
            refuse_other_spaces(agent, environments)
        except ValueError as error:
            raise ValueError(f"{self.source_key}={source}: {error}") from error
        agent.generator = generator
        return agent

    def collect(self, should_abandon: Callable[[], bool]) -> tuple[dict[str, Tensor], int]:
        """Collect the data; return them and the environment steps taken.

        Args:
            should_abandon: called before every step; an exception from it ends collecting.
        """
        size = self.config.env.num_envs
        seeds = environment_seeds(self.config.seed, size, purpose="pretraining")
        with closing(build_environments(self.config, num_envs=size)) as environments:
            length = self.rollout_length(size)
            collector = Collector(environments, rollout_length=length, seeds=seeds)
            collector.should_abandon = should_abandon
            collector.explores = not self.options.get("deterministic", False)
            return self.record(self._player(environments), collector), collector.env_steps

    @abstractmethod
    def rollout_length(self, num_envs: int) -> int:
        """Return the number of steps to collect at once."""

    @abstractmethod
    def record(self, player: Player, collector: Collector) -> dict[str, Tensor]:
        """Collect named tensors."""

    @abstractmethod
    def prepare(self, recording: Mapping[str, Tensor]) -> None:
        """Hold some of what was collected out, and prepare to learn from the rest."""

    def _hold_out(self, stretches: Int[Tensor, " N"]) -> None:
        """Draw the items to learn from, and those to measure on."""
        self._learnt, self._held = hold_out(stretches, self.options.held_out, self.config.seed)
        self.size = len(self._learnt)

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights as they are stored."""

    def show(self, tensorboard: TensorBoard, step: int) -> None:
        """Show the network's output on held-out data."""
        return


@dataclass(frozen=True)
class Pretrained:
    """The result of pre-training.

    Attributes:
        tensors: the weights as the task stores them.
        facts: `env_steps` of collecting, `epochs`, `measures`, ...
        seconds: of collecting and fitting, in all sessions.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    seconds: float

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


class Pretraining:
    """The pre-training of one session."""

    def __init__(self, task: Task, session: Session) -> None:
        """Take the parts; the session's records are open."""
        config = task.config
        self._task, self._options, self._seed = task, task.options, config.seed
        self._directory, self._saved = session.directory, session.saved
        self._tensorboard = session.tensorboard
        self._frames = session.directory / "pretraining" / "frames"
        self._facts = {
            "objective": config.get("objective", "reconstruction"),
            "source": OmegaConf.select(config, task.source_key),
            "extractor": plain(config.extractor),
            "environment": config.env.id,
            "identity": session.identity,
            "earlier_env_steps": session.start.env_steps,
            "earlier_seconds": session.start.seconds,
        }
        self._began, self._earlier_seconds = time.monotonic(), 0.0

    def run(self) -> Pretrained:
        """Pre-train to the end, or read a finished result.

        Raises:
            Refusal: the loss is not finite, or a first SIGINT or SIGTERM came; at most one epoch's
                work is lost.
            OSError: the weights could not be written.
        """
        saved = self._saved
        if saved is None:
            shutil.rmtree(self._frames.parent, ignore_errors=True)
        elif saved.directory == self._directory / PRETRAINED:
            self._clear()
            with as_written(self._directory):
                seconds = float(saved.state.get("seconds", 0.0))
                return Pretrained(saved.tensors, saved.state["pretraining"], seconds)
        with stop_requests() as stop:

            def watch() -> bool:
                if stop.number is not None:
                    raise Refusal(
                        f"interrupted in pre-training; go on: resume={self._directory}",
                        128 + stop.number,
                    )
                return False

            return self._run(watch)

    @property
    def _seconds(self) -> float:
        """Seconds so far, of earlier sessions too."""
        return self._earlier_seconds + time.monotonic() - self._began

    def _run(self, watch: Callable[[], bool]) -> Pretrained:
        recording, env_steps = self._recording(watch)
        self._task.prepare(recording)
        fitting = Fitting(self._task, seed=self._seed)
        if self._saved is not None:
            state = self._saved.state
            with as_written(self._directory):
                fitting.load_state_dict(self._saved.tensors, state["fitting"])
                self._earlier_seconds = float(state.get("seconds", 0.0))
            print(f"pre-training goes on after {fitting.epoch} epochs", flush=True)
        for _ in fitting.epochs(watch):
            self._after_epoch(fitting)
        fitting.load_best()
        self._task.show(self._tensorboard, fitting.best_epoch)
        facts = {
            "env_steps": env_steps,
            "frames": self._options.frames,
            "epochs": fitting.epoch,
            "best_epoch": fitting.best_epoch,
            "measures": fitting.best_measures,
        }
        tensors = self._task.weights()
        self._save(PRETRAINED, tensors, {"pretraining": facts}, fitting.best_epoch)
        self._clear()
        return Pretrained(tensors, facts, self._seconds)

    def _recording(self, watch: Callable[[], bool]) -> tuple[dict[str, Tensor], int]:
        """Read the collected data, or collect it."""
        known = load_recording(self._frames) if self._saved is not None else None
        if known is not None:
            return known
        shutil.rmtree(self._frames, ignore_errors=True)
        started = time.monotonic()
        recording, env_steps = self._task.collect(watch)
        seconds = time.monotonic() - started
        print(f"pre-training: {env_steps:,} steps collected in {seconds:.1f} s", flush=True)
        with costs_a_warning("frames not kept: {}"):  # they can be collected again
            save_recording(self._frames, recording, env_steps=env_steps)
        return recording, env_steps

    def _after_epoch(self, fitting: Fitting) -> None:
        measures = {f"pretraining/{name}": value for name, value in fitting.measures.items()}
        self._tensorboard.scalars(measures, fitting.epoch)
        is_best = "  best" if fitting.best_epoch == fitting.epoch else ""
        print(f"{fitting.epoch:>12,} epochs   {_listed(fitting.measures)}{is_best}", flush=True)
        tensors, state = fitting.state_dict()
        with costs_a_warning("{}; pre-training goes on"):
            self._save(PRETRAINING, tensors, {"fitting": state}, fitting.epoch)

    def _save(
        self, place: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any], step: int
    ) -> None:
        content = {
            **self._facts,
            **state,
            "seconds": self._seconds,
            "tensorboard": self._tensorboard.position(),
        }
        save_checkpoint(
            self._directory / place, tensors=tensors, state=content, step=step, keep=_KEPT
        )

    def _clear(self) -> None:
        """Remove files that only unfinished pre-training needs."""
        shutil.rmtree(self._directory / PRETRAINING, ignore_errors=True)
        if not self._options.keep_frames:
            shutil.rmtree(self._frames, ignore_errors=True)


def _listed(measures: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.5g}" for name, value in measures.items())
