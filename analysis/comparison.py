"""Results of runs by task and arm. Runs are the sample, never evaluation episodes."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np

from analysis.curves import EVALUATIONS, Curve, read_curves
from analysis.runs import RunRecord
from analysis.statistics import (
    FloatArray,
    Interval,
    area_under_curve,
    is_bimodal,
    mean_interval,
    median_time,
    time_to_threshold,
    wilson_interval,
)
from conf.schema.study import Metric

TELEMETRY = {
    "loss/reconstruction": "Reconstruction error",
    **{
        f"representation/{part}/{name}": f"{title} of the {part}"
        for part in ("actor", "critic")
        for name, title in (
            ("dormant_units", "Dormant units"),
            ("effective_rank", "Effective rank"),
            ("feature_norm", "Norm of features"),
            ("state_norm", "Norm of the memory's state"),
            ("cell_norm", "Norm of the memory's cell state"),
            ("state_saturation", "Saturated share of the memory's state"),
        )
    },
}
"""Other curves of a report, by tag."""
_MOST_POINTS = 200
"""Points kept of each of them."""
_AVERAGED = 5
"""Evaluations in the score `mean`."""
Axis = Literal["env_steps", "seconds"]
Place = tuple[str, str]
"""A task and an arm."""
NO_CURVE = Curve(np.empty(0), np.empty(0), np.empty(0))


@dataclass(frozen=True, eq=False)
class LabelledRun:
    """A run and the arm that it belongs to.

    Attributes:
        evaluations: mean return of each evaluation, `evaluation/return`; empty if not read.
        telemetry: other curves of the report by tag.
        notes: what was wrong with its event files.
    """

    task: str
    arm: str
    record: RunRecord
    evaluations: Curve = NO_CURVE
    telemetry: Mapping[str, Curve] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def score(self, metric: Metric) -> float | None:
        """Return the number by which the run is compared; None before there is one."""
        if metric != "mean":
            return self.record.last if metric == "last" else self.record.best
        values = self.evaluations.values[-_AVERAGED:]
        return float(values.mean()) if len(values) and np.isfinite(values).all() else None

    def solved_after(self, axis: Axis) -> float | None:
        """When an evaluation first reached `solved_at`; infinite if none did, None if unknown."""
        at, evaluations = self.record.solved_at, self.evaluations
        if at is None or not len(evaluations.values):
            return None
        return time_to_threshold(getattr(evaluations, axis), evaluations.values, at)

    @property
    def area(self) -> float | None:
        """Mean height of the evaluations over the budget; None without any."""
        steps, _, values = self.evaluations
        return area_under_curve(steps, values, float(self.record.budget)) if len(values) else None


@dataclass(frozen=True)
class Plan:
    """What is compared and how; without a study only metric and status are known.

    Attributes:
        baseline: the arm that the others are compared with; None: every pair.
        protocol: what tuning the arms got: fixed or tuned.
        words: the command-line words in which an arm differs from the others.
        seeds: those that were planned.
        commands: the command line that makes an arm's runs.
        skipped: a line for each directory that could not be read.
        remarks: further sentences for the report, such as what tuning changed.
    """

    name: str = "runs"
    question: str = ""
    metric: Metric = "last"
    status: Literal["finished", "all"] = "finished"
    baseline: str | None = None
    protocol: str = ""
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seeds: Mapping[Place, Sequence[int]] = field(default_factory=dict)
    commands: Mapping[Place, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class LeftOut(NamedTuple):
    """A run and why it does not count."""

    run: LabelledRun
    reason: str


@dataclass(frozen=True, eq=False)
class ArmResult:
    """The runs of one arm on one task that count, and their scores `[n]`, in the order of seeds."""

    task: str
    arm: str
    runs: tuple[LabelledRun, ...]
    scores: FloatArray
    left_out: tuple[LeftOut, ...]

    @property
    def n(self) -> int:
        """Number of runs that count."""
        return len(self.runs)

    @cached_property
    def mean(self) -> float:
        """Mean score; nan without runs."""
        return float(self.scores.mean()) if self.n else math.nan

    @cached_property
    def interval(self) -> Interval:
        """Student's t interval of the mean score."""
        return mean_interval(self.scores)

    @cached_property
    def solved_at(self) -> float | None:
        """The score that counts as solved; None if it is unknown, or differs between runs."""
        known = {run.record.solved_at for run in self.runs}
        return known.pop() if len(known) == 1 else None

    @cached_property
    def num_solved(self) -> int | None:
        """Number of runs whose score counts as solved."""
        at = self.solved_at
        return None if at is None else int((self.scores >= at).sum())

    @property
    def success_rate(self) -> float:
        """Share of the runs whose score counts as solved; 0 if that is unknown."""
        return (self.num_solved or 0) / self.n

    @cached_property
    def success_interval(self) -> Interval:
        """Wilson's interval of the success rate."""
        solved = self.num_solved
        return Interval(math.nan, math.nan) if solved is None else wilson_interval(solved, self.n)

    @cached_property
    def is_bimodal(self) -> bool:
        """Whether some runs solve the task and others fail, with a gap between them.

        The gap takes over half of the scores' range: scores that scatter around the threshold are
        not bimodal.
        """
        at, scores = self.solved_at, self.scores
        if at is None or not is_bimodal(scores, at):
            return False
        gap = scores[scores >= at].min() - scores[scores < at].max()
        return bool(2 * gap > np.ptp(scores))

    @cached_property
    def measured(self) -> tuple[LabelledRun, ...]:
        """Runs with evaluations in their event files."""
        return tuple(run for run in self.runs if len(run.evaluations.values))

    def times(self, axis: Axis) -> list[float]:
        """When each measured run first evaluated as solved; infinite if it never did."""
        times = [run.solved_after(axis) for run in self.measured if self.solved_at is not None]
        return [time for time in times if time is not None]

    def median_time(self, axis: Axis) -> float:
        """Median over runs; infinite if half of them or more never solved the task."""
        times = self.times(axis)
        return median_time(times) if times else math.nan

    @cached_property
    def area(self) -> float:
        """Mean over runs of a learning curve's mean height up to the budget."""
        return _mean(run.area for run in self.runs)

    def cost(self, name: str) -> float:
        """Mean over runs of a number in their records, where they have it."""
        return _mean(getattr(run.record, name) for run in self.runs)

    @property
    def every_run(self) -> list[LeftOut]:
        """Every run with the reason why it does not count; those that do first, without one."""
        return [*(LeftOut(run, "") for run in self.runs), *self.left_out]

    @property
    def statuses(self) -> str:
        """Count the runs by their status, with those that do not count."""
        counts = Counter(run.record.status for run, _ in self.every_run)
        return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


