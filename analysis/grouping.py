"""Arms of runs found on disk: groups of runs that differ in their seeds only."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.runs import RunRecord
from analysis.wording import word
from conf.composing.choices import Choice
from conf.composing.resumption import lies_under

ABSENT = "-"
"""Value of a key that a run does not have."""

# Not choices: a run's directory, its logging, and what arms average over.
OF_ONE_RUN = ("seed", "run_dir", "resume", "trusted_packages", "tracking")
_NO_CHOICES = (*OF_ONE_RUN, "checkpoint", "evaluation.video")
_FIRST = ("agent", "extractor", "memory", "value_head")
# Mappings with keys of the user: a key that one run lacks is a difference. Elsewhere it is not,
# because another class has other keys and an earlier version had fewer.
_OPEN = ("env.kwargs.", "optimizer.groups.", "pomdp.")
# The same for every class without memory, and different for every other one.
_MEANINGLESS = {"NoMemory": "sequence_length"}
_LONGEST_NAME = 48


def labelled_by_choices(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Name the arm of each run by the keys in which the runs of its task differ."""
    by_task = defaultdict[str, list[RunRecord]](list)
    for record in records:
        by_task[record.task].append(record)
    return [
        replace(record, arm=arm)
        for _, runs in sorted(by_task.items())
        for arm, record in zip(_named_arms(runs), runs, strict=True)
    ]


def differing_choices(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """List the keys in which the runs differ: those of parts first, then those with most values."""
    keys = dict.fromkeys(key for run in runs for key in run.choices)
    counts = {key: len(_values(key, runs)) for key in keys if not lies_under(key, _NO_CHOICES)}
    order = {key: _FIRST.index(key) if key in _FIRST else len(_FIRST) for key in counts}
    differing = [key for key in counts if counts[key] > 1]
    return tuple(sorted(differing, key=lambda key: (order[key], -counts[key])))


def distinct(configurations: Sequence[Mapping[str, Choice]], key: str) -> list[str]:
    """Return a key's values in words, each once; a missing key has none."""
    found = [word(choices[key]) for choices in configurations if key in choices]
    return list(dict.fromkeys(found))


def _named_arms(runs: Sequence[RunRecord]) -> list[str]:
    """Name the arm of each run by the values in which the runs of its task differ."""
    keys = differing_choices(runs) or tuple(key for key in _FIRST[:3] if key in runs[0].choices)
    values = [tuple(run.choices.get(key, ABSENT) for key in keys) for run in runs]
    names = {
        each: _name(dict(zip(keys, each, strict=True)), number)
        for number, each in enumerate(dict.fromkeys(values), 1)
    }
    return [names[each] for each in values]


def _name(choices: Mapping[str, Choice], number: int) -> str:
    """Write an arm's values; a number replaces those that would make the name too long."""
    told = [word(value) for key, value in choices.items() if key in _FIRST]
    told += [f"{key}={word(value)}" for key, value in choices.items() if key not in _FIRST]
    name = " ".join(told)
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}… #{number}"


def _values(key: str, runs: Sequence[RunRecord]) -> set[tuple[str, Choice]]:
    """Collect a key's values in the runs that have it."""
    parent, _, leaf = key.rpartition(".")
    values = set()
    for run in runs:
        if key in run.choices:
            if _MEANINGLESS.get(str(run.choices.get(parent))) != leaf:
                value = run.choices[key]
                values.add((type(value).__name__, value))  # 1 and true are different values
        elif key.startswith(_OPEN):
            values.add(("", ABSENT))
    return values
