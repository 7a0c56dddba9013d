"""What a session resumes from, and the checks and notices before it does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from conf.composing.resumption import scheduled
from conf.schema.types import Config
from envs.spaces import one_line
from envs.vector.failures import EnvironmentFailure
from training.building.instantiation import plain
from training.runs.identity import differences
from training.saving.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    load_checkpoint,
    open_checkpoint,
    part_of,
    prefixed,
)
from training.saving.files import has_checkpoint
from training.stream.collect import Collector
from training.stream.episodes import InvalidExperience


@contextmanager
def as_written(directory: Path) -> Iterator[None]:
    """Turn errors from an incompatible checkpoint into `DamagedCheckpoint`.

    Raises:
        DamagedCheckpoint: something is missing or invalid.
    """
    try:
        yield
    except (EnvironmentFailure, InvalidExperience):  # the environment's own
        raise
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        problem = f"resume={directory}: what is stored is not what such a run writes: {reason}"
        raise DamagedCheckpoint(problem) from error


LAST = "checkpoints/last"
BROKEN = (InvalidExperience, EnvironmentFailure, OSError)
"""Errors that end training, other than the agent's."""
PRETRAINING = "pretraining"
"""The run of agent=autoencoding before the agent's."""


def refuse_elsewhere(directory: Path, saved: Checkpoint, now: Mapping[str, Any]) -> None:
    """Refuse to resume with another network, environment, package version or thread count.

    Raises:
        ValueError: with every difference, one per line.
    """
    with as_written(directory):
        found = differences(saved.state["identity"], now)
    if found:
        lines = "\n".join(f"resume={directory}: {difference}" for difference in found)
        weights = f"a new one can start from its weights: init_from={directory}"
        raise ValueError(f"{lines}\nA run resumes bit for bit only where it was; {weights}")


def notices(state: Config, config: DictConfig, agent: Agent, exact: list[bool]) -> list[str]:
    """Say where the run resumes, and what will differ from an uninterrupted run."""
    before, now = state["total_env_steps"], config.total_env_steps
    lines = [f"resumes from {state['env_steps']:,} steps"]
    lost = [str(index) for index, is_exact in enumerate(exact) if not is_exact]
    if lost:
        which = "all environments" if len(lost) == len(exact) else f"environments {', '.join(lost)}"
        lines.append(
            f"notice: {which} cannot be restored in the middle of an episode and begin new "
            "ones; the run resumes correctly, but not as if it had never stopped"
        )
    if now > before:
        keys = scheduled(plain(config))
        changed = f"; schedules end there now: {', '.join(keys)}" if keys else ""
        lines.append(f"notice: total_env_steps grows from {before:,} to {now:,}{changed}")
    if str(agent.device) != state["device"]:
        lines.append(
            f"notice: the run was on {state['device']} and is on {agent.device} now: "
            "its numbers will not be the same to the last bit"
        )
    return lines


def part_state(agent: Agent, collector: Collector) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what the next iteration of this rank depends on, beside the agent's tensors."""
    tensors, stream = collector.state_dict()
    state = {"collector": stream, "generator": agent.generator.bit_generator.state}
    return prefixed("collector", tensors), state


def restore_part(agent: Agent, collector: Collector, saved: Checkpoint, *, seed: int) -> list[bool]:
    """Restore agent and environments; tell which environments are restored exactly.

    Raises:
        DamagedCheckpoint: a chunk has changed since it was opened.
    """
    tensors, state = saved.tensors, saved.state
    agent.load_state_dict(part_of(tensors, "agent"))
    experience = agent.experience()
    if experience is not None:
        experience.load(part_of(tensors, "experience"), state["experience"], saved.chunks)
    agent.generator.bit_generator.state = state["generator"]
    return collector.load_state_dict(part_of(tensors, "collector"), state["collector"], seed=seed)


def find_saved(config: DictConfig) -> Checkpoint | None:
    """Read what a session resumes from; None for one that begins, or begins again.

    Raises:
        ValueError: a new run would overwrite another, or no checkpoint is intact.
    """
    directory = Path(config.run_dir)
    if config.resume is None:
        if any(has_checkpoint(directory / place) for place in (LAST, f"{PRETRAINING}/{LAST}")):
            # Checked before, but another process may have worked here in between.
            raise ValueError(f"run_dir: {directory} holds a run already; choose another")
        return None
    if has_checkpoint(directory / LAST):
        return open_run(directory)
    if has_checkpoint(directory / "checkpoints/best"):
        raise ValueError(
            f"resume={directory}: {LAST} is missing; a new run can start from "
            f"init_from={directory}/checkpoints/best"
        )
    if not has_checkpoint(directory / PRETRAINING / LAST):
        print(f"{directory} has no checkpoint yet: the run begins anew", flush=True)
    return None


def open_run(directory: Path) -> Checkpoint:
    """Open the last checkpoint of a run.

    Raises:
        DamagedCheckpoint: none is intact.
    """
    try:
        return open_checkpoint(directory / LAST)
    except DamagedCheckpoint as error:
        try:
            load_checkpoint(directory / LAST)
        except DamagedCheckpoint:
            raise error from None
        raise DamagedCheckpoint(
            f"{error}. Only experience is damaged: init_from={directory} starts a new run from "
            "the weights"
        ) from error
