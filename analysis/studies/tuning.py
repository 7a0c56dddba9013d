"""Searches for the values of some keys: each trial trains some seeds, and Optuna proposes the next.

Trials are stored on disk. A search that was interrupted goes on: its open trials are resumed, not
lost. A trial that falls behind the median of the others is stopped early.
"""

import hashlib
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.studies.engines.engine import Engine, needed
from analysis.studies.execution import Ended, Pool
from analysis.studies.ranges import Dimension, values_of
from analysis.studies.study import Job, summary_of
from training.process.signals import StopRequest
from training.runs.refusal import Refusal
from training.saving.files import replace, to_json

_PAUSE = 0.2
_DIGITS = 6
_FEWEST = 4
"""Trials below which the importance of keys means nothing."""


@dataclass(frozen=True)
class Subject:
    """What is searched.

    Attributes:
        fingerprint: of its configuration.
        words_of: the command line with some values, without a seed.
        env_steps: of each run.
        interval: environment steps between evaluations; 0: none, and no trial is stopped early.
        metric: `best` maximises the best evaluation, anything else the final one.
    """

    task: str
    arm: str
    fingerprint: str
    words_of: Callable[[Sequence[str]], Sequence[str]]
    env_steps: int
    interval: int
    metric: str


@dataclass
class OpenTrial:
    """A trial whose jobs are not over.

    Attributes:
        trial: Optuna's.
        evaluations: mean returns by number of the evaluation, and by job.
    """

    trial: Any
    jobs: list[Job]
    ended: list[Ended] = field(default_factory=list)
    evaluations: dict[int, dict[Job, float]] = field(default_factory=lambda: defaultdict(dict))
    reported: set[int] = field(default_factory=set)


