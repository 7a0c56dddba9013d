"""A run of several processes, its ranks: `torchrun --nproc-per-node=2 train.py ...`.

The first rank is the run: it reads the command line, evaluates, logs, saves and decides. The others
collect and learn beside it, and do what it tells them between two iterations. Numbers of the
configuration are those of the whole run; each rank has its share of environments, batches and
replay buffer. Checkpoints hold a part of every rank: its environments, generators and replay.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from agents.agent import Agent
from conf.checking.pretraining import frames_wanted
from conf.checking.refusals import InvalidConfiguration
from conf.checking.validation import checked
from conf.composing.command_line import refusals_end
from conf.composing.configuration import read_only
from conf.schema.types import Config
from networks import ranks
from networks.layers import BatchRenorm
from training.building.build import build_agent_for, build_collector, refuse_large_replay
from training.building.environments import build_environments
from training.building.instantiation import plain
from training.evaluation.restore import load_source
from training.process.signals import StopRequest, stop_requests
from training.runs.opening import beginning
from training.runs.progression import Progression
from training.runs.refusal import refusing
from training.runs.resume import BROKEN, LAST, open_run, part_state, restore_part
from training.saving.archive import Archive
from training.saving.checkpoint import roll_back
from training.saving.weights import take_weights
from training.stream.collect import Collector
from training.stream.loop import iterations

GO, SAVE, END = range(3)
"""What the first rank tells the others: another iteration, their part of a checkpoint, the end."""
_SHARED = ("env.num_envs", "agent.batch_size", "agent.buffer_size")
_told: list[str] = []
"""The configuration, once the others have it."""


def one_of_several(lead: Callable[[], None]) -> None:
    """Run an entry point on the first rank, which calls `begin`; follow it on the others."""
    count = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.device_count() >= count else "gloo"
    with refusals_end(), refusing(ranks.RankLost, exit_code=1), ranks.joined(backend):
        if ranks.rank():
            text = ranks.text_of_first()
            if text.strip():
                _follow(read_only(json.loads(text)))
            return
        try:
            lead()
        finally:
            if not _told:  # there is nothing to train
                ranks.text_of_first()


def begin(config: DictConfig) -> None:
    """Hand the configuration to the other ranks.

    Raises:
        InvalidConfiguration: several ranks cannot train it.
        Refusal: a rank has ended already.
    """
    typed, had = plain(config), 1 + len(list(Path(config.run_dir, "ranks").glob("[0-9]*")))
    if config.resume is not None and had != ranks.size():  # whether or not numbers divide by it
        raise InvalidConfiguration([f"resume: the run has {had} ranks, here are {ranks.size()}"])
    if problems := list(_problems(typed)):
        raise InvalidConfiguration(problems)
    _told.append(json.dumps(typed))
    with refusing(ranks.RankLost, exit_code=1):
        ranks.text_of_first(_told[0])


def _problems(config: Config) -> Iterator[str]:
    """List why ranks cannot share a run; its rules hold for each rank's share too."""
    count, share = ranks.size(), json.loads(json.dumps(config))
    for key in (*_SHARED, "agent.learning_starts"):
        group, _, name = key.partition(".")
        if (value := config[group].get(name)) is None:
            continue
        share[group][name] = value // count
        if value % count and key in _SHARED:
            yield f"{key}: expected a multiple of {count}, the number of ranks, got {value}"
    if config["compile"]:
        yield "compile: expected false, because ranks average gradients within a gradient step"
    if frames_wanted(config) is not None:
        remedy = "train agent=autoencoding first, then set extractor.weights=RUN_DIR"
        yield f"extractor.pretrain.frames: one process pre-trains; {remedy}"
    if share["env"]["num_envs"]:
        yield from (f"{problem} (on each of {count} ranks)" for problem in checked(share)[1])


def meet(agent: Agent, env_steps: int | None) -> int:
    """Agree on weights, threads and where to begin, before the first iteration.

    Args:
        env_steps: of the checkpoint that the first rank resumes; None for none.

    Returns:
        The first rank's, -1 for none.

    Raises:
        ValueError: a network has statistics that ranks would not share.
    """
    for name, module in agent.named_modules() if ranks.size() > 1 else ():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | BatchRenorm):
            told = "normalises by a minibatch, of which each rank has a part"
            raise ValueError(f"{name}: {type(module).__name__} {told}; use layer normalisation")
    torch.set_num_threads(ranks.of_first(torch.get_num_threads()))
    ranks.share_weights(agent)
    return ranks.of_first(-1 if env_steps is None else env_steps)


def save_parts() -> None:
    """Have every other rank save its part of a checkpoint.

    Raises:
        OSError: one could not.
    """
    ranks.of_first(SAVE)
    if ranks.total(0):
        raise OSError("checkpoint not saved: another rank could not save its part")


def share_stop(stop: StopRequest) -> None:
    """Tell every rank of a signal that one of them received."""
    if ranks.size() > 1:
        number = int(ranks.largest(torch.tensor(stop.number or 0)))
        if number and not stop:
            stop.ask(number)


def _follow(config: DictConfig) -> None:
    """Be a rank that the first one leads: collect and learn until it ends the run."""
    name = f"rank {ranks.rank()}: "
    warnings.formatwarning = lambda message, *_, **__: f"{name}warning: {message}\n"
    with (
        refusing(KeyboardInterrupt, exit_code=130, before=f"{name}interrupted"),
        refusing(ValueError, *BROKEN, exit_code=1, before=name),
        ExitStack() as stack,
    ):
        directory = Path(config.run_dir) / "ranks" / str(ranks.rank())
        with beginning(directory, stack):
            agent, collector, archive = _build_part(config, directory, stack)
        rounds = iterations(
            agent,
            collector,
            total_env_steps=config.total_env_steps,
            is_watched=lambda env_steps: bool(ranks.of_first()),
        )
        with stop_requests() as stop:
            while (order := ranks.of_first()) != END:
                if order == SAVE:
                    _save_part(agent, collector, archive)
                else:
                    next(rounds)
                    share_stop(stop)


def _build_part(
    config: DictConfig, directory: Path, stack: ExitStack
) -> tuple[Agent, Collector, Archive]:
    """Build a rank's agent, collector and archive; `stack` closes its environments."""
    environments = build_environments(config, num_envs=config.env.num_envs // ranks.size())
    stack.callback(environments.close)
    agent = build_agent_for(config, environments)
    load_source(config, agent, environments)
    refuse_large_replay(agent)
    if config.resume is None:
        take_weights(config, agent)
    collector = build_collector(config, environments)
    # One more than the first rank, which may be killed before it saves its own part.
    archive = Archive(directory, agent, keep_last=config.checkpoint.keep_last + 1)
    env_steps = meet(agent, None)
    if env_steps >= 0:
        if not roll_back(directory / LAST, env_steps):
            told = "its part of the run's last checkpoint is gone; init_from begins anew"
            raise ValueError(f"resume: {directory} has none of {env_steps:,} steps: {told}")
        saved = open_run(directory)
        restore_part(agent, collector, saved, seed=config.seed)
        archive.go_back(Progression(env_steps=env_steps), saved)
    return agent, collector, archive


def _save_part(agent: Agent, collector: Collector, archive: Archive) -> None:
    """Save a rank's part of a checkpoint, and tell the first rank whether that failed."""
    at, has_failed = Progression(env_steps=collector.env_steps), False
    try:
        archive.save_last(at, *part_state(agent, collector), True)
    except OSError as error:
        has_failed = True
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
    ranks.total(int(has_failed))
