"""One training session: builds a run from its configuration, trains it and reports."""

import math
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig

from agents.agent import Agent
from conf.checking.pretraining import frames_wanted
from conf.checking.trust import trust_words
from conf.composing.configuration import load, validated
from conf.schema.layout import command
from envs.interface import Environments
from envs.seeding import environment_seeds
from training.building.build import build_collector, build_evaluator
from training.building.environments import build_environments
from training.building.instantiation import plain
from training.evaluation.evaluation import Evaluator
from training.evaluation.video import Camera
from training.runs.callbacks import Callback
from training.runs.directory import discard, finished
from training.runs.header import header
from training.runs.opening import Session, beginning
from training.runs.progression import Diverged
from training.runs.ranks import meet
from training.runs.refusal import Refusal, refusing
from training.runs.resume import BROKEN, LAST, PRETRAINING, as_written, notices
from training.runs.run import Run, Status
from training.saving.files import has_checkpoint
from training.saving.weights import take_pretrained
from training.stream.collect import Collector


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
    with ExitStack() as stack:
        if prepared is None:
            stack.callback(environments.close)
        with beginning(directory, stack):
            run = _build_run(config, environments, stack, prepared)
        status = _train(run, directory)
    print(_report(config, run, status), flush=True)
    if status == "interrupted":
        exit_code = 128 + (run.stopped_by or 0)
        raise Refusal(f"interrupted; saved at {run.saved_env_steps:,} steps", exit_code)
    return run.score(run.at.evaluation) if run.at.evaluation else math.nan


def _train(run: Run, directory: Path) -> Status:
    so_far = f"The run so far is in {directory}"
    with (
        refusing(KeyboardInterrupt, exit_code=130, before="interrupted. ", after=so_far),
        refusing(*BROKEN, exit_code=1, after=f". {so_far}"),
        refusing(Diverged, exit_code=1, after=f"; checkpoints/last is from before. {so_far}"),
    ):
        return run.train()


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
    if session.saved is None and frames_wanted(plain(config)) is not None:
        pretraining = Pretraining(config, stack)
    collector = prepared.collector if prepared else build_collector(config, environments)
    session.open_records(header(config, session.agent), stack)
    tell_masks(config, collector)
    costs = session.start.env_steps, session.start.seconds
    if pretraining is not None:
        pretraining.run()
        torch.set_num_threads(session.identity["threads"])  # a smaller network may have fewer
        costs = take_pretrained(config, session.agent, pretraining.directory)
    run = Run(session, collector, evaluator, camera)
    run.callbacks = prepared.callbacks if prepared else ()
    run.at.pretraining_env_steps, run.at.pretraining_seconds = costs
    if session.saved is not None:
        with as_written(session.directory):
            exact = run.restore(session.saved)
            lines = notices(session.saved.state, config, session.agent, exact)
            print(*lines, sep="\n", flush=True)
    meet(session.agent, run.saved_env_steps)
    return run


class Pretraining:
    """The run of agent=autoencoding that an extractor begins with, in the agent's own run.

    Attributes:
        directory: of that run.
    """

    def __init__(self, config: DictConfig, stack: ExitStack) -> None:
        """Build it, unless it is over; nothing is left behind if it cannot begin.

        Raises:
            Refusal: it cannot begin.
        """
        self.directory = Path(config.run_dir) / PRETRAINING
        own = pretraining_of(config, self.directory)
        self._run: Run | None = None
        self._stack = stack.enter_context(ExitStack())
        if finished(self.directory, total_env_steps=own.total_env_steps, goal=None):
            return
        try:
            with beginning(self.directory, self._stack):
                environments = build_environments(own, num_envs=own.env.num_envs)
                self._stack.callback(environments.close)
                self._run = _build_run(own, environments, self._stack, None)
        except Refusal as refusal:
            self._stack.close()
            discard(self.directory)
            raise Refusal(f"extractor.pretrain: {refusal}", refusal.exit_code) from refusal

    def run(self) -> None:
        """Train it to the end, and close its environments.

        Raises:
            Refusal: it broke, or was interrupted.
        """
        if self._run is None:
            return
        directory = self.directory.parent
        if _train(self._run, directory) == "interrupted":
            problem = f"interrupted in pre-training; continue with resume={directory}"
            raise Refusal(problem, 128 + (self._run.stopped_by or 0))
        at = self._run.at
        if at.best is not None:
            best = f"best: {at.best}, at {at.best_env_steps:,} steps"
            print(f"pre-trained for {at.env_steps:,} steps; {best}", flush=True)
        self._run = None
        self._stack.close()
        for chunk in (self.directory / LAST).glob("chunk-*"):  # large, and of no use any more
            chunk.unlink()


_SHARED = (
    "device", "precision", "compile", "num_threads", "trusted_packages", "normalize_observations",
    "env", "pomdp", "checkpoint", "tracking",
)  # fmt: skip
_LOOKS = 5
"""Evaluations in pre-training, the last one not counted."""


def pretraining_of(config: DictConfig, directory: Path) -> DictConfig:
    """Return the configuration of the run that pre-trains an extractor.

    It takes `epochs * frames / batch_size` gradient steps. Its seed is another one, so that the
    agent's episodes are not those that were learnt from.

    Raises:
        InvalidConfiguration: with every problem.
    """
    own, usual = plain(config), plain(load(["agent=autoencoding"]))
    wanted, evaluation = own["extractor"]["pretrain"], own["evaluation"]
    frames, starts = wanted["frames"], usual["agent"]["learning_starts"]
    starts = min(starts, frames // 10)
    (seed,) = environment_seeds(config.seed, 1, purpose="pretraining")
    frequency = max(1, min(usual["agent"]["train_frequency"], starts // own["env"]["num_envs"]))
    agent = {
        "source": wanted["source"],
        "buffer_size": frames,
        "batch_size": wanted["batch_size"],
        "learning_starts": starts,
        "train_frequency": frequency,
        "replay_ratio": wanted["epochs"] * frames / wanted["batch_size"] / (frames - starts),
    }
    interval = -(-frames // _LOOKS) if evaluation["interval"] else 0
    looks = {"interval": interval, "final_episodes": evaluation["episodes"], "stop_at": None}
    return validated(
        {
            **usual,
            **{key: own[key] for key in _SHARED},
            "env": own["env"] | {"curriculum": []},
            "extractor": {**own["extractor"], "pretrain": {**wanted, "frames": 0}},
            "agent": usual["agent"] | agent,
            "optimizer": usual["optimizer"] | {"learning_rate": wanted["learning_rate"]},
            "evaluation": evaluation | looks | {"checkpoint": "last", "video": False},
            "seed": seed,
            "total_env_steps": frames,
            "run_dir": str(directory),
            "resume": str(directory) if has_checkpoint(directory / LAST) else None,
        }
    )


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
        rows["evaluation"] = f"{at.evaluation}{weights}"
    if at.best is not None:
        rows["best"] = f"{at.best}, at {at.best_env_steps:,} steps"
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
