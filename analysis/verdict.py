"""Which arm is best, by how much, and how sure that is, in words.

Arms are compared on each task; p-values are corrected by Holm's method for the number of
comparisons. Where some runs of an arm solve the task and others fail, success rates are compared
instead of scores, whose intervals would be far too narrow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from analysis.aggregates import Aggregates, aggregated
from analysis.comparison import ArmResult, Results
from analysis.statistics import (
    Interval,
    difference_interval,
    fisher_p_value,
    holm,
    pooled_deviation,
    seeds_needed,
    success_difference_interval,
    welch_p_value,
)
from analysis.wording import bounds, listed, number, plural

LEVEL = 0.95
MOST_SEEDS = 1000
"""More seeds per arm than anyone runs."""
_LEAST_RUNS = 2
_MOST_ARMS = 12
"""With more, every arm is compared with the best one only."""
_MOST_SCORES = 20
_EXACT = 40
"""Larger numbers of seeds are rounded: they are estimates from few runs."""


@dataclass(frozen=True)
class Contrast:
    """Two arms on one task; the first has the higher score or success rate.

    Attributes:
        by: what is compared.
        values: mean scores or success rates.
        interval: of the difference, not corrected for the number of comparisons.
        p_value: corrected by Holm's method.
        seeds: runs per arm that would probably separate them; None for more than `MOST_SEEDS`.
    """

    task: str
    first: ArmResult
    second: ArmResult
    by: Literal["score", "success rate"]
    values: tuple[float, float]
    interval: Interval
    p_value: float
    seeds: int | None

    @property
    def is_separable(self) -> bool:
        """Whether the difference is significant after correction."""
        return self.p_value < 1 - LEVEL

    @property
    def difference(self) -> float:
        """First minus second."""
        return self.values[0] - self.values[1]


@dataclass(frozen=True)
class Verdict:
    """The answer: a sentence for each task or for all, comparisons, and what limits them."""

    summary: tuple[str, ...]
    comparisons: tuple[str, ...]
    limits: tuple[str, ...]
    across: Aggregates | None


def judge(results: Results) -> Verdict:
    """Compare the arms and say what follows."""
    across = aggregated(results)
    if across is not None:
        sentences = tuple(map(str, across.improvements))
        return Verdict((across.summary(),), sentences, tuple(across.limits()), across)
    pairs = contrasts(results, results.plan.baseline)
    every = pairs if results.plan.baseline is None else contrasts(results, None)
    summary = [_summary(results, task, every) for task in results.tasks]
    pairs.sort(key=lambda pair: (results.tasks.index(pair.task), -pair.first.mean))
    told = [sentence(pair) for pair in pairs]
    return Verdict(tuple(summary), tuple(told), tuple(_limits(results, pairs)), None)


def contrasts(results: Results, baseline: str | None) -> list[Contrast]:
    """Compare every arm with the baseline, or all pairs, on each task; correct by Holm."""
    pairs = [pair for task in results.tasks for pair in _pairs(results, task, baseline)]
    corrected = holm([_p_value(*pair) for pair in pairs])
    level = 1 - (1 - LEVEL) / max(1, len(pairs))
    return [
        _contrast(first, second, p_value, level)
        for (first, second), p_value in zip(pairs, corrected, strict=True)
    ]


def sentence(pair: Contrast) -> str:
    """Say how two arms compare, with their numbers."""
    first, second = pair.first, pair.second
    if not pair.is_separable:
        return _not_separable(pair)
    if pair.by == "success rate":
        return (
            f"{first.arm} solves {first.task} more often than {second.arm}: {_solved(first)} runs "
            f"against {_solved(second)}, difference {_points(pair)} (95%)"
        )
    low, high = _values(pair)
    return (
        f"{first.arm} is better than {second.arm} on {first.task}: {low} against {high}, "
        f"difference {_gap(pair)} (95%), {_runs(first, second)}"
    )


def _not_separable(pair: Contrast) -> str:
    first, second = pair.first, pair.second
    if pair.by == "success rate":
        told = f"{_solved(first)} and {_solved(second)} runs solve it, difference {_points(pair)}"
    else:
        told = f"difference {_gap(pair)}, {_runs(first, second)}"
    more = _more_seeds(pair)
    return f"not separable on {first.task}: {first.arm} and {second.arm} ({told}); {more}"


def _more_seeds(pair: Contrast) -> str:
    """Say how many further runs per arm would separate two arms, if they differ as they seem to."""
    if pair.seeds is None:
        return f"no number of seeds up to {MOST_SEEDS:,} would tell, if they differ by so little"
    more = max(1, pair.seeds - min(pair.first.n, pair.second.n))
    if more > _EXACT:
        more = round(more, -1 if more < 10 * _EXACT else -2)
    return f"about {plural(more, 'more seed')} per arm would tell"


def _summary(results: Results, task: str, pairs: Sequence[Contrast]) -> str:
    """Name the best arm of a task, or those among which it is."""
    able = [result for result in results.ranked(task) if result.n >= _LEAST_RUNS]
    if len(able) < 2:
        return _too_few(results, task)
    best = _best(able)
    against = {
        (pair.second if pair.first is best else pair.first).arm: pair
        for pair in pairs
        if best in (pair.first, pair.second)
    }
    rivals = [
        f"{arm} ({_more_seeds(pair)})" for arm, pair in against.items() if not pair.is_separable
    ]
    beaten = [arm for arm, pair in against.items() if pair.is_separable]
    score = _score(best)
    if not rivals:
        return f"{best.arm} is best on {task}: {score}; better than {listed(beaten)}"
    than = f"; {best.arm} is better than {listed(beaten)}" if beaten else ""
    return (
        f"No single best arm on {task}: {best.arm} ({score}) is not separable from "
        f"{listed(rivals)}{than}"
    )


def _too_few(results: Results, task: str) -> str:
    arms = results.of_task(task)
    if len(arms) == 1 and arms[0].n:
        return f"{arms[0].arm} on {task}: {_score(arms[0])}"
    return f"Too few runs on {task} to compare: arms need at least {_LEAST_RUNS} finished seeds"


def _limits(results: Results, pairs: Sequence[Contrast]) -> Iterator[str]:
    """State what the comparisons leave out, and how they are corrected."""
    if len(pairs) > 1:
        yield f"p-values are corrected for {len(pairs)} comparisons (Holm); intervals are not"
    yield from (_bimodal(result) for result in results.arms if result.is_bimodal)
    for result in results.arms:
        if result.n < _LEAST_RUNS:
            yield f"{result.arm} on {result.task} is not compared: {plural(result.n, 'run')}"
    if len(results.tasks) > 1:
        yield f"nothing is averaged over {len(results.tasks)} tasks: that needs at least 8"


def _bimodal(result: ArmResult) -> str:
    """Say why success rates are compared, with every score of an arm."""
    scores = [number(score) for score in sorted(result.scores)]
    if len(scores) > _MOST_SCORES:
        scores = [*scores[:_MOST_SCORES], f"{len(scores) - _MOST_SCORES} more"]
    return (
        f"{result.arm} on {result.task}: {_solved(result)} runs solve it, so success rates are "
        f"compared; scores: {listed(scores)}"
    )


def _pairs(
    results: Results, task: str, baseline: str | None
) -> Iterator[tuple[ArmResult, ArmResult]]:
    able = [result for result in results.of_task(task) if result.n >= _LEAST_RUNS]
    if baseline is None and len(able) > _MOST_ARMS:
        baseline = _best(able).arm
    for first, second in combinations(able, 2):
        if baseline is None or baseline in (first.arm, second.arm):
            yield (first, second) if _is_ahead(first, second) else (second, first)


def _best(arms: Sequence[ArmResult]) -> ArmResult:
    return max(arms, key=lambda result: (_success(result), result.mean))


def _is_ahead(first: ArmResult, second: ArmResult) -> bool:
    if _by_success(first, second) and _success(first) != _success(second):
        return _success(first) > _success(second)
    return first.mean >= second.mean


def _by_success(first: ArmResult, second: ArmResult) -> bool:
    known = first.solved_at is not None and first.solved_at == second.solved_at
    return known and (first.is_bimodal or second.is_bimodal)


def _success(result: ArmResult) -> float:
    return 0.0 if result.num_solved is None else result.num_solved / result.n


def _p_value(first: ArmResult, second: ArmResult) -> float:
    if _by_success(first, second):
        return fisher_p_value(first.num_solved or 0, first.n, second.num_solved or 0, second.n)
    return welch_p_value(first.scores, second.scores)


def _contrast(first: ArmResult, second: ArmResult, p_value: float, level: float) -> Contrast:
    if _by_success(first, second):
        counts = (first.num_solved or 0, first.n, second.num_solved or 0, second.n)
        values, interval = (_success(first), _success(second)), success_difference_interval(*counts)
        pooled = (counts[0] + counts[2]) / (first.n + second.n)
        deviation = math.sqrt(pooled * (1 - pooled))
    else:
        values, interval = (
            (first.mean, second.mean),
            difference_interval(first.scores, second.scores),
        )
        deviation = pooled_deviation(first.scores, second.scores)
    by: Literal["score", "success rate"] = "success rate" if _by_success(first, second) else "score"
    seeds = _seeds(values[0] - values[1], deviation, level)
    return Contrast(first.task, first, second, by, values, interval, p_value, seeds)


def _seeds(difference: float, deviation: float, level: float) -> int | None:
    """Runs per arm that show a difference with a power of 80%; None for too many."""
    if abs(difference) <= deviation / 25:  # over MOST_SEEDS at any level
        return None
    needed = seeds_needed(difference, deviation, level)
    return needed if needed <= MOST_SEEDS else None


def _values(pair: Contrast) -> tuple[str, str]:
    half = (pair.interval.high - pair.interval.low) / 2
    return number(pair.values[0], half), number(pair.values[1], half)


def _gap(pair: Contrast) -> str:
    half = (pair.interval.high - pair.interval.low) / 2
    return f"{number(pair.difference, half)} {bounds(*pair.interval)}"


def _points(pair: Contrast) -> str:
    low, high = (100 * bound for bound in pair.interval)
    return f"{100 * pair.difference:.0f} points [{low:.0f}, {high:.0f}]"


def _runs(first: ArmResult, second: ArmResult) -> str:
    if first.n == second.n:
        return f"{plural(first.n, 'run')} each"
    return f"{first.n} and {plural(second.n, 'run')}"


def _solved(result: ArmResult) -> str:
    return f"{result.num_solved} of {result.n}"


def _score(result: ArmResult) -> str:
    """Write an arm's score and its runs; if only some solve the task, how many do."""
    if result.is_bimodal:
        return f"{_solved(result)} runs solve it"
    low, high = result.interval
    known = f"{number(result.mean, (high - low) / 2)} {bounds(low, high)}".rstrip()
    return f"{known}, {plural(result.n, 'run')}"
