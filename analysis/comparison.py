"""Compares runs: a table for each environment, a row for runs that differ in their seed only."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from analysis.runs import RunRecord
from conf.composing.choices import Choice

ABSENT = "-"
"""Value of a key that a run does not have."""

# Not choices: a run's directory, its logging, and what groups average over.
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
# Mappings with keys of the user: a key that one run lacks is a difference. Elsewhere it is not,
# because another class has other keys and an earlier version had fewer.
_OPEN = ("env.kwargs.", "optimizer.groups.", "pomdp.")
# The same for every class without memory, and different for every other one.
_MEANINGLESS = {"NoMemory": "sequence_length"}


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seeds only.

    Attributes:
        configuration: of one of them.
        score: mean over seeds; None before any run has finished.
        score_deviation: standard deviation over seeds; None for a single one.
        seeds: number of finished runs in the score.
        env_steps: mean over the runs, like the columns after it; pre-training included.
        status: number of runs by status.
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
        notes: caveats for the reader.
    """

    environment: str
    choices: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def compare(runs: Iterable[RunRecord]) -> list[Table]:
    """Compare runs, separately for each environment."""
    by_environment: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        by_environment[run.environment].append(run)
    return [_table(name, by_environment[name]) for name in sorted(by_environment)]


def differing_choices(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """List the keys in which the runs differ, in the configuration's order."""
    keys = dict.fromkeys(key for run in runs for key in run.choices)
    return tuple(key for key in keys if _is_choice(key) and len(_values(key, runs)) > 1)


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
    """Keep one run per seed, the furthest and latest: a repeated run is no second sample.

    Returns:
        The runs that count, and those among them with repeated seeds.
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
    scores = [score for run in runs if (score := _final_score(run)) is not None]
    measured = [run for run in runs if _final_score(run) is not None] or runs
    statuses = Counter(run.status for run in runs)
    return Row(
        configuration=runs[0].choices,
        score=fmean(scores) if scores else None,
        score_deviation=stdev(scores) if len(scores) > 1 else None,
        seeds=len(scores),
        env_steps=fmean([run.env_steps for run in measured]),
        training_seconds=fmean([run.training_seconds for run in measured]),
        steps_per_second=fmean([run.steps_per_second for run in measured]),
        parameters=fmean([run.parameters for run in measured]),
        status=", ".join(f"{count} {status}" for status, count in sorted(statuses.items())),
    )


def _final_score(run: RunRecord) -> float | None:
    """Return the score of the final evaluation, of the last weights or the best."""
    if run.problem is not None:
        return None
    return run.best if run.last is None else run.last


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
