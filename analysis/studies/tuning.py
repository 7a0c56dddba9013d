"""Searches for the values of some keys: each trial trains some seeds, and Optuna proposes the next.

Trials are stored on disk. A search that was interrupted goes on: its open trials are resumed, not
lost. A trial that falls behind the median of the others is stopped early.
"""

import dataclasses
import hashlib
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.studies.engines.engine import needed
from analysis.studies.execution import Ended, Pool
from analysis.studies.ranges import Space, values_of
from analysis.studies.study import Arm, Job, summary_of, with_values
from training.process.signals import StopRequest
from training.runs.refusal import Refusal
from training.saving.files import replace, to_json
from training.stream.episodes import shown_return

_DIGITS = 6
_FEWEST = 4
"""Trials below which the importance of keys means nothing."""


@dataclass(eq=False)
class OpenTrial:
    """A trial whose jobs are not over.

    Attributes:
        trial: Optuna's.
        evaluations: mean returns by number of the evaluation, and by job.
    """

    trial: Any
    jobs: list[Job]
    evaluations: dict[int, dict[Job, float]] = field(default_factory=lambda: defaultdict(dict))
    reported: set[int] = field(default_factory=set)


class Search:
    """A search of one configuration.

    Attributes:
        directory: of its storage and its result; trials are below, in a folder of their own for
            each configuration, space, seeds, budget and metric: scores of others do not compare.
    """

    def __init__(self, arm: Arm, space: Space, directory: Path, tuning: Mapping[str, Any]) -> None:
        """Open or begin it.

        Args:
            tuning: the number of `trials`, those that are stored included, the `seeds` of each,
                whose score is the mean over them, and the `metric`: `best` maximises the best
                evaluation, anything else the final one.

        Raises:
            Refusal: Optuna is not installed, or more trials are stored.
        """
        self._optuna = needed("optuna", "tune")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._arm, self._space, self.directory = arm, space, directory
        self._seeds, trials = tuning["seeds"], tuning["trials"]
        self._evaluation = "best" if tuning["metric"] == "best" else "evaluation"
        what = (sorted(space.items()), [*self._seeds], arm.env_steps, self._evaluation)
        self._name = (
            f"{arm.fingerprint}-{hashlib.sha256(repr(what).encode()).hexdigest()[:_DIGITS]}"
        )
        self._study = self._stored_study()
        self._open, self._ended = list[OpenTrial](), dict[Job, Ended]()
        self._total = trials + len(self._stored("FAIL"))  # those of earlier sessions are replaced
        if (missing := self._missing()) < 0:
            less = f"{trials} trials are fewer than the {trials - missing} of the search"
            remedy = "ask for at least as many, or name another directory=..."
            raise Refusal(f"{less} in {directory}; {remedy}", 2)

    def run(self, pool: Pool, stop: StopRequest) -> dict[str, Any]:
        """Run the trials that are missing, write the summary and return it.

        Raises:
            Refusal: no trial had a score, or a signal stopped it.
        """
        if self._missing() or self._stored("RUNNING"):
            self._run(pool, stop)
        if not self._stored("COMPLETE"):
            raise Refusal(f"no trial has a score; see {pool.logs}", 1)
        summary = self.summary()
        replace(self.directory / "search.json", to_json(summary))
        return summary

    def summary(self) -> dict[str, Any]:
        """Return all trials, the best one, and how much each key matters, as plain data."""
        return {
            "best": _plain(self._study.best_trial),
            "importances": self._importances(),
            "trials": [_plain(trial) for trial in self._study.get_trials()],
        }

    def _stored_study(self) -> Any:
        """Open or begin Optuna's study."""
        optuna, storages = self._optuna, self._optuna.storages
        self.directory.mkdir(parents=True, exist_ok=True)
        journal = storages.journal.JournalFileBackend(str(self.directory / "trials.journal"))
        how = {"storage": storages.JournalStorage(journal), "load_if_exists": True}
        how |= {"pruner": optuna.pruners.MedianPruner(), "direction": "maximize"}
        study = optuna.create_study(study_name=self._name, **how)
        # Seeded anew by what is known, or a resumed search would propose its first trials again.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
        return study

    def _stored(self, state: str) -> list[Any]:
        states = (self._optuna.trial.TrialState[state],)
        return list(self._study.get_trials(deepcopy=False, states=states))

    def _missing(self) -> int:
        """Return how many trials are to begin."""
        return self._total - len(self._study.get_trials(deepcopy=False))

    def _importances(self) -> dict[str, float]:
        """Return each key's share of what decides the score, by PED-ANOVA; empty for few trials.

        Source: Watanabe et al. (2023), arXiv:2304.10255.
        """
        if len(self._stored("COMPLETE")) < _FEWEST:
            return {}
        importance = self._optuna.importance
        evaluator = importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where trials are alike
            return dict(importance.get_param_importances(self._study, evaluator=evaluator))

    def _run(self, pool: Pool, stop: StopRequest) -> None:
        for frozen in self._stored("RUNNING"):  # of a driver that ended
            self._begin(self._optuna.trial.Trial(self._study, frozen._trial_id), pool)
        while self._open or self._missing():
            while pool.has_room and self._missing():
                self._begin(self._study.ask(), pool)
            self._ended |= {ended.job: ended for ended in pool.step()}
            for trial in list(self._open):
                self._look(trial, pool)
            pool.pause(stop, lambda: "every run saved")
        pool.stop()  # the jobs of trials that were stopped early save

    def _begin(self, trial: Any, pool: Pool) -> None:
        for key, distribution in self._space.items():  # stored ones stay
            trial._suggest(key, distribution)
        words = tuple(with_values(self._arm.words, values_of(trial.params)))
        place = self.directory / self._name / f"trial{trial.number}"
        arm = dataclasses.replace(self._arm, name=f"{self._arm.name}-{place.name}", words=words)
        jobs = [arm.job(seed, place) for seed in self._seeds]
        self._open.append(OpenTrial(trial, jobs))
        pool.add(jobs)

    def _look(self, trial: OpenTrial, pool: Pool) -> None:
        """Close a trial if its jobs ended, one failed, or it is far behind the others."""
        ended = [self._ended[job] for job in trial.jobs if job in self._ended]
        failed = [each for each in ended if each.code != 0]
        score = None
        if failed:
            state, reason = "FAIL", f"failed: {failed[0]}"
        elif len(ended) == len(trial.jobs):
            score = fmean(summary_of(job)[self._evaluation]["return_mean"] for job in trial.jobs)
            values = " ".join(values_of(trial.trial.params))
            state, reason = "COMPLETE", f"{shown_return(score)}   {values}"
        elif self._is_behind(trial):
            state, reason = "PRUNED", "stopped early, below the median"
        else:
            return
        pool.cancel(trial.jobs)
        self._open.remove(trial)
        number = trial.trial.number
        self._study.tell(number, score, state=self._optuna.trial.TrialState[state])
        print(f"{self._arm.name} trial {number}: {reason}", flush=True)

    def _is_behind(self, trial: OpenTrial) -> bool:
        """Report the evaluations that every seed has reached; tell whether to stop the trial."""
        for job in trial.jobs if self._arm.interval else ():
            summary = summary_of(job)
            if summary.get("evaluation") and summary["status"] == "running":
                number = round(summary["env_steps"] / self._arm.interval)
                trial.evaluations[number][job] = float(summary["evaluation"]["return_mean"])
        for number, scores in sorted(trial.evaluations.items()):
            if len(scores) == len(trial.jobs) and number not in trial.reported:
                trial.reported.add(number)
                trial.trial.report(fmean(scores.values()), number)
                if trial.trial.should_prune():
                    return True
        return False


def _plain(trial: Any) -> dict[str, Any]:
    """Return a trial of Optuna's as plain data; only a complete one has a score."""
    state = trial.state.name.lower()
    score = trial.value if state == "complete" else None
    return {"number": trial.number, "state": state, "score": score, "values": trial.params}
