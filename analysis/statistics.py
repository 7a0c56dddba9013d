"""Statistics of comparisons: intervals, tests, aggregates. The sample is runs, never episodes.

Scores are one number per run, `tasks` one array of them per task. docs/statistics.md says which
function answers which question; analysis/caveats.py says where an interval is not to be trusted.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.quantiles import student_p_value, student_quantile

FloatArray = NDArray[np.float64]
Scores = Sequence[float] | FloatArray
Tasks = Sequence[Scores]

SIGNIFICANCE = 0.05
"""Below this p-value, corrected, arms are told apart; intervals are those of 95%."""
MAX_SEEDS = 10_000
"""The largest answer of `seeds_needed`."""


class Interval(NamedTuple):
    """A confidence interval; (nan, nan) if there are too few runs for one."""

    low: float
    high: float


def mean_interval(scores: Scores, level: float = 0.95) -> Interval:
    """Student's t interval of the mean: `m +- t s / sqrt(n)`."""
    return _student_interval(*_moments(scores), level)


def difference_interval(a: Scores, b: Scores, level: float = 0.95) -> Interval:
    """Welch's t interval of mean(a) - mean(b): their variances may differ."""
    return _student_interval(*_difference(a, b), level)


def welch_p_value(a: Scores, b: Scores) -> float:
    """Two-sided p-value of Welch's t-test for equal means; nan if an arm has a single run."""
    difference, variance, degrees = _difference(a, b)
    if variance == 0:
        return float(difference == 0)
    return student_p_value(difference / math.sqrt(variance), degrees)


def pooled_deviation(a: Scores, b: Scores) -> float:
    """Root of the mean variance of both arms; nan if one has a single run."""
    return math.sqrt(sum(len(arm) * _moments(arm)[1] for arm in (a, b)) / 2)


def seeds_needed(
    difference: float, deviation: float, level: float = 0.95, power: float = 0.8
) -> int:
    """Runs per arm with which a t-test finds a difference of means with probability `power`.

    The smallest n with `n >= 2 ((t_level + t_power) deviation / difference)^2`, at most MAX_SEEDS.
    Both quantiles have 2n - 2 degrees of freedom; the search begins at those of the normal.

    Args:
        deviation: pooled standard deviation of the scores.
    """
    if difference == 0:
        return MAX_SEEDS
    tails = ((1 + level) / 2, power)
    scale = 2 * (deviation / difference) ** 2
    n = max(2, math.ceil(min(MAX_SEEDS, scale * sum(map(NormalDist().inv_cdf, tails)) ** 2)))
    while n < min(MAX_SEEDS, scale * sum(student_quantile(p, 2 * n - 2) for p in tails) ** 2):
        n += 1
    return n


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate; (0, 1) of no runs.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (successes + z * z / 2) / (n + z * z)
    margin = z * math.sqrt(successes * (n - successes) / max(n, 1) + z * z / 4) / (n + z * z)
    return Interval(max(0.0, centre - margin), min(1.0, centre + margin))


def success_difference_interval(
    k_a: int, n_a: int, k_b: int, n_b: int, level: float = 0.95
) -> Interval:
    """Newcombe's hybrid score interval of the difference of two success rates.

    Source: Newcombe (1998), Interval estimation for the difference between independent
        proportions: comparison of eleven methods, method 10.
    """
    if not (n_a and n_b):
        return Interval(-1.0, 1.0)
    rate_a, rate_b = k_a / n_a, k_b / n_b
    a, b = wilson_interval(k_a, n_a, level), wilson_interval(k_b, n_b, level)
    return Interval(
        rate_a - rate_b - math.hypot(rate_a - a.low, b.high - rate_b),
        rate_a - rate_b + math.hypot(a.high - rate_a, rate_b - b.low),
    )


def rank_p_value(a: Scores, b: Scores) -> float:
    """Mann and Whitney's test that neither arm's runs tend to be better, exact and two-sided.

    The share of all ways to choose the runs of `a` among all runs whose rank sum is at least as far
    from its mean as the observed one. Ties have mean ranks. It needs no normal scores.

    Source: Mann & Whitney (1947); with ties Lehmann (1975), Nonparametrics, section 1.5.
    """
    pooled = np.concatenate([np.asarray(a, np.float64), np.asarray(b, np.float64)])
    size, n = len(pooled), len(a)
    if not n or n == size or np.isnan(pooled).any():
        return math.nan
    below, up_to = (np.searchsorted(np.sort(pooled), pooled, side) for side in ("left", "right"))
    ranks = below + up_to + 1  # twice the mean ranks, which are integers
    ways = np.zeros((n + 1, int(ranks.sum()) + 1))  # by number of runs and sum of ranks
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank]
    distances = np.abs(np.arange(ways.shape[1]) - n * (size + 1))
    extreme = distances >= abs(int(ranks[:n].sum()) - n * (size + 1))
    return float(ways[n, extreme].sum() / ways[n].sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order; nan, of no test, stays and does not count.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given)  # nan last
    factors = np.count_nonzero(~np.isnan(given)) - np.arange(given.size)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * given[order]))
    return adjusted.tolist()


def interquartile_mean(scores: Scores | Tasks) -> float:
    """Mean of the middle half of all scores pooled; `floor(n / 4)` are cut off at each end.

    Source: Agarwal et al. (2021), arXiv:2108.13264; rliable's, so without fractional weights.
    """
    pooled = np.sort(_pooled(scores))
    cut = pooled.size // 4
    return float(pooled[cut : pooled.size - cut].mean())


def optimality_gap(scores: Scores | Tasks, target: float = 1.0) -> float:
    """Mean shortfall, `max(0, target - score)`, of all scores pooled."""
    return float(np.maximum(0, target - _pooled(scores)).mean())


