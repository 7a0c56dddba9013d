"""The numbers of a report as CSV: every other number in it can be computed from these two files.

`results.csv` has a row for each run, `evaluations.csv` one for each point of its evaluations, and
of the telemetry that the report shows. Runs that do not count are in the first file alone.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from analysis.comparison import LabelledRun, Results, area, first_solved, score_of
from analysis.curves import EVALUATIONS

RESULTS, POINTS = "results.csv", "evaluations.csv"
_RESULT_COLUMNS = (
    "task", "arm", "seed", "counts", "reason", "metric", "score", "last", "best", "solved_at",
    "steps_to_solve", "seconds_to_solve", "area", "budget", "env_steps", "training_seconds",
    "steps_per_second", "parameters", "peak_memory_mib", "status", "directory",
)  # fmt: skip
_POINT_COLUMNS = ("task", "arm", "seed", "tag", "env_steps", "seconds", "value")


def write_data(results: Results, directory: Path) -> None:
    """Write both files."""
    every = [out.run for arm in results.arms for out in arm.left_out] + results.runs
    packages = sorted({name for run in every for name in run.record.versions})
    columns = [*_RESULT_COLUMNS, *(f"version_{name}" for name in packages)]
    _write(directory / RESULTS, columns, _result_rows(results, packages))
    _write(directory / POINTS, _POINT_COLUMNS, _point_rows(results.runs))


def _result_rows(results: Results, packages: Iterable[str]) -> Iterator[list[Any]]:
    metric, names = results.plan.metric, list(packages)
    for arm in results.arms:
        reasons = {run: "" for run in arm.runs} | dict(arm.left_out)
        for run, reason in reasons.items():
            record = run.record
            yield [
                run.task, run.arm, record.seed, str(not reason).lower(), reason, metric,
                score_of(run, metric), record.last, record.best, record.solved_at,
                first_solved(run, "env_steps"), first_solved(run, "seconds"),
                area(run) if len(run.evaluations.values) else None, record.budget,
                record.env_steps, record.training_seconds, record.steps_per_second,
                record.parameters, record.peak_memory_mib, record.status, record.directory,
                *(record.versions.get(name) for name in names),
            ]  # fmt: skip


def _point_rows(runs: Iterable[LabelledRun]) -> Iterator[tuple[Any, ...]]:
    for run in runs:
        for tag, curve in {EVALUATIONS: run.evaluations, **run.telemetry}.items():
            columns = (curve.env_steps.tolist(), curve.seconds.tolist(), curve.values.tolist())
            for point in zip(*columns, strict=True):
                yield (run.task, run.arm, run.record.seed, tag, *point)


def _write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
