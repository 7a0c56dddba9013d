"""Searches for the arms of a tuned study, and for a command line of the user's."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
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
        Sentences for the report: what each arm was tuned to.

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
    tuned = []
    for cell in study.cells:
        place = study.directory / "tuning" / cell.task / cell.name
        summary = Search(cell, space, place, tuning).run(pool, stop)
        words = values[cell.task, cell.name] = values_of(summary["best"]["values"])
        count = sum(trial["state"] != "fail" for trial in summary["trials"])
        best = f"the best of {count} trials on seeds {', '.join(map(str, tuning['seeds']))}"
        tuned.append(f"{cell.name} on {cell.task}: {' '.join(words)}, {best}")
    study.choose(values)
    return tuned


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
    run = configure(composer, words, "config")
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
    before = dict(leaves(configure(composer, options, "config").typed))
    values = OmegaConf.create()
    for key, value in leaves(configure(composer, words, "config").typed):
        if before.get(key, _ABSENT) != value and not lies_under(key, (*OF_ONE_RUN, "task.name")):
            OmegaConf.update(values, key, value, force_add=True)
    defaults = [{f"override /{group}": option} for group, option in chosen.items()]
    head = ["# @package _global_", *(f"# {line}" for line in comment)]
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]}))
    body += OmegaConf.to_yaml(values) if values else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, body]), encoding="utf-8")
