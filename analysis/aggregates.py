"""Arms compared over many tasks at once, on normalized scores (Agarwal et al., 2021).

Below `LEAST_TASKS` tasks nothing is averaged over them: the intervals would be too narrow.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from analysis.caveats import bootstrap_caveat
from analysis.comparison import Results
from analysis.statistics import (
    SIGNIFICANCE,
    FloatArray,
    holm,
    improvement_interval,
    interquartile_mean,
    optimality_gap,
    probability_of_improvement,
    stratified_bootstrap,
)
from analysis.wording import known, percent, some

LEAST_TASKS = 8


class ArmAggregate:
    """An arm over all tasks.

    Attributes:
        scores: normalized, an array of runs for each task.
        iqm: interquartile mean of all scores.
        gap: their optimality gap.
    """

    def __init__(self, arm: str, scores: Sequence[FloatArray]) -> None:
        """Aggregate the scores."""
        self.arm, self.scores = arm, scores
        self.iqm, self.gap = interquartile_mean(scores), optimality_gap(scores)
        self.iqm_interval = stratified_bootstrap(scores, interquartile_mean)
        self.gap_interval = stratified_bootstrap(scores, optimality_gap)


class Improvement(NamedTuple):
    """How probably a run of one arm beats a run of another, averaged over tasks.

    Attributes:
        first: the arm that beats the other more often.
        probability: at least one half.
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
        return self.p_value < SIGNIFICANCE

    def sentence(self) -> str:
        """Say how the pair compares."""
        first, second = self.first.arm, self.second.arm
        low, high = map(percent, improvement_interval(self.first.scores, self.second.scores))
        chance = f"{percent(self.probability)} [{low}, {high}]"
        told = f"a run of {first} beats one of {second} with a probability of {chance}"
        if self.is_separable:
            return f"{first} is better than {second}: {told}"
        return f"not separable: {first} and {second} ({told})"


class Aggregates:
    """Every arm with runs on all tasks, that with the highest interquartile mean first.

    Attributes:
        pairs: every pair of arms.
        improvements: the pairs that were asked for; corrected for their own number.
        incomplete: arms without runs on some tasks.
    """

    def __init__(self, results: Results, scores: Mapping[str, Sequence[FloatArray]]) -> None:
        """Compare arms by their normalized scores of each task."""
        arms = [ArmAggregate(name, tasks) for name, tasks in scores.items()]
        self.arms, self.num_tasks = sorted(arms, key=lambda arm: -arm.iqm), len(results.tasks)
        self.pairs = _improvements(self.arms, None)
        self.improvements = _improvements(self.arms, results.plan.baseline)
        self.incomplete = [name for name in results.names if name not in scores]

    def summary(self) -> str:
        """Name the best arm, or say that there is no single one."""
        best = self.arms[0]
        told = f"{best.arm} (interquartile mean {' '.join(known(best.iqm, best.iqm_interval))})"
        where = f"over {self.num_tasks} tasks"
        own = [pair for pair in self.pairs if best in pair]
        ahead = [pair.first.arm for pair in own if pair.is_separable and pair.first is not best]
        open_pairs = [{pair.first.arm, pair.second.arm} for pair in own if not pair.is_separable]
        level = [name for names in open_pairs for name in names - {best.arm}]
        if not level and not ahead:
            return f"{told} is best {where}"
        clauses = [f"is not separable from {some(level)}"] * bool(level)
        clauses += [f"more often loses to a run of {some(ahead)}"] * bool(ahead)
        return f"No single best arm {where}: {told} {' and '.join(clauses)}"

    def limits(self) -> Iterator[str]:
        """Say how scores are normalized, and what is left out."""
        yield "scores are normalized by the lowest and the highest mean of any arm on a task"
        caveats = dict.fromkeys(bootstrap_caveat(arm.scores) for arm in self.arms)
        yield from filter(None, caveats)
        yield from corrections(len(self.improvements), len(self.pairs))
        if self.incomplete:
            yield f"left out, without runs on some tasks: {some(self.incomplete)}"


def corrections(asked: int, every: int) -> Iterator[str]:
    """Say for how many comparisons p-values are corrected.

    Args:
        asked: comparisons with the baseline; of all pairs if there is none.
        every: comparisons of all pairs, by which the best arm is found.
    """
    if asked > 1:
        yield f"p-values are corrected for {asked} comparisons (Holm); intervals are not"
    if every > asked:
        told = f"p-values are corrected for all {every} pairs"
        than = "which is stricter than with the baseline alone"
        yield f"the best arm must be better than every other: for that, {told}, {than}"


def aggregated(results: Results) -> Aggregates | None:
    """Compare the arms over all tasks; None for too few tasks, or if only one arm has them all."""
    scores = _normalized(results)
    is_able = len(results.tasks) >= LEAST_TASKS and len(scores) > 1
    return Aggregates(results, scores) if is_able else None


def _normalized(results: Results) -> dict[str, list[FloatArray]]:
    """Scale each task's scores by the arms' means; without arms that lack a task."""
    by_arm = defaultdict[str, list[FloatArray]](list)
    for task in results.tasks:
        arms = [arm for arm in results.of_task(task) if arm.n]
        low, high = (end((arm.mean for arm in arms), default=math.nan) for end in (min, max))
        for arm in arms:
            scaled = (arm.scores - low) / (high - low) if high > low else np.ones(arm.n)
            by_arm[arm.arm].append(scaled)
    return {name: tasks for name, tasks in by_arm.items() if len(tasks) == len(results.tasks)}


def _improvements(arms: Sequence[ArmAggregate], baseline: str | None) -> list[Improvement]:
    """Compare pairs, the arm that beats the other more often first; correct by Holm."""
    pairs = []
    for one, other in combinations(arms, 2):
        if baseline in (None, one.arm, other.arm):
            chance = probability_of_improvement(one.scores, other.scores)
            pair, chance = ((one, other), chance) if chance >= 0.5 else ((other, one), 1 - chance)
            pairs.append(Improvement(*pair, chance, _p_value(*pair, chance)))
    corrected = holm([pair.p_value for pair in pairs])
    return [pair._replace(p_value=each) for pair, each in zip(pairs, corrected, strict=True)]


def _p_value(first: ArmAggregate, second: ArmAggregate, probability: float) -> float:
    r"""Two-sided p-value that the averaged probability of improvement is one half.

    Under equality Mann and Whitney's U / nm has the variance (n + m + 1) / 12nm on each task
    (larger than with ties, so ties make it cautious); the mean over T tasks is nearly normal.
    """
    sizes = [(len(a), len(b)) for a, b in zip(first.scores, second.scores, strict=True)]
    deviation = math.sqrt(sum((n + m + 1) / (12 * n * m) for n, m in sizes)) / len(sizes)
    return math.erfc(abs(probability - 0.5) / deviation / math.sqrt(2))
