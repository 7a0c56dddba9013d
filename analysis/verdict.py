"""Which arm is best, by how much, and how sure that is, in words.

Arms are compared on each task; p-values are corrected by Holm's method for the number of
comparisons. Where some runs of an arm solve the task and others fail, success rates are compared
instead of scores, whose intervals would be far too narrow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from analysis.aggregates import LEAST_TASKS, Aggregates, aggregated, corrections
from analysis.caveats import rate_caveat
from analysis.comparison import ArmResult, Results
from analysis.statistics import (
    SIGNIFICANCE,
    Interval,
    difference_interval,
    holm,
    pooled_deviation,
    probability_of_improvement,
    rank_p_value,
    seeds_needed,
    success_difference_interval,
    welch_p_value,
)
from analysis.wording import MOST_NAMES, bounds, known, number, plural, some

MOST_SEEDS = 1000
"""More seeds per arm than anyone runs."""
_LEAST_RUNS = 2
_MOST_SCORES = 20
"""In one sentence."""
_MOST_ARMS = 12
"""With more, every arm is compared with the best one only."""
_EXACT = 40
"""Larger numbers of seeds are rounded: they are estimates from few runs."""


@dataclass(frozen=True)
class Contrast:
    """Two arms on one task; the first is ahead.

    Attributes:
        by_success: whether success rates are compared, not scores.
        interval: of first minus second, not corrected for the number of comparisons.
        p_value: corrected by Holm's method.
        seeds: runs per arm that would probably separate them; None for more than `MOST_SEEDS`.
    """

    first: ArmResult
    second: ArmResult
    by_success: bool
    interval: Interval
    p_value: float
    seeds: int | None

    @property
    def is_separable(self) -> bool:
        """Whether the difference is significant after correction."""
        return self.p_value < SIGNIFICANCE


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
    told = [sentence(pair) for pair in pairs]
    return Verdict(tuple(summary), tuple(told), tuple(_limits(results, pairs, every)), None)


def contrasts(results: Results, baseline: str | None) -> list[Contrast]:
    """Compare every arm with the baseline, or all pairs, on each task; correct by Holm.

    Returns:
        The pairs of one task after the other, those of its better arms first.
    """
    pairs = [
        pair
        for task in results.tasks
        for pair in sorted(
            _pairs(results, task, baseline), key=lambda pair: [-a.mean for a in pair]
        )
    ]
    corrected = holm([_p_value(*pair) for pair in pairs])
    level = 1 - SIGNIFICANCE / max(1, len(pairs))
    return [
        _contrast(first, second, p_value, level)
        for (first, second), p_value in zip(pairs, corrected, strict=True)
    ]


def sentence(pair: Contrast) -> str:
    """Say how two arms compare, with their numbers."""
    first, second, task = pair.first.arm, pair.second.arm, pair.first.task
    values, difference, runs = _numbers(pair)
    if not pair.is_separable:
        told = f"{' and '.join(values)} runs solve it, " if pair.by_success else ""
        told = f"{told}difference {difference}{'' if pair.by_success else f', {runs}'}"
        return f"not separable on {task}: {first} and {second} ({told}); {_more_seeds(pair)}"
    solving = " runs solve it" if pair.by_success else ""
    against = f"{' against '.join(values)}{solving}, difference {difference} (95%), {runs}"
    return f"{first} is better than {second} on {task}: {against}"


def _numbers(pair: Contrast) -> tuple[list[str], str, str]:
    """Write what is compared, its difference with the interval, and the numbers of runs."""
    arms, (low, high) = (pair.first, pair.second), pair.interval
    first, second = (arm.n for arm in arms)
    runs = f"{plural(first, 'run')} each" if first == second else f"{first} and {second} runs"
    if pair.by_success:
        points = 100 * (_success(pair.first) - _success(pair.second))
        difference = f"{points:.0f} points [{100 * low:.0f}, {100 * high:.0f}]"
        return [_solved(arm) for arm in arms], difference, runs
    half = (high - low) / 2
    difference = f"{number(pair.first.mean - pair.second.mean, half)} {bounds(low, high)}"
    return [number(arm.mean, half) for arm in arms], difference, runs


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
    own = [pair for pair in pairs if pair.first.task == task]
    best = max(able, key=lambda arm: (sum(pair.first is arm for pair in own), arm.mean))
    beaten: list[str] = []
    rivals: dict[str, list[str]] = {}  # by what would tell them apart
    for pair in own:
        if pair.first is best and pair.is_separable:
            beaten.append(pair.second.arm)
        elif best in (pair.first, pair.second):
            rival = pair.second if pair.first is best else pair.first
            rivals.setdefault(_more_seeds(pair), []).append(rival.arm)
    if not rivals:
        return (
            f"{best.arm} is best on {task}: {_score(best)}; better than {some(beaten, MOST_NAMES)}"
        )
    than = f"; {best.arm} is better than {some(beaten, MOST_NAMES)}" if beaten else ""
    alike = [f"{some(arms, MOST_NAMES)} ({seeds})" for seeds, arms in rivals.items()]
    return (
        f"No single best arm on {task}: {best.arm} ({_score(best)}) is not separable from "
        f"{some(alike, MOST_NAMES)}{than}"
    )


def _too_few(results: Results, task: str) -> str:
    arms = results.of_task(task)
    if len(arms) == 1 and arms[0].n:
        return f"{arms[0].arm} on {task}: {_score(arms[0])}"
    return f"Too few runs on {task} to compare: arms need at least {_LEAST_RUNS} finished seeds"


def _limits(
    results: Results, pairs: Sequence[Contrast], every: Sequence[Contrast]
) -> Iterator[str]:
    """State what the comparisons leave out, and how they are corrected."""
    yield from corrections(len(pairs), len(every))
    yield from (_bimodal(result) for result in results.arms if result.is_bimodal)
    rates = [min(pair.first.n, pair.second.n) for pair in pairs if pair.by_success]
    caveat = rate_caveat(min(rates)) if rates else None
    if caveat is not None:
        yield caveat
    lonely = [f"{arm.arm} on {arm.task}" for arm in results.arms if arm.n < _LEAST_RUNS]
    if lonely:
        yield f"not compared, with fewer than {_LEAST_RUNS} runs: {some(lonely, MOST_NAMES)}"
    if len(results.tasks) > 1:
        why = (
            f"that needs at least {LEAST_TASKS}"
            if len(results.tasks) < LEAST_TASKS
            else "fewer than two arms have runs on all of them"
        )
        yield f"nothing is averaged over {len(results.tasks)} tasks: {why}"


def _bimodal(result: ArmResult) -> str:
    """Say why success rates are compared, with every score of an arm."""
    scores = some([number(score) for score in sorted(result.scores)], _MOST_SCORES)
    return (
        f"{result.arm} on {result.task}: {_solved(result)} runs solve it, so success rates are "
        f"compared; scores: {scores}"
    )


def _pairs(
    results: Results, task: str, baseline: str | None
) -> Iterator[tuple[ArmResult, ArmResult]]:
    able = [result for result in results.of_task(task) if result.n >= _LEAST_RUNS]
    if baseline is None and len(able) > _MOST_ARMS:
        baseline = max(able, key=lambda arm: arm.mean).arm
    for first, second in combinations(able, 2):
        if baseline is None or baseline in (first.arm, second.arm):
            yield (first, second) if _is_ahead(first, second) else (second, first)


def _is_ahead(first: ArmResult, second: ArmResult) -> bool:
    if _by_success(first, second) and _success(first) != _success(second):
        return _success(first) > _success(second)
    return first.mean >= second.mean


def _by_success(first: ArmResult, second: ArmResult) -> bool:
    known = first.solved_at is not None and first.solved_at == second.solved_at
    return known and (first.is_bimodal or second.is_bimodal)


def _success(result: ArmResult) -> float:
    return 0.0 if result.num_solved is None else result.num_solved / result.n


def _counts(first: ArmResult, second: ArmResult) -> tuple[int, int, int, int]:
    return first.num_solved or 0, first.n, second.num_solved or 0, second.n


def _p_value(first: ArmResult, second: ArmResult) -> float:
    if _by_success(first, second):
        is_ahead = probability_of_improvement([first.scores], [second.scores]) >= 0.5
        return rank_p_value(first.scores, second.scores) if is_ahead else 1.0
    return welch_p_value(first.scores, second.scores)


def _contrast(first: ArmResult, second: ArmResult, p_value: float, level: float) -> Contrast:
    if not _by_success(first, second):
        a, b = first.scores, second.scores
        seeds = _seeds(first.mean - second.mean, pooled_deviation(a, b), level)
        return Contrast(first, second, False, difference_interval(a, b), p_value, seeds)
    counts = _counts(first, second)
    pooled = (counts[0] + counts[2]) / (first.n + second.n)
    deviation = math.sqrt(pooled * (1 - pooled))
    seeds = _seeds(_success(first) - _success(second), deviation, level)
    return Contrast(first, second, True, success_difference_interval(*counts), p_value, seeds)


def _seeds(difference: float, deviation: float, level: float) -> int | None:
    """Runs per arm that show a difference with a power of 80%; None for too many."""
    if abs(difference) <= deviation / 25:  # over MOST_SEEDS at any level
        return None
    needed = seeds_needed(difference, deviation, level)
    return needed if needed <= MOST_SEEDS else None


def _solved(result: ArmResult) -> str:
    return f"{result.num_solved} of {result.n}"


def _score(result: ArmResult) -> str:
    """Write an arm's score and its runs; if only some solve the task, how many do."""
    if result.is_bimodal:
        return f"{_solved(result)} runs solve it"
    score = " ".join(known(result.mean, result.interval)).rstrip()
    return f"{score}, {plural(result.n, 'run')}"
