"""The jobs of a sweep: the configuration of each, and its own command line."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conf.composing.composer import Composer
from conf.composing.presets import Settled, written

_OF_SWEEPS = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.sweep")
"""Overrides about launching jobs, which a job does not need."""


OF_ONE_JOB = ("run_dir", "hydra.output_subdir", "hydra.mode", "hydra.job.num")
"""Keys of a run's directory and single run; a repeated run has another directory."""


def compose_jobs(
    composer: Composer,
    jobs: Sequence[list[str]],
    compose: Callable[[Sequence[str], int], Settled],
) -> tuple[list[Settled], set[str], list[str]]:
    """Compose and check the jobs of a sweep; a value applies to those that have its key.

    Returns:
        The jobs, the keys that some of them lack, and notices to print.
    """
    runs = [compose(words, number) for number, words in enumerate(jobs)]
    unknown = [_unknown(run, words) for run, words in zip(runs, jobs, strict=True)]
    taken = {key_of(w) for words, no in zip(jobs, unknown, strict=True) for w in {*words} - no}
    common = set.intersection(*map(set, jobs))
    lacking, notices = set(), []
    for number, words in enumerate(jobs):
        out = [word for word in words if word in unknown[number] and key_of(word) in taken]
        if out:
            kept = [word for word in words if word not in out]
            runs[number] = compose(kept, number)
            lacking |= {key_of(word) for word in out}
            groups = composer.typed(kept)[1]
            chosen = " ".join(w for w in kept if w not in common and key_of(w) in groups)
            notices += [f"{word}: left out where {chosen} has no such key" for word in out]
    return runs, lacking, list(dict.fromkeys(notices))


def optional(word: str) -> str:
    """Mark an override whose key some jobs lack: with two plus signs Hydra accepts it."""
    return f"++{word.lstrip('+')}"


def fitting_words(run: Settled, words: Sequence[str]) -> list[str]:
    """Drop optional overrides whose key a job lacks."""
    lacking = {word for word in _unknown(run, words) if word.startswith("++")}
    return [word for word in words if word not in lacking]


def command_line(
    flags: Mapping[str, str | None], words: Sequence[str], typed: Mapping[str, Any], number: int
) -> list[str]:
    """Return the command line of a job as a single run, whatever its files say."""
    here = [f"{flag}={value}" for flag, value in flags.items() if value is not None]
    own = {"hydra.mode": "RUN", "hydra.job.num": number}
    if typed.get("resume") is None:
        own |= {"run_dir": typed["run_dir"], "hydra.output_subdir": None}
    asked = [word for word in words if not key_of(word).startswith((*_OF_SWEEPS, *OF_ONE_JOB))]
    return [*here, *asked, *(written(key, value) for key, value in own.items())]


def key_of(word: str) -> str:
    """Return the key that an override sets."""
    return word.partition("=")[0].lstrip("+~")


def _unknown(run: Settled, words: Sequence[str]) -> set[str]:
    """Return the overrides of keys that the chosen options do not have."""
    keys = {line.partition(": unknown key")[0] for line in run.problems}
    return {word for word in words if key_of(word) in keys}