def performance_profile(scores: Scores | Tasks, thresholds: Scores) -> FloatArray:
    """Share of all scores above each threshold."""
    return (_pooled(scores)[:, None] > np.asarray(thresholds)).mean(axis=0)


def probability_of_improvement(x: Tasks, y: Tasks) -> float:
    """`P(X > Y) + P(X = Y) / 2` for a run of each arm on the same task, averaged over tasks."""
    leads = [np.sign(np.subtract.outer(*pair)).mean() for pair in zip(x, y, strict=True)]
    return float(1 + np.mean(leads)) / 2


def stratified_bootstrap(
    tasks: Tasks, statistic: Callable[[FloatArray], Any], level: float = 0.95, **draws: int
) -> Interval:
    """Percentile bootstrap over the runs within each task, corrected for few runs.

    The plain percentile interval of 8 tasks x 5 runs covers about 90%. Two corrections mend that:
    of n runs, n - 1 are drawn, which makes the variance of a mean unbiased, and the percentiles are
    those at which a normal distribution has the tails of Student's t.

    Args:
        statistic: of all scores pooled, such as `interquartile_mean` or `np.mean`; of several
            numbers, such as a performance profile, the ends are arrays.
        draws: the number of `resamples`, 2000, and the `seed`, 0.

    Source: Rao and Wu (1988), Resampling inference with complex survey data; Hesterberg (2015),
        arXiv:1411.5279, for the percentiles.
    """
    pooled = np.concatenate(_resampled(tasks, **draws), axis=1)
    return Interval(*_percentiles([statistic(scores) for scores in pooled], tasks, level))


def improvement_interval(x: Tasks, y: Tasks, level: float = 0.95, **draws: int) -> Interval:
    """Bootstrap interval of the probability of improvement; the runs of both arms are resampled."""
    drawn = _resampled([*x, *y], **draws)
    leads = [
        np.sign(ours[:, :, None] - theirs[:, None, :]).mean(axis=(1, 2))
        for ours, theirs in zip(drawn[: len(x)], drawn[len(x) :], strict=True)
    ]
    return Interval(*_percentiles((1 + np.mean(leads, axis=0)) / 2, [*x, *y], level))


def area_under_curve(steps: Scores, values: Scores, until: float) -> float:
    """Mean height of a curve on [0, until]: linear between points, constant outside of them."""
    points = np.asarray(steps, np.float64)
    inside = points[(points > 0) & (points < until)]
    grid = np.concatenate([[0.0], inside, [until]])
    return float(np.trapezoid(np.interp(grid, points, values), grid) / until)


def time_to_threshold(axis: Scores, values: Scores, threshold: float) -> float:
    """Where on the axis a curve first reaches the threshold; inf if it never does (censored)."""
    reached = np.asarray(axis, np.float64)[np.asarray(values) >= threshold]
    return float(reached[0]) if reached.size else math.inf


def _pooled(scores: Scores | Tasks) -> FloatArray:
    if isinstance(scores, np.ndarray):
        return scores.ravel()
    return np.hstack([*scores]).astype(np.float64, copy=False)


def _moments(scores: Scores) -> tuple[float, float, float]:
    """Return the mean, its variance s^2 / n, and its degrees of freedom."""
    array = np.asarray(scores, np.float64)
    if array.size < 2:
        return math.nan, math.nan, 0
    shifted = array - array[0]  # exact where all scores are equal: no variance at all
    return float(array[0] + shifted.mean()), float(shifted.var(ddof=1)) / array.size, array.size - 1


def _difference(a: Scores, b: Scores) -> tuple[float, float, float]:
    """Return the difference of the means, its variance, and its degrees of freedom."""
    moments = _moments(a), _moments(b)
    (mean_a, variance_a, _), (mean_b, variance_b, _) = moments
    return mean_a - mean_b, variance_a + variance_b, _degrees(moments)


def _degrees(moments: Iterable[tuple[float, float, float]]) -> float:
    """Degrees of freedom of a sum of independent means; any number if none of them varies.

    Source: Welch (1947), The generalization of "Student's" problem, eq. 28 (Satterthwaite's).
    """
    known = np.array([(variance, own) for _, variance, own in moments if variance > 0])
    if not known.size:
        return 1.0
    variances, own = known.T
    return float(1 / ((variances / variances.sum()) ** 2 / own).sum())


def _student_interval(centre: float, variance: float, degrees: float, level: float) -> Interval:
    if not variance > 0:
        return Interval(centre + variance, centre + variance)  # no width, or nan
    margin = math.sqrt(variance) * student_quantile((1 + level) / 2, degrees)
    return Interval(centre - margin, centre + margin)


def _resampled(tasks: Tasks, resamples: int = 2000, seed: int = 0) -> list[FloatArray]:
    """Draw n - 1 of the n runs of each task with replacement: [resamples, n - 1]."""
    generator = np.random.default_rng(seed)
    drawn = []
    for array in (np.asarray(scores, np.float64) for scores in tasks):
        size = resamples, max(1, array.size - 1)
        drawn.append(array[generator.integers(array.size, size=size)])
    return drawn


def _percentiles(values: FloatArray | list[Any], tasks: Tasks, level: float) -> FloatArray:
    """Lower and upper end of what resamples gave; nan if no task has more than one run."""
    degrees = _degrees(map(_moments, tasks))
    tail = NormalDist().cdf(-student_quantile((1 + level) / 2, degrees))
    ends = np.quantile(values, (tail, 1 - tail), axis=0)
    return ends if max(map(len, tasks)) > 1 else np.full_like(ends, np.nan)
