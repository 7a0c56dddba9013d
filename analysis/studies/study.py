"""A study as a list of jobs: one run for each task, arm and seed.

A run's directory carries a fingerprint of its configuration: an edited arm begins new runs, and no
run is overwritten or counted as another. Nothing is trained here.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from analysis.grouping import OF_ONE_RUN
from analysis.runs import Damaged, read_mapping
from analysis.studies.ranges import Space, samples
from conf.checking.pretraining import frames_wanted
from conf.checking.refusals import InvalidConfiguration
from conf.checking.trust import trust_words
from conf.composing.composer import Composer
from conf.composing.configuration import configure
from conf.composing.presets import Settled
from conf.composing.resumption import leaves, lies_under, scheduled
from conf.composing.sweeps import key_of

_NOT_COMPARED = (*OF_ONE_RUN, "evaluation.video")
"""Keys that do not make another configuration."""
_UNMEASURED = (("last", "best"), ("mean", "best"))
"""Metrics that evaluations of such checkpoints do not measure."""
_DIGITS = 6


@dataclass(frozen=True)
class Job:
    """One run of a study.

    Attributes:
        words: the command line after `train.py`, without the run directory.
        directory: of the run.
        env_steps: its budget, `total_env_steps`.
    """

    task: str
    arm: str
    seed: int
    words: tuple[str, ...]
    directory: Path
    env_steps: int

    @property
    def name(self) -> str:
        """Name the job in messages and the name of its log."""
        return f"{self.task}-{self.arm}-seed{self.seed}"


@dataclass(frozen=True)
class Arm:
    """An arm on one task: a command line without seed, and the fingerprint of its configuration.

    Attributes:
        interval: environment steps between evaluations.
        flags: that every job needs.
    """

    task: str
    name: str
    words: tuple[str, ...]
    fingerprint: str
    env_steps: int
    interval: int
    flags: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Name its folder below the study's directory."""
        return f"{self.task}/{self.name}-{self.fingerprint}"

    def job(self, seed: int, folder: Path) -> Job:
        """Return its job with a seed, whose run is below a folder."""
        words = (*self.flags, *self.words, f"seed={seed}", "tracking.progress=false")
        return Job(self.task, self.name, seed, words, folder / f"seed{seed}", self.env_steps)


class Study:
    """The jobs of a study, with every configuration checked.

    Attributes:
        cells: every arm on every task.
        notices: what presets left out, with the arm's name.
    """

    def __init__(
        self, options: Mapping[str, Any], directory: Path, *, user_directory: str | None = None
    ) -> None:
        """Compose and check every arm on every task.

        Args:
            options: `study` of a composed configuration.
            directory: of the study.
            user_directory: of `--config-dir`.

        Raises:
            InvalidConfiguration: with the problems of all arms.
        """
        self.options, self.directory = options, directory
        self.composer = Composer("config", user_directory)
        self.choose({})

    def choose(self, values: Mapping[tuple[str, str], Sequence[str]]) -> None:
        """Add tuned values to the words of arms.

        Args:
            values: by task and arm.

        Raises:
            InvalidConfiguration: with the problems of all arms.
        """
        self.cells, self.notices, problems = list[Arm](), list[str](), list[str]()
        for task, arm in product(self.options["tasks"], self.options["arms"]):
            words, run = self._settled(task, arm, values.get((task, arm), ()))
            where = f"study.arms.{arm}" + f" on {task}" * (len(self.options["tasks"]) > 1)
            problems += [f"{where}: {problem}" for problem in run.problems]
            self.notices += [f"{where}: {notice}" for notice in run.notices]
            if not run.problems:
                self.cells.append(arm_of(task, arm, words, run.typed, self.composer.directory))
        if problems := problems or list(_same_arms(self.cells)):
            raise InvalidConfiguration(problems)

    def jobs(self) -> list[Job]:
        """List the jobs; every arm gets its first seed before any gets its second."""
        pairs = product(self.options["seeds"], self.cells)
        return [cell.job(seed, self.directory / cell.folder) for seed, cell in pairs]

    def _settled(self, task: str, arm: str, values: Sequence[str]) -> tuple[list[str], Settled]:
        """Return the words of an arm on a task, and its configuration; tuned values come last."""
        words = with_one_thread([*self.options["tasks"][task], *self.options["arms"][arm]])
        total, metric = self.options["total_env_steps"], self.options["metric"]
        budget = [] if total is None else [f"total_env_steps={total}"]
        run = self._configured(words := with_values(words, [*values, *budget]))
        if not run.problems and (pretraining := frames_wanted(run.typed)):
            frames, total = pretraining["frames"], run.typed["total_env_steps"]
            if frames < total:  # they count as environment steps of the budget
                words = with_values(words, [f"total_env_steps={total - frames}"])
                run = self._configured(words)
            else:
                run.problems += [f"extractor.pretrain.frames={frames} leaves no steps of {total}"]
        if not run.problems and (metric, run.typed["evaluation"]["checkpoint"]) in _UNMEASURED:
            told = f"evaluation.checkpoint=best does not measure study.metric={metric}, which is "
            told += "of the last weights; add evaluation.checkpoint=last, or study.metric=best"
            run.problems.append(told)
        return words, run

    def _configured(self, words: Sequence[str]) -> Settled:
        return configure(self.composer, [*words, "seed=0"])


