"""Pre-training: collect frames, fit a network to them, save its best weights; resumable.

pretraining/progress   the collected frames; weights, moments and measures of the latest epochs
pretraining/weights    the best weights and their facts
"""

import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from conf.checking.pretraining import RANDOM
from conf.checking.trust import trust_words
from conf.schema.layout import command
from envs.interface import Environments
from envs.seeding import environment_seeds
from networks.heads.acting import PolicyHead, uniform_actions
from networks.mirror import Array
from networks.observations import mask_of
from training.building.build import step_layout
from training.building.environments import build_environments
from training.building.instantiation import plain
from training.evaluation.policy import refuse_other_spaces
from training.evaluation.restore import load_agent
from training.pretraining.cloning import Cloning
from training.pretraining.fitting import HELD_OUT_LOSS, Fitting
from training.pretraining.reconstruction import Reconstruction
from training.pretraining.recording import Recording, refuse_too_many
from training.process.signals import stop_requests
from training.runs.opening import Session, beginning
from training.runs.refusal import Refusal
from training.runs.resume import PRETRAINED, PRETRAINING, as_written
from training.saving.checkpoint import Chunk, Entry, Tensors, load_checkpoint, save_checkpoint
from training.saving.files import costs_a_warning
from training.stream.collect import Collector, Player
from training.stream.episodes import Abandoned
from training.stream.storage import Acted, Arrays
from training.tracking.telemetry import CAPTION
from training.tracking.tracking import Progress

_ROLLOUT = 8
"""Minimum number of steps collected at once."""
_KEPT = 2
"""Epochs of progress to keep on disk, in case the newest is damaged."""


class UniformPlayer:
    """The uniformly random behaviour policy, in the policy's own action space."""

    def __init__(self, policy_head: PolicyHead, generator: np.random.Generator) -> None:
        """Act in the head's action space; its weights are not used."""
        self.policy_head, self._generator = policy_head, generator

    def initial_state(self, batch_size: int) -> Array:
        """Return an empty state."""
        return np.zeros((batch_size, 0), np.float32)

    def act(self, observations: Arrays, state: Array, is_first: Array, *, explore: bool) -> Acted:
        """Sample actions, legal ones where observations tell them."""
        mask, size = mask_of(observations), len(is_first)
        return uniform_actions(self.policy_head, mask, self._generator, size), state