@dataclass(frozen=True)
class Results:
    """Every arm of every task, in the plan's order."""

    plan: Plan
    arms: tuple[ArmResult, ...]

    @cached_property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return list(dict.fromkeys(result.task for result in self.arms))

    @cached_property
    def names(self) -> list[str]:
        """Names of the arms."""
        return list(dict.fromkeys(result.arm for result in self.arms))

    @cached_property
    def runs(self) -> list[LabelledRun]:
        """Every run that counts."""
        return [run for result in self.arms for run in result.runs]

    @property
    def every_run(self) -> Iterator[LeftOut]:
        """Every run of every arm with the reason why it does not count."""
        return (each for result in self.arms for each in result.every_run)

    def of_task(self, task: str) -> list[ArmResult]:
        """Return the arms of a task, in the plan's order."""
        return [result for result in self.arms if result.task == task]

    def ranked(self, task: str) -> list[ArmResult]:
        """Return the arms of a task, best first; those without a score last."""
        return sorted(self.of_task(task), key=lambda arm: (arm.n == 0, -arm.mean if arm.n else 0))


def labelled_run(task: str, arm: str, record: RunRecord) -> LabelledRun:
    """Read the curves that a report shows of a run."""
    curves, notes = read_curves(record, (EVALUATIONS, *TELEMETRY))
    evaluations = curves.pop(EVALUATIONS, NO_CURVE)
    telemetry = {tag: thinned(curve, _MOST_POINTS) for tag, curve in curves.items()}
    return LabelledRun(task, arm, record, evaluations, telemetry, tuple(notes))


def thinned(curve: Curve, most: int) -> Curve:
    """Keep at most so many points of a curve, the last one among them."""
    step = -(-len(curve.values) // most)
    kept = slice((len(curve.values) - 1) % step, None, step) if step > 1 else slice(None)
    return Curve(*(column[kept] for column in curve))


def compare(runs: Iterable[LabelledRun], plan: Plan) -> Results:
    """Decide which runs count, and put them together by task and arm.

    Planned arms without any run are results without scores.
    """
    groups: dict[Place, list[LabelledRun]] = defaultdict(list, {place: [] for place in plan.seeds})
    for run in runs:
        groups[run.task, run.arm].append(run)
    return Results(plan, tuple(_result(place, members, plan) for place, members in groups.items()))


def _result(place: Place, members: Sequence[LabelledRun], plan: Plan) -> ArmResult:
    """Decide which runs of an arm count; a repeated run is no second sample."""
    reasons = {run: _reason(run, plan) for run in members}
    able = [run for run in members if not reasons[run]]
    kept = {run.record.seed: run for run in sorted(able, key=_rank)}
    for run in able:
        twin = kept[run.record.seed]
        if run is not twin:
            reasons[run] = f"run more than once; {twin.record.directory} counts"
    left_out = tuple(LeftOut(run, reason) for run, reason in reasons.items() if reason)
    counted = tuple(kept[seed] for seed in sorted(kept))
    scores = np.array([run.score(plan.metric) for run in counted], dtype=np.float64)
    return ArmResult(*place, counted, scores, left_out)


def _rank(run: LabelledRun) -> tuple[bool, float, str]:
    """Sort the runs of a seed: the furthest and latest counts."""
    record = run.record
    return record.status == "finished", record.env_steps, record.directory.name


def _reason(run: LabelledRun, plan: Plan) -> str:
    """Say why a run does not count; nothing if it may."""
    record = run.record
    if record.status != "finished" and plan.status == "finished":
        return record.problem or record.status
    if run.score(plan.metric) is None:
        best = "; metric=best compares it" if record.best is not None else ""
        why = f"{record.problem}: " if record.problem else ""
        return f"{why}no score by metric={plan.metric}{best}"
    return ""


def _mean(values: Iterable[float | None]) -> float:
    """Return the mean of the values that are known; nan without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else math.nan
