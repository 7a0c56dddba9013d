"""Searches for the arms of a tuned study, and for a command line of the user's."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.studies.engines.engine import Engine
from analysis.studies.experiments import write_experiment
from analysis.studies.ranges import Dimension, read_ranges, values_of
from analysis.studies.study import Study, configuration_of, fingerprint
from analysis.studies.tuning import Search, Subject
from conf.checking.refusals import InvalidConfiguration
from conf.checking.trust import trust_words
from conf.composing.composer import Composer
from conf.composing.sweeps import key_of
from training.process.signals import StopRequest


def tune_arms(study: Study, engine: Callable[[], Engine], stop: StopRequest) -> list[str]:
    """Search the best values of every arm on every task, and give them to the study.

    Every arm gets the same number of trials, on the seeds for tuning.

    Returns:
        Sentences for the report: what each arm was tuned to, and how much it needs tuning.

    Raises:
        InvalidConfiguration: a range does not fit an arm.
        Refusal: a search could not run, or was stopped.
    """
    tuning = study.options["tuning"]
    space = read_ranges("study.tuning.keys", tuning["keys"])
    study.refuse_ranges(space)
    values: dict[tuple[str, str], list[str]] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in study.cells:
        subject = Subject(
            task=cell.task,
            arm=cell.name,
            fingerprint=cell.fingerprint,
            words_of=partial(study.with_values, cell),
            env_steps=cell.env_steps,
            interval=cell.interval,
            metric=study.metric,
        )
        place = study.directory / "tuning" / cell.task / cell.name
        search = Search(subject, space, place, trials=tuning["trials"], seeds=tuning["seeds"])
        search.run(engine, stop)
        values[cell.task, cell.name] = search.best_words()
        found.setdefault(cell.name, []).append(search.summary())
    study.choose(values)
    effort = f"of {tuning['trials']} trials on seeds {', '.join(map(str, tuning['seeds']))}"
    tuned = [
        f"{arm} on {task}: {' '.join(words)}, the best {effort}"
        for (task, arm), words in values.items()
    ]
    needs = {arm: sensitivity(searches) for arm, searches in found.items()}
    return tuned + [
        f"{arm}: tuning sensitivity {need:.2f}, the share of its range of scores that one setting "
        "for all tasks loses to one for each"
        for arm, need in needs.items()
        if need is not None
    ]


def sensitivity(searches: Sequence[Mapping[str, Any]]) -> float | None:
    """Tell how much an arm needs tuning: its score tuned per task minus that of one setting.

    Scores of each task are scaled to [0, 1] over its trials, and averaged over tasks. The setting
    is the best on average, among those that every task tried.

    Args:
        searches: summaries, one for each task.

    Returns:
        None if there is one task, or no setting in common.

    Source: Adkins et al. (NeurIPS 2024), arXiv:2412.07165.
    """
    scaled = [_scaled(search) for search in searches]
    shared = set.intersection(*map(set, scaled))
    if len(scaled) < 2 or not shared:
        return None
    return 1.0 - max(fmean(scores[setting] for scores in scaled) for setting in shared)


def _scaled(search: Mapping[str, Any]) -> dict[tuple[str, ...], float]:
    """Return the scores of a search by setting, from 0 for the worst to 1 for the best.

    All are 1 if they are equal.
    """
    scores = {
        tuple(values_of(trial["values"])): trial["score"]
        for trial in search["trials"]
        if trial["score"] is not None
    }
    low, high = min(scores.values()), max(scores.values())
    return {
        setting: (score - low) / (high - low) if high > low else 1.0
        for setting, score in scores.items()
    }


class SearchedRun:
    """A command line of `train.py` with ranges for some keys."""

    def __init__(
        self, tuning: Mapping[str, Any], words: Sequence[str], *, user_directory: str | None
    ) -> None:
        """Check the command line, and every range.

        Args:
            tuning: of conf/tune.yaml.
            words: those of the runs, without ranges.

        Raises:
            InvalidConfiguration: with all problems.
        """
        self._tuning, self._words = tuning, list(words)
        has_threads = any(key_of(word) == "num_threads" for word in words)
        self._threads = [] if has_threads else ["num_threads=1"]  # as in studies
        self._flags = [] if user_directory is None else [f"--config-dir={user_directory}"]
        self._composer = Composer("config", user_directory)
        self._config = configuration_of(self._composer, self._words)
        env, trusted = self._config["env"], self._config["trusted_packages"]
        self._trust = trust_words(env["packages"], trusted)
        self._space = read_ranges("tuning.keys", tuning["keys"])
        self._refuse_ranges(self._space)

    def run(
        self, directory: Path, engine: Callable[[], Engine], stop: StopRequest
    ) -> dict[str, Any]:
        """Search, and write the best trial as `experiment/best.yaml`; return the summary.

        Raises:
            Refusal: it could not run, or was stopped.
        """
        subject = Subject(
            task="search",
            arm="run",
            fingerprint=fingerprint(self._config),
            words_of=self._with_values,
            env_steps=self._config["total_env_steps"],
            interval=self._config["evaluation"]["interval"],
            metric=self._tuning["metric"],
        )
        trials, seeds = self._tuning["trials"], self._tuning["seeds"]
        search = Search(subject, self._space, directory, trials=trials, seeds=seeds)
        search.run(engine, stop)
        summary = search.summary()
        best = summary["best"]
        comment = [
            f"The best of {len(summary['trials'])} trials, score {best['score']:.2f}: "
            + " ".join(values_of(best["values"])),
            f"Each trial is the mean over the seeds {seeds}; evaluate it on others.",
        ]
        write_experiment(
            directory / "experiment" / "best.yaml",
            [*self._words, *values_of(best["values"])],
            composer=self._composer,
            comment=comment,
        )
        return summary

    def _with_values(self, values: Sequence[str]) -> list[str]:
        own = [word for word in self._words if key_of(word) != "trusted_packages"]
        return [*self._flags, *own, *self._threads, *values, *self._trust]

    def _refuse_ranges(self, space: Mapping[str, Dimension]) -> None:
        problems = []
        for key, dimension in space.items():
            for value in dimension.samples():
                try:
                    configuration_of(self._composer, [*self._words, f"{key}={value}"])
                except InvalidConfiguration as refusal:
                    problems += refusal.problems
        if problems:
            raise InvalidConfiguration(problems)
