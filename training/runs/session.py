"""One training session: builds a run from its configuration, trains it and reports."""

import math
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from agents.agent import Agent
from conf.checking.pretraining import frames_wanted
from conf.checking.trust import trust_words
from conf.schema.layout import command
from envs.interface import Environments
from envs.vector.base import EnvironmentFailure
from training.building.build import build_collector, build_evaluator
from training.building.instantiation import plain
from training.evaluation.evaluation import Evaluator, describe
from training.evaluation.video import Camera
from training.pretraining.pretraining import Pretraining, described
from training.runs.callbacks import Callback
from training.runs.header import header
from training.runs.opening import Session, beginning
from training.runs.refusal import Refusal, refusing
from training.runs.resume import PRETRAINED, as_written, notices
from training.runs.run import Diverged, Run, Status
from training.saving.weights import take_pretrained
from training.stream.collect import Collector
from training.stream.episodes import InvalidExperience


class Prepared(NamedTuple):
    """What `neurl.fit` has made before its run begins."""

    agent: Agent
    collector: Collector
    evaluator: Evaluator
    callbacks: Sequence[Callback]


def train_run(
    config: DictConfig, environments: Environments, prepared: Prepared | None = None
) -> float:
    """Train one run into `config.run_dir`; return the mean return of the final evaluation.

    Args:
        environments: to train in, made by `build_environments`; closed at the end.
        prepared: what need not be made; its environments stay open.

    Raises:
        Refusal: the run could not start, broke, or was interrupted.
    """
    directory = Path(config.run_dir)
    so_far = f"The run so far is in {directory}"
    broken = (InvalidExperience, EnvironmentFailure, Diverged, OSError)
    with ExitStack() as stack:
        if prepared is None:
            stack.callback(environments.close)
        with beginning(directory, stack):
            run = _build_run(config, environments, stack, prepared)
        with (
            refusing(KeyboardInterrupt, exit_code=130, before="interrupted. ", after=so_far),
            refusing(*broken, exit_code=1, after=f". {so_far}"),
        ):
            status = run.train()
    print(_report(config, run, status), flush=True)
    if status == "interrupted":
        exit_code = 128 + (run.stopped_by or 0)
        raise Refusal(f"interrupted; saved at {run.saved_env_steps:,} steps", exit_code)
    return run.at.evaluation.return_mean if run.at.evaluation else math.nan


def _build_run(
    config: DictConfig, environments: Environments, stack: ExitStack, prepared: Prepared | None
) -> Run:
    """Build everything that is not prepared; `stack` closes it on exit."""
    evaluator = prepared.evaluator if prepared else build_evaluator(config, environments)
    if prepared is None:
        stack.callback(evaluator.environments.close)
    camera = None
    if config.evaluation.video:
        is_greedy, key = config.evaluation.deterministic, "evaluation.video=true"
        camera = Camera(config, seed=config.seed, deterministic=is_greedy, key=key)
        stack.callback(camera.environments.close)
    session = Session(config, environments, prepared and prepared.agent)
    pretraining = None
    if not session.is_under_way and frames_wanted(plain(config)) is not None:
        pretraining = Pretraining(session, environments)
    collector = prepared.collector if prepared else build_collector(config, environments)
    session.open_records(header(config, session.agent), stack)
    tell_masks(config, collector)
    costs = session.start.env_steps, session.start.seconds
    if pretraining is not None:
        print(f"pre-trained on {described(pretraining.run())}", flush=True)
        costs = take_pretrained(config, session.agent, session.directory / PRETRAINED)
    run = Run(session, collector, evaluator, camera)
    run.callbacks = prepared.callbacks if prepared else ()
    run.at.pretraining_env_steps, run.at.pretraining_seconds = costs
    if session.saved is not None and session.is_under_way:
        with as_written(session.directory):
            exact = run.restore(session.saved)
            lines = notices(session.saved.state, config, session.agent, exact)
            print(*lines, sep="\n", flush=True)
    return run


def tell_masks(config: DictConfig, collector: Collector) -> None:
    """Say that there are masks, if nobody obeys them."""
    if collector.tells_masks and not config.env.get("action_mask"):
        print("notice: infos tell which actions are legal; env.action_mask=true obeys", flush=True)


def _report(config: DictConfig, run: Run, status: Status) -> str:
    """Write the closing table: the score and the paths."""
    at, directory = run.at, str(Path(config.run_dir))
    trust = trust_words(config.env.packages, config.trusted_packages)
    rows = {"status": f"{status} after {at.env_steps:,} steps, {at.updates:,} updates"}
    if at.evaluation is not None:
        weights = f", weights of {at.best_env_steps:,} steps" if run.plays_best else ""
        rows["evaluation"] = describe(at.evaluation) + weights
    if at.best is not None:
        rows["best"] = f"{describe(at.best)}, at {at.best_env_steps:,} steps"
    if at.environment_restarts:
        rows["restarts"] = f"{at.environment_restarts} of environments that failed"
    rows["training"] = f"{at.training_seconds:.1f} s, {at.steps_per_second:,.0f} steps/s"
    rows["run"] = directory
    rows["curves"] = shlex.join(["tensorboard", "--logdir", str(Path(directory).parent)])
    which = ["evaluation.checkpoint=best"] if run.plays_best else []
    rows["evaluate"] = command("evaluate", f"run={directory}", *which, *trust)
    if status != "finished":
        rows["resume"] = command("train", f"resume={directory}", *trust)
    return "\n".join(f"  {name:<11}{value}" for name, value in rows.items())