class Pretraining:
    """The pre-training of one session."""

    def __init__(self, session: Session, environments: Environments) -> None:
        """Build the network, and check, before anything is written, that data can be collected.

        Raises:
            ValueError: in one line, why it cannot be pre-trained.
        """
        self._session, self._config = session, session.config
        kind = Cloning if self._config.get("objective") == "behaviour_cloning" else Reconstruction
        self._fitting: Fitting = kind(self._config, session.agent)
        self._began = time.monotonic() - session.start.seconds
        self._known: Mapping[str, Entry] = {}  # the recording's chunks on disk
        if session.saved is None:
            self._layout = step_layout(session.agent, environments.single_observation_space, {})
            refuse_too_many(f"{kind.key}.frames", self._fitting.options.frames, self._layout)
            self._player = self._behaviour(environments)

    def run(self) -> dict[str, Any]:
        """Pre-train to the end, unless that is done; return the facts stored with the weights.

        Raises:
            Refusal: the loss is not finite, or a first SIGINT or SIGTERM came; at most one epoch's
                work is lost.
            OSError: the weights could not be written.
        """
        directory, saved = self._session.directory, self._session.saved
        if saved is None or saved.directory != directory / PRETRAINED:
            with stop_requests() as stop:
                try:
                    self._fit(lambda: bool(stop))
                except Abandoned as error:
                    problem = f"interrupted in pre-training; continue with resume={directory}"
                    raise Refusal(problem, 128 + (stop.number or 0)) from error
        shutil.rmtree(directory / PRETRAINING, ignore_errors=True)
        with as_written(directory):
            return dict(load_checkpoint(directory / PRETRAINED)[1]["pretraining"])

    def _fit(self, should_abandon: Callable[[], bool]) -> None:
        fitting, session = self._fitting, self._session
        if (saved := session.saved) is None:
            fitting.prepare(self._collect(should_abandon))
        else:
            with as_written(session.directory):
                fitting.prepare(Recording.load(saved.chunks, saved.state["num_steps"]))
                fitting.load_state_dict(saved.tensors, saved.state["history"])
                self._began = time.monotonic() - saved.state["seconds"]
            self._known = saved.chunks.entries
            print(f"pre-training resumes after {fitting.epoch} epochs", flush=True)
        for _ in fitting.epochs(should_abandon):
            epoch, measures = fitting.epoch, fitting.history[-1]
            session.tensorboard.scalars({f"pretraining/{k}": v for k, v in measures.items()}, epoch)
            is_best = "  best" if fitting.best_epoch == epoch else ""
            print(f"{epoch:>12,} epochs   {_listed(measures)}{is_best}", flush=True)
            for name, picture in fitting.pictures().items():
                tag = f"images/reconstruction/{name}".removesuffix("/observation")
                session.tensorboard.picture(tag, picture, epoch, CAPTION)
            with costs_a_warning("{}; pre-training goes on"):
                self._save(PRETRAINING, epoch, fitting.state_dict(), fitting.recording.chunks())
        self._save(PRETRAINED, fitting.best_epoch, fitting.weights(), {})

    def _save(self, place: str, step: int, tensors: Tensors, chunks: Mapping[str, Chunk]) -> None:
        """Save tensors with everything that is known of them."""
        fitting, session, directory = self._fitting, self._session, self._session.directory
        recording, best = fitting.recording, fitting.best_epoch
        facts = {
            "env_steps": session.start.env_steps + int(recording.valid.sum()),
            "frames": fitting.options.frames,
            "epochs": fitting.epoch,
            "best_epoch": best,
            "measures": fitting.history[best],
        }
        state = {
            "pretraining": facts,
            "history": fitting.history,
            "num_steps": recording.num_steps,
            "extractor": plain(self._config.extractor),
            "identity": session.identity,
            "seconds": time.monotonic() - self._began,
            "tensorboard": session.tensorboard.position(),
        }
        how: dict[str, Any] = {"tensors": tensors, "step": step, "keep": _KEPT, "chunks": chunks}
        self._known = save_checkpoint(directory / place, state=state, known=self._known, **how)

    # ---- collecting

    def _collect(self, should_abandon: Callable[[], bool]) -> Recording:
        """Record at least the wanted frames, in whole windows of every environment."""
        config, options, length = self._config, self._fitting.options, self._fitting.length
        size, frames, started = config.env.num_envs, options.frames, time.monotonic()
        rollout_length = ceil(_ROLLOUT / length) * length
        most = 2 * ceil(frames / size)  # at most every second step resets an environment
        recording = Recording(self._layout, num_rows=most + rollout_length, num_envs=size)
        seeds = environment_seeds(config.seed, size, purpose="pretraining")
        progress = Progress(frames, show=config.tracking.progress)
        with closing(build_environments(config, num_envs=size)) as environments, closing(progress):
            collector = Collector(environments, rollout_length, seeds)
            collector.should_abandon = should_abandon
            collector.explores = not options.get("deterministic", False)
            while (steps := collector.env_steps) < frames and recording.num_steps < most:
                progress.update(steps, None)
                recording.add(collector.collect(self._player))
        seconds = time.monotonic() - started
        print(f"pre-training: {steps:,} steps collected in {seconds:.1f} s", flush=True)
        return recording

    def _behaviour(self, environments: Environments) -> Player:
        """Build the behaviour policy: uniformly random, or the policy of a run.

        Raises:
            ValueError: there is no such run, or it has other spaces.
        """
        config, key = self._config, self._fitting.source_key
        source, trusted = OmegaConf.select(config, key), config.trusted_packages
        # Not the environments' seeds: the policy must not draw the same numbers as its environment.
        generator = np.random.default_rng(environment_seeds(config.seed, 2, "pretraining policy"))
        if source == RANDOM:
            return UniformPlayer(self._session.agent.policy_head, generator)
        try:
            _, agent = load_agent(Path(source), device=config.device, trusted_packages=trusted)
            torch.set_num_threads(self._session.identity["threads"])  # the source has its own
            refuse_other_spaces(agent, environments)
        except ValueError as error:
            raise ValueError(f"{key}={source}: {error}") from error
        agent.generator = generator
        return agent


def described(facts: Mapping[str, Any]) -> str:
    """Describe a result in one line: its data and measures."""
    which = f"epoch {facts['best_epoch']} of {facts['epochs']}"
    return f"{facts['frames']:,} frames: {_listed(facts['measures'])} ({which})"


def _listed(measures: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.5g}" for name, value in measures.items())


def pretrain_alone(config: DictConfig, environments: Environments) -> float:
    """Pre-train into `config.run_dir`; return the smallest held-out loss.

    Args:
        environments: used for their spaces alone; closed at the end.

    Raises:
        Refusal: it could not start, failed, or was interrupted.
    """
    directory = Path(config.run_dir)
    with ExitStack() as stack:
        stack.callback(environments.close)
        with beginning(directory, stack):
            session = Session(config, environments)
            pretraining = Pretraining(session, environments)
            where = f"{config.env.id}, {session.agent.device}, seed {config.seed}"
            session.open_records(f"{config.objective} on {where}", stack)
            facts = pretraining.run()
    key = "extractor.weights" if config.objective == "reconstruction" else "init_from"
    trust = trust_words(config.env.packages, config.trusted_packages)
    rows = {
        "learnt": f"from {described(facts)}",
        "steps": f"{facts['env_steps']:,}, which count where runs are compared",
        "weights": str(directory),
        "curves": f"tensorboard --logdir {shlex.quote(str(directory.parent))}",
        "use": command("train", "...", f"{key}={directory}", *trust),
    }
    print("\n".join(f"  {name:<11}{value}" for name, value in rows.items()), flush=True)
    return float(facts["measures"][HELD_OUT_LOSS])
