"""One training session: builds a run from its configuration, trains it and reports."""

import math
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv
from omegaconf import DictConfig

from agents.agent import Agent
from conf.checking.trust import trust_words
from envs.vector.base import EnvironmentFailure
from training.building.build import (
    build_agent,
    build_collector,
    build_evaluator,
    parameter_counts,
    refuse_large_replay,
)
from training.evaluation.evaluation import describe
from training.evaluation.video import build_films
from training.pretraining.fitting import Unfitted
from training.pretraining.reconstruction import ReconstructionTask, is_wanted, pretrain_extractor
from training.pretraining.stages import Interrupted, SavedPretraining
from training.pretraining.start import Start, begun_pretraining, take_weights
from training.process.memory import keep_freed_memory
from training.process.threads import set_num_threads
from training.runs.directory import begin_records, claimed
from training.runs.header import header
from training.runs.identity import identity
from training.runs.progression import Intervals
from training.runs.refusal import Refusal
from training.runs.resume import SavedRun, as_written, open_run
from training.runs.run import Diverged, Run, Status
from training.saving.archive import Archive
from training.stream.episodes import InvalidExperience
from training.tracking.telemetry import build_telemetry
from training.tracking.tracking import Progress


def train_run(config: DictConfig, environments: VectorEnv[Any, Any, Any]) -> float:
    """Train one run into `config.run_dir`; return the mean return of the final evaluation.

    Args:
        environments: to train in, made by `build_environments`; closed at the end.

    Raises:
        Refusal: the run could not start, broke, or was interrupted.
    """
    directory = Path(config.run_dir)
    keep_freed_memory()
    with ExitStack() as stack:
        stack.callback(environments.close)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(directory))
            run = _build_run(config, environments, stack)
        except (ValueError, OSError) as error:  # a damaged checkpoint is a ValueError too
            raise Refusal(str(error), 2) from error
        except (EnvironmentFailure, InvalidExperience, Unfitted) as error:
            raise Refusal(str(error), 1) from error
        except Interrupted as stop:
            raise Refusal(stop.message(directory), 128 + stop.number) from stop
        try:
            status = run.train()
        except (InvalidExperience, EnvironmentFailure, Diverged, OSError) as error:
            raise Refusal(f"{error}. The run so far is in {directory}", 1) from error
        except KeyboardInterrupt as interrupt:
            raise Refusal(f"interrupted. The run so far is in {directory}", 130) from interrupt
    trust = trust_words(config.env.packages, config.trusted_packages)
    print(_report(run, status, directory, trust), flush=True)
    if status == "interrupted":
        exit_code = 128 + (run.stopped_by or 0)
        raise Refusal(f"interrupted; saved at {run.saved_env_steps:,} steps", exit_code)
    return run.at.evaluation.return_mean if run.at.evaluation else math.nan


def _build_run(
    config: DictConfig,
    environments: VectorEnv[Any, Any, Any],
    stack: ExitStack,
) -> Run:
    """Build everything; `stack` closes it on exit."""
    directory = Path(config.run_dir)
    evaluator = build_evaluator(config)
    stack.callback(evaluator.close)
    films = build_films(config)
    stack.callback(films.close)
    with as_written(directory):
        saved, begun = _earlier(config, directory)
    agent = build_session_agent(config, environments, saved or begun)
    own = identity(config, environments)
    start = Start()
    if saved is not None:
        saved.refuse(own)
    else:
        if begun is not None:
            begun.refuse(directory, own)
        start = take_weights(config, agent)
    task = None
    if saved is None and is_wanted(config):
        task = ReconstructionTask(config, agent)
        task.check(environments)
    collector = build_collector(config, environments)
    parameters = parameter_counts(agent.parts())
    earlier = saved or begun
    state = None if earlier is None else earlier.state
    with as_written(directory):
        tensorboard = begin_records(config, directory, state, own["versions"])
    stack.callback(tensorboard.close)
    print(header(config, agent, parameters), *start.notices, sep="\n", flush=True)
    if task is not None:
        start.env_steps += pretrain_extractor(
            task, config, directory, tensorboard=tensorboard, identity=own, saved=begun
        )
    run = Run(
        agent=agent,
        collector=collector,
        evaluator=evaluator,
        films=films,
        telemetry=build_telemetry(config),
        directory=directory,
        archive=Archive(directory, agent, keep_last=config.checkpoint.keep_last),
        tensorboard=tensorboard,
        progress=Progress(config.total_env_steps, show=config.tracking.progress),
        total_env_steps=config.total_env_steps,
        intervals=_intervals(config),
        evaluation_episodes=config.evaluation.episodes,
        final_episodes=config.evaluation.final_episodes,
        final_checkpoint=config.evaluation.checkpoint,
        identity=own,
        facts={
            "seed": config.seed,
            "num_threads": own["threads"],
            "parameters": parameters,
            "versions": own["versions"],
        },
    )
    run.at.pretraining_env_steps = start.env_steps
    if saved is not None:
        with as_written(directory):
            exact = run.restore(saved.checkpoint)
            print(*saved.notices(config, agent, exact), sep="\n", flush=True)
    return run


