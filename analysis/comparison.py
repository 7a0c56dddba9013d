"""Compares runs: a table for each environment, a row for runs that differ in their seed only."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.runs import RunRecord
from analysis.statistics import mean, standard_deviation
from conf.composing.choices import Choice

ABSENT = "-"
"""Stands where a run has no such key."""

# What is not a choice: where a run lies, how it was watched, and what groups average over.
_NO_CHOICES = (
    "seed",
    "run_dir",
    "resume",
    "trusted_packages",
    "tracking",
    "checkpoint",
    "evaluation.video",
)
_WHO = ("agent", "extractor", "memory")
# Mappings of the user's own keys: a key that one run lacks is a difference. Elsewhere it is none:
# another class has other keys, an earlier version had fewer.
_OPEN = ("env.kwargs.", "optimizer.groups.", "pomdp.")
# The same for every memory that keeps nothing, and what every other one differs in.
_MEANINGLESS = {"NoMemory": "sequence_length"}


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seeds only.

    Attributes:
        configuration: of one of them.
        score: mean over seeds; None before any run has finished.
        score_deviation: over seeds; None for a single one.
        seeds: how many finished runs the score is of.
        env_steps: mean over the runs, as are the columns after it; pre-training included.
        status: how many runs are in which state.
    """

    configuration: Mapping[str, Choice]
    score: float | None
    score_deviation: float | None
    seeds: int
    env_steps: float
    training_seconds: float
    steps_per_second: float
    parameters: float
    status: str


@dataclass(frozen=True)
class Table:
    """The runs in one environment.

    Attributes:
        choices: keys of the configuration in which they differ.
        rows: best score first.
        notes: what to bear in mind when reading it.
    """

    environment: str
    choices: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def compare(runs: Iterable[RunRecord]) -> list[Table]:
    """Compare runs, those in different environments apart."""
    by_environment: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        by_environment[run.environment].append(run)
    return [_table(name, by_environment[name]) for name in sorted(by_environment)]


def differing_choices(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Name the keys of the configuration that tell the runs apart, in its order."""
    keys = dict.fromkeys(key for run in runs for key in run.choices)
    return tuple(key for key in keys if _is_choice(key) and len(_values(key, runs)) > 1)


def _values(key: str, runs: Sequence[RunRecord]) -> set[tuple[str, Choice]]:
    """Collect the values of a key, those of runs for which it means something."""
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


def _is_choice(key: str) -> bool:
    return not any(key == name or key.startswith(f"{name}.") for name in _NO_CHOICES)


def _table(environment: str, runs: Sequence[RunRecord]) -> Table:
    choices = differing_choices(runs)
    columns = choices or tuple(key for key in _WHO if key in runs[0].choices)
    groups: dict[tuple[Choice, ...], list[RunRecord]] = defaultdict(list)
    for run in runs:
        groups[tuple(run.choices.get(key, ABSENT) for key in columns)].append(run)
    notes = _budget_notes(runs) + _pretraining_notes(runs)
    rows = []
    for members in groups.values():
        kept, repeated = _one_per_seed(members)
        rows.append(_row(kept))
        notes += [
            f"seed {seed} was run more than once with the same choices; {run.directory} counts"
            for seed, run in repeated.items()
        ]
    rows.sort(key=lambda row: (row.score is None, -(row.score or 0.0)))
    return Table(environment, columns, tuple(rows), tuple(notes))


def _one_per_seed(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], dict[int, RunRecord]]:
    """Keep one run of each seed, as the same run twice is no second sample: the furthest, latest.

    Returns:
        The runs that count, and among them those of repeated seeds.
    """
    ranked = sorted(
        runs, key=lambda run: (run.status == "finished", run.env_steps, run.directory.name)
    )
    kept = {run.seed: run for run in ranked}
    counts = Counter(run.seed for run in runs)
    return list(kept.values()), {
        seed: run for seed, run in sorted(kept.items()) if counts[seed] > 1
    }


def _row(runs: Sequence[RunRecord]) -> Row:
    scores = [run.score for run in runs if run.score is not None]
    measured = [run for run in runs if run.score is not None] or runs
    statuses = Counter(run.status for run in runs)
    return Row(
        configuration=runs[0].choices,
        score=mean(scores) if scores else None,
        score_deviation=standard_deviation(scores),
        seeds=len(scores),
        env_steps=mean([run.env_steps for run in measured]),
        training_seconds=mean([run.training_seconds for run in measured]),
        steps_per_second=mean([run.steps_per_second for run in measured]),
        parameters=mean([run.parameters for run in measured]),
        status=", ".join(f"{count} {status}" for status, count in sorted(statuses.items())),
    )


def _budget_notes(runs: Sequence[RunRecord]) -> list[str]:
    budgets = sorted({run.budget for run in runs})
    if len(budgets) == 1:
        return []
    listed = " or ".join(f"{budget:,}" for budget in budgets)
    is_pretrained = any(run.pretraining_env_steps for run in runs)
    what = "total_env_steps with pre-training" if is_pretrained else "total_env_steps"
    return [f"budgets differ: {what} is {listed}; compare scores of equal budgets"]


def _pretraining_notes(runs: Sequence[RunRecord]) -> list[str]:
    counts = sorted({run.pretraining_env_steps for run in runs} - {0})
    if not counts:
        return []
    listed = " or ".join(f"{count:,}" for count in counts)
    return [f"env steps and budgets count those of pre-training, where there was any: {listed}"]
