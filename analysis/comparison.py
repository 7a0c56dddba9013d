"""Results of runs by task and arm. Runs are the sample, never evaluation episodes."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal

import numpy as np

from analysis.curves import read_curves
from analysis.runs import EVALUATIONS, Axis, Curve, RunRecord
from analysis.statistics import Interval, mean_interval, wilson_interval
from conf.schema.study import Metric

_PARTS = {
    "dormant_units": "Dormant units", "effective_rank": "Effective rank",
    "feature_norm": "Norm of features", "state_norm": "Norm of the memory's state",
    "cell_norm": "Norm of the memory's cell state",
    "state_saturation": "Saturated share of the memory's state",
}  # fmt: skip
TELEMETRY = {"loss/reconstruction": "Reconstruction error"} | {
    f"representation/{part}/{name}": f"{title} of the {part}"
    for part in ("actor", "critic")
    for name, title in _PARTS.items()
}
"""Other curves of a report, by tag."""
_MOST_POINTS = 200
"""Points kept of each of them."""
Status = Literal["finished", "all"]
Place = tuple[str, str]
"""A task and an arm."""
Reasoned = tuple[RunRecord, str]
"""A run, and why it does not count; nothing if it does."""


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
    status: Status = "finished"
    baseline: str | None = None
    protocol: str = ""
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seeds: Mapping[Place, Sequence[int]] = field(default_factory=dict)
    commands: Mapping[Place, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class ArmResult:
    """The runs of one arm on one task that count, and what they say of it.

    Attributes:
        left_out: runs that do not count, with the reason.
        scores: `[n]`, in the order of seeds.
        mean: of the scores; nan without runs.
        solved_at: the score that counts as solved; None if unknown, or if it differs between runs.
        num_solved: runs whose score counts as solved; None if that is unknown.
        success_rate: share of the runs whose score counts as solved; 0 if that is unknown.
        is_bimodal: whether some runs solve the task and others fail, with a gap between them.
        measured: runs with evaluations in their event files.
        area: mean over runs of a learning curve's mean height up to the budget.
    """

    def __init__(self, place: Place, members: Sequence[RunRecord], plan: Plan) -> None:
        """Decide which runs count, and measure the arm by them."""
        self.task, self.arm = place
        self.runs, self.left_out = _counted(members, plan)
        self.n = len(self.runs)
        self.scores = np.array([run.score(plan.metric) for run in self.runs], np.float64)
        self.mean = float(self.scores.mean()) if self.n else math.nan
        self.interval = mean_interval(self.scores)
        known = {run.solved_at for run in self.runs}
        self.solved_at = at = known.pop() if len(known) == 1 else None
        self.num_solved = None if at is None else int((self.scores >= at).sum())
        self.success_rate = (self.num_solved or 0) / max(1, self.n)
        self.success_interval = Interval(math.nan, math.nan)
        if self.num_solved is not None:
            self.success_interval = wilson_interval(self.num_solved, self.n)
        self.is_bimodal = at is not None and _is_split(self.scores, at)
        self.measured = [run for run in self.runs if len(run.evaluations.values)]
        self.area = _mean(run.area for run in self.runs)

    def times(self, axis: Axis) -> list[float]:
        """When each measured run first evaluated as solved; infinite if it never did."""
        times = [run.solved_after(axis) for run in self.measured if self.solved_at is not None]
        return [time for time in times if time is not None]

    def median_time(self, axis: Axis) -> float:
        """Median over runs; infinite if half of them or more never solved the task."""
        times = self.times(axis)
        return float(np.median(times)) if times else math.nan

    def cost(self, name: str) -> float:
        """Mean over runs of a number in their records, where they have it."""
        return _mean(getattr(run, name) for run in self.runs)

    @property
    def solved(self) -> str:
        """Count the runs that solve the task, in words."""
        return f"{self.num_solved} of {self.n}"

    @property
    def every_run(self) -> list[Reasoned]:
        """Every run with the reason why it does not count; those that do first, without one."""
        return [*((run, "") for run in self.runs), *self.left_out]

    @property
    def statuses(self) -> str:
        """Count the runs by their status, with those that do not count."""
        counts = Counter(run.status for run, _ in self.every_run)
        return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


class Results:
    """Every arm of every task, in the plan's order.

    Attributes:
        tasks: names of the tasks.
        names: names of the arms.
        runs: every run that counts.
    """

    def __init__(self, plan: Plan, arms: Sequence[ArmResult]) -> None:
        """Put arms together."""
        self.plan, self.arms = plan, arms
        self.tasks = list(dict.fromkeys(arm.task for arm in arms))
        self.names = list(dict.fromkeys(arm.arm for arm in arms))
        self.runs = [run for arm in arms for run in arm.runs]

    def of_task(self, task: str) -> list[ArmResult]:
        """Return the arms of a task, in the plan's order."""
        return [result for result in self.arms if result.task == task]

    def ranked(self, task: str) -> list[ArmResult]:
        """Return the arms of a task, best first; those without a score last."""
        return sorted(self.of_task(task), key=lambda arm: (arm.n == 0, -arm.mean if arm.n else 0))


