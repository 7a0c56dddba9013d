"""Searches for the arms of a tuned study, and for a command line of the user's."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.studies.engines.engine import Engine
from analysis.studies.execution import driving, opened
from analysis.studies.experiments import write_experiment
from analysis.studies.ranges import Dimension, read_ranges, values_of
from analysis.studies.study import Arm, Study, arm_of, flags_for, range_problems, with_values
from analysis.studies.tuning import Search
from conf.checking.refusals import InvalidConfiguration
from conf.checking.trust import trust_words
from conf.composing.composer import Composer
from conf.composing.configuration import configure
from conf.composing.sweeps import key_of
from conf.schema.study import OF_JOBS, set_by
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
    tuned = []
    for cell in study.cells:
        place = study.directory / "tuning" / cell.task / cell.name
        search = Search(cell, space, place, tuning, metric=study.metric, flags=study.flags)
        summary = search.run(engine, stop)
        words = values_of(summary["best"]["values"])
        values[cell.task, cell.name] = words
        found.setdefault(cell.name, []).append(summary)
        count = sum(trial["state"] != "fail" for trial in summary["trials"])
        seeds = ", ".join(map(str, tuning["seeds"]))
        best = f"the best of {count} trials on seeds {seeds}"
        tuned.append(f"{cell.name} on {cell.task}: {' '.join(words)}, {best}")
    study.choose(values)
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


def searched_arm(composer: Composer, words: Sequence[str], space: Mapping[str, Dimension]) -> Arm:
    """Check a command line of `train.py`, and every range in it.

    Raises:
        InvalidConfiguration: with all problems.
    """
    run = configure(composer, words, "config")
    keys = [key for key in (*map(key_of, words), *space) if key in OF_JOBS]
    problems = [*run.problems, *(f"{key}: {set_by('search', key)}" for key in keys)]
    problems = problems or [problem for _, problem in range_problems(composer, words, space)]
    if problems:
        raise InvalidConfiguration(problems)
    threads = [] if any(key_of(word) == "num_threads" for word in words) else ["num_threads=1"]
    trust = trust_words(run.typed["env"]["packages"], run.typed["trusted_packages"])
    return arm_of("search", "run", [*with_values(words, trust), *threads], run.typed)


def search_command_line(
    tuning: Mapping[str, Any],
    words: Sequence[str],
    directory: Path,
    build: Callable[[], Engine],
    *,
    user_directory: str | None,
) -> dict[str, Any]:
    """Search, and write the best trial as `experiment/best.yaml`; return that trial.

    Args:
        tuning: of conf/tune.yaml.
        words: those of the runs, without ranges.
        build: makes the engine.

    Raises:
        InvalidConfiguration: with all problems.
        Refusal: it could not run, or was stopped.
    """
    composer = Composer("config", user_directory)
    space = read_ranges("tuning.keys", tuning["keys"])
    arm = searched_arm(composer, words, space)
    flags = flags_for(user_directory)
    with driving(directory) as stop, opened(build) as engine:
        search = Search(arm, space, directory, tuning, metric=tuning["metric"], flags=flags)
        summary = search.run(engine, stop)
    best: dict[str, Any] = summary["best"]
    values = values_of(best["values"])
    comment = [
        f"The best of {len(summary['trials'])} trials, score {best['score']:.2f}: "
        + " ".join(values),
        f"Each trial is the mean over the seeds {tuning['seeds']}; evaluate it on others.",
    ]
    path = directory / "experiment" / "best.yaml"
    write_experiment(path, [*words, *values], composer=composer, comment=comment)
    return best
