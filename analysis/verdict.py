"""Which arm is best, by how much, and how sure that is, in words.

Arms are compared on each task; p-values are corrected by Holm's method for the number of
comparisons. Where some runs of an arm solve the task and others fail, success rates are compared
instead of scores, whose intervals would be far too narrow.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from analysis.aggregates import LEAST_TASKS, Aggregates, aggregated, corrections
from analysis.caveats import rate_caveat
from analysis.comparison import ArmResult, Results
from analysis.statistics import (
    MAX_SEEDS,
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
from analysis.wording import bounds, known, number, plural, some

MOST_SEEDS = 1000
"""More seeds per arm than anyone runs."""
_LEAST_RUNS = 2
_MOST_SCORES = 20
"""In one sentence."""
_MOST_ARMS = 12
"""With more, every arm is compared with the best one only."""
_EXACT = 40
"""Larger numbers of seeds are rounded: they are estimates from few runs."""


class Verdict(NamedTuple):
    """The answer: a sentence for each task or for all, comparisons, and what limits them."""

    summary: list[str]
    comparisons: list[str]
    limits: list[str]
    across: Aggregates | None


class Contrast(NamedTuple):
    """Two arms on one task; the first is ahead.

    Attributes:
        by_success: whether success rates are compared, not scores.
        difference: first minus second.
        interval: of the difference, not corrected for the number of comparisons.
        deviation: pooled standard deviation of what is compared.
        p_value: corrected by Holm's method.
        level: of a test as strict as the correction at its first step.
    """

    first: ArmResult
    second: ArmResult
    by_success: bool
    difference: float
    interval: Interval
    deviation: float
    p_value: float
    level: float = 1 - SIGNIFICANCE

    @property
    def is_separable(self) -> bool:
        """Whether the difference is significant after correction."""
        return self.p_value < SIGNIFICANCE

    def sentence(self) -> str:
        """Say how the arms compare, with their numbers."""
        a, b, (low, high) = self.first, self.second, self.interval
        runs = f"{plural(a.n, 'run')} each" if a.n == b.n else f"{a.n} and {b.n} runs"
        half, solve = (high - low) / 2, " runs solve it" if self.by_success else ""
        if self.by_success:
            difference = f"{100 * self.difference:.0f} points [{100 * low:.0f}, {100 * high:.0f}]"
            values = [a.solved, b.solved]
        else:
            difference = f"{number(self.difference, half)} {bounds(low, high)}"
            values = [number(a.mean, half), number(b.mean, half)]
        if self.is_separable:
            against = f"{' against '.join(values)}{solve}, difference {difference} (95%), {runs}"
            return f"{a.arm} is better than {b.arm} on {a.task}: {against}"
        told = f"{' and '.join(values)}{solve}, " if solve else ""
        told += f"difference {difference}{'' if solve else f', {runs}'}"
        return f"not separable on {a.task}: {a.arm} and {b.arm} ({told}); {self.more_seeds()}"

    def more_seeds(self) -> str:
        """Say how many further runs per arm would separate them, if they differ as it seems."""
        seeds = MAX_SEEDS
        if abs(self.difference) > self.deviation / 25:  # smaller ones want more at any level
            seeds = seeds_needed(self.difference, self.deviation, self.level)
        if seeds > MOST_SEEDS:
            told = f"no number of seeds up to {MOST_SEEDS:,} would tell"
            return f"{told}, if they differ by so little"
        more = max(1, int(seeds) - min(self.first.n, self.second.n))
        if more > _EXACT:
            more = round(more, -1 if more < 10 * _EXACT else -2)
        return f"about {plural(more, 'more seed')} per arm would tell"


def judge(results: Results) -> Verdict:
    """Compare the arms and say what follows."""
    across, baseline = aggregated(results), results.plan.baseline
    if across is not None:
        told = [pair.sentence() for pair in across.improvements]
        return Verdict([across.summary()], told, list(across.limits()), across)
    pairs = contrasts(results, baseline)
    every = pairs if baseline is None else contrasts(results, None)
    summary = [_summary(results, task, every) for task in results.tasks]
    told = [pair.sentence() for pair in pairs]
    return Verdict(summary, told, list(_limits(results, pairs, every)), None)


def contrasts(results: Results, baseline: str | None) -> list[Contrast]:
    """Compare every arm with the baseline, or all pairs, on each task; correct by Holm.

    Returns:
        The pairs of one task after the other, those of its better arms first.
    """
    pairs = list[Contrast]()
    for task in results.tasks:
        own = _pairs(results, task, baseline)
        pairs += sorted(own, key=lambda pair: (-pair.first.mean, -pair.second.mean))
    corrected = holm([pair.p_value for pair in pairs])
    level = 1 - SIGNIFICANCE / max(1, len(pairs))
    return [pair._replace(p_value=p, level=level) for pair, p in zip(pairs, corrected, strict=True)]


def _summary(results: Results, task: str, pairs: Sequence[Contrast]) -> str:
    """Name the best arm of a task, or those among which it is."""
    arms = results.of_task(task)
    able = [result for result in results.ranked(task) if result.n >= _LEAST_RUNS]
    if len(arms) == 1 and arms[0].n:
        return f"{arms[0].arm} on {task}: {_score(arms[0])}"
    if len(able) < 2:
        return f"Too few runs on {task} to compare: arms need at least {_LEAST_RUNS} finished seeds"
    own = [pair for pair in pairs if pair.first.task == task]
    best = max(able, key=lambda arm: (sum(pair.first is arm for pair in own), arm.mean))
    beaten = [pair.second.arm for pair in own if pair.first is best and pair.is_separable]
    rivals: dict[str, list[str]] = {}  # by what would tell them apart
    for pair in own:
        if best in (pair.first, pair.second) and not (pair.first is best and pair.is_separable):
            rival = pair.second if pair.first is best else pair.first
            rivals.setdefault(pair.more_seeds(), []).append(rival.arm)
    if not rivals:
        return f"{best.arm} is best on {task}: {_score(best)}; better than {some(beaten)}"
    than = f"; {best.arm} is better than {some(beaten)}" if beaten else ""
    alike = some([f"{some(names)} ({seeds})" for seeds, names in rivals.items()])
    told = f"{best.arm} ({_score(best)}) is not separable from {alike}{than}"
    return f"No single best arm on {task}: {told}"


def _limits(
    results: Results, pairs: Sequence[Contrast], every: Sequence[Contrast]
) -> Iterator[str]:
    """State what the comparisons leave out, and how they are corrected."""
    yield from corrections(len(pairs), len(every))
    for arm in (arm for arm in results.arms if arm.is_bimodal):
        scores = some([number(score) for score in sorted(arm.scores)], _MOST_SCORES)
        solve = f"{arm.arm} on {arm.task}: {arm.solved} runs solve it"
        yield f"{solve}, so success rates are compared; scores: {scores}"
    rates = [min(pair.first.n, pair.second.n) for pair in pairs if pair.by_success]
    yield from filter(None, [rate_caveat(min(rates)) if rates else None])
    lonely = [f"{arm.arm} on {arm.task}" for arm in results.arms if arm.n < _LEAST_RUNS]
    if lonely:
        yield f"not compared, with fewer than {_LEAST_RUNS} runs: {some(lonely)}"
    count = len(results.tasks)
    if count > 1:
        few = f"that needs at least {LEAST_TASKS}"
        why = few if count < LEAST_TASKS else "fewer than two arms have runs on all of them"
        yield f"nothing is averaged over {count} tasks: {why}"


def _pairs(results: Results, task: str, baseline: str | None) -> Iterator[Contrast]:
    able = [result for result in results.of_task(task) if result.n >= _LEAST_RUNS]
    if baseline is None and len(able) > _MOST_ARMS:
        baseline = max(able, key=lambda arm: arm.mean).arm
    for pair in combinations(able, 2):
        if baseline in (None, pair[0].arm, pair[1].arm):
            yield _contrast(*pair)


def _contrast(one: ArmResult, other: ArmResult) -> Contrast:
    """Compare two arms, where an interval of the mean would be too narrow by their success."""
    is_known = one.solved_at is not None and one.solved_at == other.solved_at
    by_success = is_known and (one.is_bimodal or other.is_bimodal)
    rates = {arm: arm.success_rate if by_success else 0.0 for arm in (one, other)}
    a, b = sorted(rates, key=lambda arm: (rates[arm], arm.mean), reverse=True)
    if not by_success:
        arms = a.scores, b.scores
        spread = difference_interval(*arms), pooled_deviation(*arms)
        return Contrast(a, b, False, a.mean - b.mean, *spread, welch_p_value(*arms))
    solved = a.num_solved or 0, b.num_solved or 0
    interval = success_difference_interval(solved[0], a.n, solved[1], b.n)
    pooled = sum(solved) / (a.n + b.n)
    deviation, difference = math.sqrt(pooled * (1 - pooled)), a.success_rate - b.success_rate
    is_likely = probability_of_improvement([a.scores], [b.scores]) >= 0.5
    p_value = rank_p_value(a.scores, b.scores) if is_likely else 1.0
    return Contrast(a, b, True, difference, interval, deviation, p_value)


def _score(result: ArmResult) -> str:
    """Write an arm's score and its runs; if only some solve the task, how many do."""
    if result.is_bimodal:
        return f"{result.solved} runs solve it"
    score = " ".join(known(result.mean, result.interval)).rstrip()
    return f"{score}, {plural(result.n, 'run')}"