def _earlier(
    config: DictConfig, directory: Path
) -> tuple[SavedRun | None, SavedPretraining | None]:
    """Read what a run resumes from: its training, its pre-training, or nothing.

    Raises:
        ValueError: a new run would overwrite another, or no checkpoint is intact.
    """
    saved = _saved(config, directory)
    begun = None if saved is not None else begun_pretraining(config, directory)
    if config.resume is not None and saved is None and begun is None:
        print(f"{directory} has no checkpoint yet: the run begins anew", flush=True)
    if config.resume is None and any(directory.glob("*/*/manifest*.json")):
        # Checked before, but another process may have trained here in between.
        raise ValueError(f"run_dir: {directory} holds a run already; choose another")
    return saved, begun


def _intervals(config: DictConfig) -> Intervals:
    return Intervals(
        evaluation=config.evaluation.interval,
        checkpoint=config.checkpoint.interval,
        tracking=config.tracking.interval,
    )


def build_session_agent(
    config: DictConfig,
    environments: VectorEnv[Any, Any, Any],
    saved: SavedRun | SavedPretraining | None,
) -> Agent:
    """Build the agent of a session, and set the process's number of threads."""
    agent = build_agent(
        config,
        environments.single_observation_space,
        environments.single_action_space,
        num_envs=config.env.num_envs,
    )
    refuse_large_replay(agent, environments.single_observation_space)
    # A resumed run keeps its number of threads: sums in another order differ.
    set_num_threads(config.num_threads if saved is None else saved.threads, agent)
    return agent


def _saved(config: DictConfig, directory: Path) -> SavedRun | None:
    """Read the checkpoint to resume from; None for a run that starts, or starts again.

    Raises:
        DamagedCheckpoint: no checkpoint is intact.
    """
    checkpoints = directory / "checkpoints" / "last"
    if config.resume is None:
        return None
    if not any(checkpoints.glob("manifest*.json")):
        if any(directory.glob("checkpoints/best/manifest*.json")):
            raise ValueError(
                f"resume={directory}: checkpoints/last is missing; a new run can start from "
                f"init_from={directory}/checkpoints/best"
            )
        return None
    return open_run(directory)


def _report(run: Run, status: Status, directory: Path, trust: Sequence[str]) -> str:
    """Write the closing table: the score and the paths.

    Args:
        trust: the override that commands need to open the run.
    """
    at = run.at
    rows = {"status": f"{status} after {at.env_steps:,} steps, {at.updates:,} updates"}
    if at.evaluation is not None:
        weights = f", weights of {at.best_env_steps:,} steps" if run.plays_best else ""
        rows["evaluation"] = describe(at.evaluation) + weights
    if at.best is not None:
        rows["best"] = f"{describe(at.best)}, at {at.best_env_steps:,} steps"
    if at.restarts:
        rows["restarts"] = f"{at.restarts} of environments that failed"
    rows["training"] = f"{at.training_seconds:.1f} s, {at.steps_per_second:,.0f} steps/s"
    path = shlex.quote(str(directory))
    rows["run"] = str(directory)
    rows["curves"] = f"tensorboard --logdir {path}"
    which = ["evaluation.checkpoint=best"] if run.plays_best else []
    rows["evaluate"] = shlex.join(["python", "evaluate.py", f"run={directory}", *which, *trust])
    if status != "finished":
        rows["go on"] = shlex.join(["python", "train.py", f"resume={directory}", *trust])
    return "\n".join(f"  {name:<11}{value}" for name, value in rows.items())
