"""One session of `pretrain.py`: builds the network, pre-trains it, and reports."""

import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv
from omegaconf import DictConfig

from agents.agent import Agent
from conf.checking.trust import trust_words
from envs.vector.base import EnvironmentFailure
from training.building.instantiation import plain
from training.pretraining.cloning import CloningTask
from training.pretraining.fitting import HELD_OUT_LOSS, Unfitted
from training.pretraining.reconstruction import ReconstructionTask
from training.pretraining.stages import Interrupted, Pretrained, Pretraining, Task, say
from training.pretraining.start import begun_pretraining, take_weights
from training.process.memory import keep_freed_memory
from training.runs.directory import begin_records, claimed
from training.runs.identity import identity
from training.runs.refusal import Refusal
from training.runs.resume import as_written
from training.runs.session import build_session_agent
from training.stream.episodes import InvalidExperience


def pretrain_alone(config: DictConfig, environments: VectorEnv[Any, Any, Any]) -> float:
    """Pre-train into `config.run_dir`; return the smallest held-out loss.

    Args:
        environments: used for their spaces alone; closed at the end.

    Raises:
        Refusal: it could not start, failed, or was interrupted.
    """
    directory = Path(config.run_dir)
    with ExitStack() as stack:
        stack.callback(environments.close)
        keep_freed_memory()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(directory))
            pretrained = _pretrain(config, environments, directory, stack)
        except (ValueError, OSError) as error:
            raise Refusal(str(error), 2) from error
        except (EnvironmentFailure, InvalidExperience, Unfitted) as error:
            raise Refusal(str(error), 1) from error
        except Interrupted as stop:
            raise Refusal(stop.message(directory), 128 + stop.number) from stop
    say(_report(config, pretrained, directory))
    return float(pretrained.facts["measures"][HELD_OUT_LOSS])


def _pretrain(
    config: DictConfig, environments: VectorEnv[Any, Any, Any], directory: Path, stack: ExitStack
) -> Pretrained:
    with as_written(directory):
        begun = begun_pretraining(config, directory)
    if config.resume is None and any(directory.glob("*/*/manifest*.json")):
        # Checked before, but another process may have worked here in between.
        raise ValueError(f"run_dir: {directory} holds a run already; choose another")
    agent = build_session_agent(config, environments, begun)
    own = identity(config, environments)
    if begun is not None:
        begun.refuse(directory, own)
    start = take_weights(config, agent)
    task, options, facts = _task(config, agent)
    if begun is None:
        task.check(environments)
    with as_written(directory):
        state = None if begun is None else begun.state
        tensorboard = begin_records(config, directory, state, own["versions"])
    stack.callback(tensorboard.close)
    say("\n".join([_header(config, agent), *start.notices]))
    return Pretraining(
        task,
        options,
        directory,
        tensorboard=tensorboard,
        seed=config.seed,
        facts={
            "objective": config.objective,
            "environment": config.env.id,
            "identity": own,
            "earlier_env_steps": start.env_steps,
            **facts,
        },
        saved=begun,
    ).run()


def _task(config: DictConfig, agent: Agent) -> tuple[Task, DictConfig, Mapping[str, Any]]:
    if config.objective == "reconstruction":
        facts = {"extractor": plain(config.extractor)}
        return ReconstructionTask(config, agent), config.extractor.pretrain, facts
    return CloningTask(config, agent), config.cloning, {"source": config.source}


def _header(config: DictConfig, agent: Agent) -> str:
    return f"{config.objective} on {config.env.id}, {agent.device}, seed {config.seed}"


def _report(config: DictConfig, pretrained: Pretrained, directory: Path) -> str:
    """Write the closing table: the result, and the next command."""
    key = "extractor.weights" if config.objective == "reconstruction" else "init_from"
    trust = trust_words(config.env.packages, config.trusted_packages)
    rows = {
        "learnt": f"from {pretrained}",
        "steps": f"{pretrained.env_steps:,}, which count where runs are compared",
        "weights": str(directory),
        "curves": f"tensorboard --logdir {shlex.quote(str(directory))}",
        "use": shlex.join(["python", "train.py", "...", f"{key}={directory}", *trust]),
    }
    return "\n".join(f"  {name:<11}{value}" for name, value in rows.items())