def with_curves(record: RunRecord) -> RunRecord:
    """Read the curves that a report shows of a run."""
    found, notes = read_curves(record, (EVALUATIONS, *TELEMETRY))
    shown = {tag: thinned(found[tag], _MOST_POINTS) for tag in TELEMETRY if tag in found}
    evaluations = {tag: curve for tag, curve in found.items() if tag == EVALUATIONS}
    return replace(record, curves=evaluations | shown, notes=tuple(notes))


def thinned(curve: Curve, most: int) -> Curve:
    """Keep at most so many points of a curve, the last one among them."""
    step = max(1, -(-len(curve.values) // most))
    return Curve(*(column[(len(column) - 1) % step :: step] for column in curve))


def compare(runs: Iterable[RunRecord], plan: Plan) -> Results:
    """Decide which runs count, and put them together by task and arm.

    Planned arms without any run are results without scores.
    """
    groups: dict[Place, list[RunRecord]] = defaultdict(list, {place: [] for place in plan.seeds})
    for run in runs:
        groups[run.task, run.arm].append(run)
    return Results(plan, [ArmResult(place, members, plan) for place, members in groups.items()])


def _counted(members: Sequence[RunRecord], plan: Plan) -> tuple[list[RunRecord], list[Reasoned]]:
    """Decide which runs of an arm count, in the order of seeds; a repeated run is no sample.

    Of the runs of a seed the furthest counts, and of these the latest.
    """
    reasons = {run: _reason(run, plan) for run in members}
    able = [run for run in members if not reasons[run]]
    able.sort(key=lambda run: (run.status == "finished", run.env_steps, run.directory.name))
    kept = {run.seed: run for run in able}
    for run in able:
        if run is not (twin := kept[run.seed]):
            reasons[run] = f"run more than once; {twin.directory} counts"
    left_out = [(run, reason) for run, reason in reasons.items() if reason]
    return [kept[seed] for seed in sorted(kept)], left_out


def _reason(run: RunRecord, plan: Plan) -> str:
    """Say why a run does not count; nothing if it may."""
    if run.status != "finished" and plan.status == "finished":
        return run.problem or run.status
    if run.score(plan.metric) is None:
        best = "; metric=best compares it" if run.best is not None else ""
        why = f"{run.problem}: " if run.problem else ""
        return f"{why}no score by metric={plan.metric}{best}"
    return ""


def _is_split(scores: np.ndarray, at: float) -> bool:
    """Whether some scores reach a threshold and some do not, with a gap over half of their range.

    Scores that scatter around the threshold are not bimodal.
    """
    solved, failed = scores[scores >= at], scores[scores < at]
    if not (solved.size and failed.size):
        return False
    gap = solved.min() - failed.max()
    return bool(2 * gap > np.ptp(scores))


def _mean(values: Iterable[float | None]) -> float:
    """Return the mean of the values that are known; nan without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else math.nan