class Search:
    """A search of one configuration.

    Attributes:
        directory: of its storage and its result; trials are below, in a folder of their own for
            each configuration and space.
    """

    def __init__(
        self,
        subject: Subject,
        space: Mapping[str, Dimension],
        directory: Path,
        *,
        trials: int,
        seeds: Sequence[int],
    ) -> None:
        """Open or begin it.

        Args:
            trials: in all, those that are stored included.
            seeds: of each trial, whose score is the mean over them.

        Raises:
            Refusal: Optuna is not installed.
        """
        self._optuna = needed("optuna", "tune")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        directory.mkdir(parents=True, exist_ok=True)
        self._subject, self.directory, self._trials = subject, directory, trials
        self._seeds, self._interval = seeds, subject.interval
        self._evaluation = "best" if subject.metric == "best" else "evaluation"
        mark = hashlib.sha256(repr(sorted(space.items())).encode()).hexdigest()[:_DIGITS]
        self._name = f"{subject.fingerprint}-{mark}"
        self._space = {key: self._distribution(dimension) for key, dimension in space.items()}
        storages = self._optuna.storages
        journal = str(directory / "trials.journal")
        storage = storages.JournalStorage(storages.journal.JournalFileBackend(journal))
        self._study = self._optuna.create_study(
            study_name=self._name, storage=storage, direction="maximize", load_if_exists=True
        )
        # Seeded anew by what is known, or a resumed search would propose its first trials again.
        self._study.sampler = self._optuna.samplers.TPESampler(seed=len(self._study.trials))
        self._study.pruner = self._optuna.pruners.MedianPruner()
        self._open: list[OpenTrial] = []

    def run(self, engine: Callable[[], Engine], stop: StopRequest) -> None:
        """Run the trials that are missing, and write the result.

        Raises:
            Refusal: no trial had a score, or a signal stopped it.
        """
        running = (self._optuna.trial.TrialState.RUNNING,)
        if self._is_short() or self._study.get_trials(states=running):
            self._run(Pool(engine(), self.directory), stop)
        if not self.scores():
            raise Refusal(f"no trial has a score; see {self.directory / 'logs'}", 1)
        replace(self.directory / "search.json", to_json(self.summary()))

    def _run(self, pool: Pool, stop: StopRequest) -> None:
        for frozen in self._study.get_trials(states=(self._optuna.trial.TrialState.RUNNING,)):
            trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
            self._begin(trial, pool)  # of a driver that was killed
        while self._open or self._is_short():
            while pool.has_room and self._is_short():
                self._begin(self._study.ask(self._space), pool)
            for ended in pool.step():
                self._note(ended)
            for trial in list(self._open):
                self._look(trial, pool)
            if stop:
                pool.stop()
                raise Refusal("every run saved; the same command goes on", 128 + (stop.number or 0))
            time.sleep(_PAUSE)

    def best_words(self) -> list[str]:
        """Return the words of the best trial."""
        return values_of(self._study.best_params)

    def scores(self) -> list[tuple[int, float]]:
        """List the number and the score of every trial that ended with one."""
        complete = self._optuna.trial.TrialState.COMPLETE
        return [(trial.number, trial.value) for trial in self._study.get_trials(states=(complete,))]

    def summary(self) -> dict[str, Any]:
        """Return all trials, the best one, and how much each key matters, as plain data."""
        trials = [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "score": trial.value if trial.state.name == "COMPLETE" else None,
                "values": trial.params,
            }
            for trial in self._study.get_trials()
        ]
        best = self._study.best_trial
        return {
            "best": {"number": best.number, "score": best.value, "values": best.params},
            "importances": self._importances(),
            "trials": trials,
        }

    def _importances(self) -> dict[str, float]:
        """Return each key's share of what decides the score, by PED-ANOVA; empty for few trials.

        Source: Watanabe et al. (2023), arXiv:2304.10255.
        """
        if len(self.scores()) < _FEWEST:
            return {}
        importance = self._optuna.importance
        evaluator = importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where trials are alike
            return dict(importance.get_param_importances(self._study, evaluator=evaluator))

    def _distribution(self, dimension: Dimension) -> Any:
        known = self._optuna.distributions
        if dimension.choices:
            return known.CategoricalDistribution(dimension.choices)
        low, high, log = dimension.low, dimension.high, dimension.is_log
        if dimension.is_integer:
            return known.IntDistribution(int(low), int(high), log=log)
        return known.FloatDistribution(low, high, log=log)

    def _is_short(self) -> bool:
        return len(self._study.get_trials(deepcopy=False)) < self._trials

    def _begin(self, trial: Any, pool: Pool) -> None:
        words = self._subject.words_of(values_of(trial.params))
        name = f"trial{trial.number}"
        jobs = [
            Job(
                task=self._subject.task,
                arm=f"{self._subject.arm}-{name}",
                seed=seed,
                words=(*words, f"seed={seed}", "tracking.progress=false"),
                directory=self.directory / self._name / name / f"seed{seed}",
                env_steps=self._subject.env_steps,
            )
            for seed in self._seeds
        ]
        self._open.append(OpenTrial(trial, jobs))
        pool.add(jobs)

    def _note(self, ended: Ended) -> None:
        for trial in self._open:
            if ended.job in trial.jobs:
                trial.ended.append(ended)

    def _look(self, trial: OpenTrial, pool: Pool) -> None:
        """Close a trial if its jobs ended, one failed, or it is far behind the others."""
        states = self._optuna.trial.TrialState
        label = f"{self._subject.arm} trial {trial.trial.number}: "
        failed = [ended for ended in trial.ended if ended.code != 0]
        if failed:
            self._close(trial, pool, states.FAIL, None, f"{label}failed: {failed[0]}")
        elif len(trial.ended) == len(trial.jobs):
            score = fmean(self._score(job) for job in trial.jobs)
            words = " ".join(values_of(trial.trial.params))
            line = f"{label}{score:.2f}   {words}"
            self._close(trial, pool, states.COMPLETE, score, line)
        elif self._interval and self._is_behind(trial):
            line = f"{label}stopped early, below the median"
            self._close(trial, pool, states.PRUNED, None, line)

    def _close(
        self, trial: OpenTrial, pool: Pool, state: Any, score: float | None, line: str
    ) -> None:
        pool.cancel(trial.jobs)
        self._open.remove(trial)
        self._study.tell(trial.trial.number, score, state=state)
        print(line, flush=True)

    def _score(self, job: Job) -> float:
        return float(summary_of(job)[self._evaluation]["return_mean"])

    def _is_behind(self, trial: OpenTrial) -> bool:
        """Report the evaluations that every seed has reached; tell whether to stop the trial."""
        for job, number, score in self._evaluations(trial):
            trial.evaluations[number][job] = score
        for number, scores in sorted(trial.evaluations.items()):
            if len(scores) == len(trial.jobs) and number not in trial.reported:
                trial.reported.add(number)
                trial.trial.report(fmean(scores.values()), number)
                if trial.trial.should_prune():
                    return True
        return False

    def _evaluations(self, trial: OpenTrial) -> Iterator[tuple[Job, int, float]]:
        """Yield the latest evaluation of each job, as its summary has it."""
        for job in trial.jobs:
            summary = summary_of(job)
            if summary.get("evaluation") and summary["status"] == "running":
                number = round(summary["env_steps"] / self._interval)
                yield job, number, float(summary["evaluation"]["return_mean"])
