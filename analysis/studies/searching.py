"""Searches for the arms of a tuned study, and for a command line of the user's."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from analysis.grouping import OF_ONE_RUN
from analysis.studies.engines import build_engine
from analysis.studies.execution import Pool, driving
from analysis.studies.ranges import Space, read_ranges, values_of
from analysis.studies.study import Arm, Study, arm_of, range_problems, with_one_thread
from analysis.studies.tuning import Search
from conf.checking.refusals import InvalidConfiguration
from conf.composing.composer import Composer
from conf.composing.configuration import configure
from conf.composing.presets import written
from conf.composing.resumption import leaves, lies_under
from conf.composing.sweeps import key_of, user_directory
from conf.schema.run import PRESETS
from conf.schema.study import OF_JOBS, set_by
from training.process.signals import StopRequest
from training.stream.episodes import shown_return

_OF_SEARCHES = ("tuning", "engine", "directory")
"""Keys of a search, which its runs do not have."""
_ABSENT = object()


def tune_arms(study: Study, pool: Pool, stop: StopRequest) -> list[str]:
    """Search the best values of every arm on every task, and give them to the study.

    Every arm gets the same number of trials, on the seeds for tuning.

    Returns:
        Sentences for the report: what each arm was tuned to, and how much it needs tuning.

    Raises:
        InvalidConfiguration: a range does not fit an arm.
        Refusal: a search could not run, or was stopped.
    """
    tuning = {**study.options["tuning"], "metric": study.options["metric"]}
    space = read_ranges("study.tuning.keys", tuning["keys"])
    problems = [
        f"study.tuning.keys.{key} in arm {cell.name}: {problem}"
        for cell in study.cells
        for key, problem in range_problems(study.composer, cell.words, space)
    ]
    if problems:
        raise InvalidConfiguration(problems)
    values: dict[tuple[str, str], list[str]] = {}
    found = defaultdict[str, list[dict[str, Any]]](list)
    tuned = []
    for cell in study.cells:
        place = study.directory / "tuning" / cell.task / cell.name
        summary = Search(cell, space, place, tuning).run(pool, stop)
        words = values[cell.task, cell.name] = values_of(summary["best"]["values"])
        found[cell.name].append(summary)
        count = sum(trial["state"] != "fail" for trial in summary["trials"])
        best = f"the best of {count} trials on seeds {', '.join(map(str, tuning['seeds']))}"
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
    trials = [trial for trial in search["trials"] if trial["score"] is not None]
    scores = {tuple(values_of(trial["values"])): trial["score"] for trial in trials}
    low, high = min(scores.values()), max(scores.values())
    width = high - low
    return {key: (score - low) / width if width else 1.0 for key, score in scores.items()}


def search_command_line(config: DictConfig) -> dict[str, Any]:
    """Search, and write the best trial as `experiment/best.yaml`; return that trial.

    Args:
        config: of conf/tune.yaml, in a job of Hydra's.

    Raises:
        InvalidConfiguration: with all problems.
        Refusal: it could not run, or was stopped.
    """
    settings, directory = HydraConfig.get(), Path(config.directory)
    words = [word for word in settings.overrides.task if not key_of(word).startswith(_OF_SEARCHES)]
    tuning: Any = OmegaConf.to_container(config.tuning)
    composer = Composer("config", user_directory(settings))
    space = read_ranges("tuning.keys", tuning["keys"])
    arm = searched_arm(composer, words, space)
    build = partial(build_engine, config.engine, directory)
    with driving(directory) as stop, Pool(build, directory) as pool:
        summary = Search(arm, space, directory, tuning).run(pool, stop)
    best: dict[str, Any] = summary["best"]
    values = values_of(best["values"])
    found = f"The best of {len(summary['trials'])} trials, score {shown_return(best['score'])}: "
    seeds = f"Each trial is the mean over the seeds {tuning['seeds']}; evaluate it on others."
    path, comment = directory / "experiment" / "best.yaml", [found + " ".join(values), seeds]
    write_experiment(path, [*words, *values], composer=composer, comment=comment)
    return best


def searched_arm(composer: Composer, words: Sequence[str], space: Space) -> Arm:
    """Check a command line of `train.py`, and every range in it.

    Raises:
        InvalidConfiguration: with all problems.
    """
    run = configure(composer, words)
    keys = [key for key in (*map(key_of, words), *space) if key in OF_JOBS]
    problems = [*run.problems, *(f"{key}: {set_by('search', key)}" for key in keys)]
    problems = problems or [problem for _, problem in range_problems(composer, words, space)]
    if problems:
        raise InvalidConfiguration(problems)
    return arm_of("search", "run", with_one_thread(words), run.typed, composer.directory)


def write_experiment(
    path: Path, words: Sequence[str], *, composer: Composer, comment: Sequence[str]
) -> None:
    """Write the options that a command line chooses, and its values that differ from theirs."""
    usual = composer.options([])
    chosen = {
        group: option
        for group, option in composer.options(words).items()
        if option not in (None, usual.get(group)) and group in usual and group != PRESETS[0]
    }
    options = [written(group, option) for group, option in chosen.items()]
    before = dict(leaves(configure(composer, options).typed))
    values = OmegaConf.create()
    for key, value in leaves(configure(composer, words).typed):
        if before.get(key, _ABSENT) != value and not lies_under(key, (*OF_ONE_RUN, "task.name")):
            OmegaConf.update(values, key, value, force_add=True)
    defaults = [{f"override /{group}": option} for group, option in chosen.items()]
    head = ["# @package _global_", *(f"# {line}" for line in comment)]
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]}))
    body += OmegaConf.to_yaml(values) if values else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, body]), encoding="utf-8")
