"""Arms compared over many tasks at once, on normalized scores (Agarwal et al., 2021).

Below `LEAST_TASKS` tasks nothing is averaged over them: the intervals would be too narrow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis.caveats import bootstrap_caveat
from analysis.comparison import Results
from analysis.statistics import (
    FloatArray,
    Interval,
    holm,
    improvement_interval,
    interquartile_mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    profile_band,
    stratified_bootstrap,
)
from analysis.wording import known, listed, percent, plural

LEAST_TASKS = 8
_SIGNIFICANCE = 0.05
_THRESHOLDS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class ArmAggregate:
    """An arm over all tasks.

    Attributes:
        scores: normalized, an array of runs for each task.
        profile: share of runs above each of `thresholds`, with its interval.
    """

    arm: str
    scores: tuple[FloatArray, ...]
    iqm: float
    iqm_interval: Interval
    gap: float
    gap_interval: Interval
    thresholds: FloatArray
    profile: FloatArray
    profile_band: tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Improvement:
    """How probably a run of one arm beats a run of another, averaged over tasks.

    Attributes:
        p_value: that both are equal, by the normal limit of Mann and Whitney's statistic;
            corrected by Holm's method.
    """

    first: ArmAggregate
    second: ArmAggregate
    probability: float
    p_value: float

    @property
    def is_separable(self) -> bool:
        """Whether the probability differs from one half after correction."""
        return self.p_value < _SIGNIFICANCE

    def __str__(self) -> str:
        """Say how the pair compares."""
        first, second = self.first.arm, self.second.arm
        low, high = map(percent, improvement_interval(self.first.scores, self.second.scores))
        told = (
            f"a run of {first} beats one of {second} with a probability of "
            f"{percent(self.probability)} [{low}, {high}]"
        )
        if self.is_separable:
            return f"{first} is better than {second}: {told}"
        return f"not separable: {first} and {second} ({told})"


@dataclass(frozen=True)
class Aggregates:
    """Every arm with runs on all tasks, best first.

    Attributes:
        pairs: every pair of arms.
        improvements: the pairs that were asked for; corrected for their own number.
    """

    arms: tuple[ArmAggregate, ...]
    pairs: tuple[Improvement, ...]
    improvements: tuple[Improvement, ...]
    num_tasks: int
    scale: str
    incomplete: tuple[str, ...]

    def summary(self) -> str:
        """Name the best arm, or say that there is no single one."""
        if not self.arms:
            return f"No arm has runs on all {self.num_tasks} tasks"
        best = self.arms[0]
        score = f"interquartile mean {' '.join(known(best.iqm, best.iqm_interval))}"
        rivals = [
            pair.second.arm for pair in self.pairs if pair.first is best and not pair.is_separable
        ]
        where = f"over {self.num_tasks} tasks"
        if not rivals:
            return f"{best.arm} is best {where}: {score}"
        return f"No single best arm {where}: {best.arm} ({score}) is not separable from " + listed(
            rivals
        )

    def limits(self) -> Iterator[str]:
        """Say how scores are normalized, and what is left out."""
        yield f"scores are normalized by {self.scale}"
        caveats = dict.fromkeys(bootstrap_caveat(arm.scores) for arm in self.arms)
        yield from (caveat for caveat in caveats if caveat is not None)
        if len(self.improvements) > 1:
            yield f"p-values are corrected for {len(self.improvements)} comparisons (Holm)"
        yield from self.incomplete


def aggregated(results: Results) -> Aggregates | None:
    """Compare the arms over all tasks; None if the tasks are too few."""
    if len(results.tasks) < LEAST_TASKS:
        return None
    scores, scale = _normalized(results)
    arms = [_arm(name, tasks) for name, tasks in scores.items()]
    arms.sort(key=lambda arm: -arm.iqm)
    missing = [name for name in results.names if name not in scores]
    incomplete = [f"{name} has no runs on some tasks, and is left out" for name in missing]
    return Aggregates(
        arms=tuple(arms),
        pairs=tuple(_improvements(arms, None)),
        improvements=tuple(_improvements(arms, results.plan.baseline)),
        num_tasks=len(results.tasks),
        scale=scale,
        incomplete=tuple(incomplete),
    )


def _normalized(results: Results) -> tuple[dict[str, tuple[FloatArray, ...]], str]:
    """Scale each task's scores, and say by what: the plan's bounds, else the arms' means."""
    by_arm: dict[str, list[FloatArray]] = {}
    known = results.plan.bounds
    for task in results.tasks:
        arms = [arm for arm in results.of_task(task) if arm.n]
        means = [arm.mean for arm in arms] or [math.nan]
        low, high = known.get(task, (min(means), max(means)))
        for arm in arms:
            scaled = (arm.scores - low) / (high - low) if high > low else np.ones(arm.n)
            by_arm.setdefault(arm.arm, []).append(scaled)
    complete = {
        name: tuple(tasks) for name, tasks in by_arm.items() if len(tasks) == len(results.tasks)
    }
    by_means = [task for task in results.tasks if task not in known]
    if not by_means:
        return complete, "the bounds of each task"
    where = f" on {plural(len(by_means), 'task')}" if known else ""
    return complete, f"the lowest and the highest mean of any arm on a task{where}"


def _arm(name: str, scores: tuple[FloatArray, ...]) -> ArmAggregate:
    return ArmAggregate(
        arm=name,
        scores=scores,
        iqm=interquartile_mean(scores),
        iqm_interval=stratified_bootstrap(scores, interquartile_mean),
        gap=optimality_gap(scores),
        gap_interval=stratified_bootstrap(scores, optimality_gap),
        thresholds=_THRESHOLDS,
        profile=performance_profile(scores, _THRESHOLDS),
        profile_band=profile_band(scores, _THRESHOLDS),
    )


def _improvements(arms: Sequence[ArmAggregate], baseline: str | None) -> list[Improvement]:
    """Compare pairs, the arm with the higher interquartile mean first."""
    pairs = [
        (first, second)
        for first, second in combinations(arms, 2)
        if baseline is None or baseline in (first.arm, second.arm)
    ]
    found = [probability_of_improvement(a.scores, b.scores) for a, b in pairs]
    corrected = holm([_p_value(*pair, p) for pair, p in zip(pairs, found, strict=True)])
    return [
        Improvement(a, b, probability, p_value)
        for (a, b), probability, p_value in zip(pairs, found, corrected, strict=True)
    ]


def _p_value(first: ArmAggregate, second: ArmAggregate, probability: float) -> float:
    r"""Two-sided p-value that the averaged probability of improvement is one half.

    Under equality Mann and Whitney's U / nm has the variance (n + m + 1) / 12nm on each task
    (larger than with ties, so ties make it cautious); the mean over T tasks is nearly normal.
    """
    variances = [
        (a.size + b.size + 1) / (12 * a.size * b.size)
        for a, b in zip(first.scores, second.scores, strict=True)
    ]
    deviation = math.sqrt(sum(variances)) / len(variances)
    return math.erfc(abs(probability - 0.5) / deviation / math.sqrt(2))
