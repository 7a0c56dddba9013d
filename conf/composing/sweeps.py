"""The jobs of a sweep: the configuration of each, and its own command line."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.conf import HydraConf

from conf.checking.refusals import InvalidConfiguration
from conf.composing.composer import Composer
from conf.composing.configuration import configure
from conf.composing.presets import Settled, written
from conf.schema.run import GROUPS
from conf.schema.scripts import ROOTS

_OF_SWEEPS = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.sweep")
"""Overrides about launching jobs, which a job does not need."""


OF_ONE_JOB = ("run_dir", "hydra.output_subdir", "hydra.mode", "hydra.job.num")
"""Keys of a run's directory and single run; a repeated run has another directory."""


def configure_jobs(composer: Composer, overrides: Sequence[str]) -> tuple[list[Settled], list[str]]:
    """Compose and check the jobs of a sweep; a value applies to those that have its key.

    Returns:
        The runs, and the overrides for Hydra.

    Raises:
        InvalidConfiguration: with the problems of all jobs.
    """
    params = composer.hydra_settings(composer.parse(overrides)).sweeper.get("params") or {}
    defaults = [f"{key}={value}" for key, value in params.items()]
    jobs = composer.jobs([*defaults, *overrides])
    runs = [configure(composer, words, number) for number, words in enumerate(jobs)]
    unknown = [_unknown(run, words) for run, words in zip(runs, jobs, strict=True)]
    taken = {key_of(w) for words, no in zip(jobs, unknown, strict=True) for w in {*words} - no}
    common = set.intersection(*map(set, jobs))
    lacking, notices = set(), []
    for number, words in enumerate(jobs):
        out = [word for word in words if word in unknown[number] and key_of(word) in taken]
        if out:
            kept = [word for word in words if word not in out]
            runs[number] = configure(composer, kept, number)
            lacking |= {key_of(word) for word in out}
            own = [word for word in kept if word not in common]
            chosen = " ".join(word for word in own if key_of(word).partition("@")[0] in GROUPS)
            notices += [f"{word}: left out where {chosen} has no such key" for word in out]
    problems = [problem for run in runs for problem in run.problems]
    problems = problems or _shared_directories(runs)
    if problems:
        raise InvalidConfiguration(problems)
    lacking |= {key_of(word) for run in runs for word in run.words if word.startswith("++")}
    for notice in dict.fromkeys(notices):
        warnings.warn(notice, stacklevel=2)
    # With two plus signs Hydra accepts a key that some jobs lack.
    return runs, [f"++{w.lstrip('+')}" if key_of(w) in lacking else w for w in overrides]


def fitting_words(run: Settled, words: Sequence[str]) -> list[str]:
    """Drop optional overrides whose key a job lacks."""
    lacking = {word for word in _unknown(run, words) if word.startswith("++")}
    return [word for word in words if word not in lacking]


def command_line(settings: HydraConf, words: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """Return the command line of a job as a single run, whatever its files say."""
    own = {"hydra.mode": "RUN", "hydra.job.num": settings.job.num}
    if config.get("resume") is None:
        own |= {"run_dir": config["run_dir"], "hydra.output_subdir": None}
    asked = [word for word in words if not key_of(word).startswith((*_OF_SWEEPS, *OF_ONE_JOB))]
    return [*flags_of(settings), *asked, *(written(key, value) for key, value in own.items())]


def flags_of(settings: HydraConf) -> list[str]:
    """Return the flags that name configurations of the user's own.

    Args:
        settings: the `hydra` node of a run.
    """
    directory, name = user_directory(settings), settings.job.config_name
    flags = [] if directory is None else [f"--config-dir={directory}"]
    return flags if name in ROOTS else [*flags, f"--config-name={name}"]


def user_directory(settings: HydraConf) -> str | None:
    """Return the directory of `--config-dir`."""
    sources = settings.runtime.config_sources
    return next((source.path for source in sources if source.provider == "command-line"), None)


def key_of(word: str) -> str:
    """Return the key that an override sets."""
    return word.partition("=")[0].lstrip("+~")


def _unknown(run: Settled, words: Sequence[str]) -> set[str]:
    """Return the overrides of keys that the chosen options do not have."""
    keys = {line.partition(": unknown key")[0] for line in run.problems}
    return {word for word in words if key_of(word) in keys}


def _shared_directories(runs: Sequence[Settled]) -> list[str]:
    """Refuse a sweep whose jobs would write into one another's directory."""
    counts = Counter(run.typed["run_dir"] for run in runs if "run_dir" in run.typed)
    told = "run_dir: {0} jobs would share {1}; put what differs into it: run_dir='{1}/${{seed}}'"
    return [told.format(count, path) for path, count in counts.items() if count > 1]