def _same_arms(cells: Sequence[Arm]) -> Iterator[str]:
    """Refuse arms that would train the same."""
    for (task, mark), count in Counter((cell.task, cell.fingerprint) for cell in cells).items():
        if count > 1:
            same = [cell.name for cell in cells if (cell.task, cell.fingerprint) == (task, mark)]
            yield f"study.arms: {', '.join(same)} are the same configuration on {task}"


def arm_of(
    task: str, name: str, words: Sequence[str], config: Mapping[str, Any], directory: str | None
) -> Arm:
    """Return the arm of a checked command line, its configuration and its `--config-dir`."""
    flags = () if directory is None else (f"--config-dir={directory}",)
    total, interval = config["total_env_steps"], config["evaluation"]["interval"]
    trust = trust_words(config["env"]["packages"], config["trusted_packages"])
    words = with_values(words, trust)
    return Arm(task, name, tuple(words), fingerprint(config), total, interval, flags)


def with_values(words: Sequence[str], values: Sequence[str]) -> list[str]:
    """Return words with values in place of those of the same keys."""
    replaced = {key_of(word) for word in values}
    return [*(word for word in words if key_of(word) not in replaced), *values]


def with_one_thread(words: Sequence[str]) -> list[str]:
    """Give a job one thread, unless a word says otherwise: any machine gives the same."""
    is_set = any(key_of(word) == "num_threads" for word in words)
    return [*words] if is_set else [*words, "num_threads=1"]


def range_problems(
    composer: Composer, words: Sequence[str], space: Space
) -> Iterator[tuple[str, str]]:
    """Yield the problems that the values of a range have in a command line, with its key."""
    for key, distribution in space.items():
        for value in samples(distribution):
            run = configure(composer, with_values(words, [f"{key}={value}"]))
            yield from ((key, problem) for problem in run.problems)


def fingerprint(config: Mapping[str, Any]) -> str:
    """Hash a resolved configuration, without what may differ between runs of one arm.

    A longer budget is the same run resumed, unless something is scheduled over it.
    """
    ignored = _NOT_COMPARED if scheduled(config) else (*_NOT_COMPARED, "total_env_steps")
    kept = sorted((key, value) for key, value in leaves(config) if not lies_under(key, ignored))
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:_DIGITS]


def is_finished(job: Job) -> bool:
    """Tell whether nothing is left to do for a job; a damaged run has not ended."""
    summary = summary_of(job)
    is_stopped = summary.get("stopped_at") is not None
    is_at_its_end = is_stopped or summary.get("env_steps", 0) >= job.env_steps
    is_over = summary.get("status") == "finished" and is_at_its_end
    return is_over and bool(_stored(job, "config.yaml"))


def summary_of(job: Job) -> dict[str, Any]:
    """Read the summary of a job's run; empty before there is one, or if it is damaged."""
    summary = _stored(job, "summary.json")
    return summary if isinstance(summary.get("env_steps"), int) else {}


def refuse_shortened(jobs: Sequence[Job]) -> None:
    """Refuse a budget that is smaller than that of its run: a run is never cut.

    Raises:
        InvalidConfiguration: for the first such job.
    """
    for job in jobs:
        before = _stored(job, "config.yaml").get("total_env_steps")
        if isinstance(before, int) and before > job.env_steps:
            less = f"{job.env_steps:,} is less than the {before:,} of the run in {job.directory}"
            remedy = "ask for at least as many, or name another directory=..."
            raise InvalidConfiguration([f"study.total_env_steps: {less}; {remedy}"])


def _stored(job: Job, name: str) -> dict[str, Any]:
    """Read a record of a run; empty if there is none, or if it is damaged: the job will say so."""
    try:
        return read_mapping(job.directory / name)
    except Damaged:
        return {}
