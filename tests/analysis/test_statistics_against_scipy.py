"""Statistics against scipy's, over grids and random scores."""

import math

import numpy as np
import pytest

from analysis.quantiles import student_p_value, student_quantile
from analysis.statistics import (
    difference_interval,
    holm,
    interquartile_mean,
    mean_interval,
    probability_of_improvement,
    rank_p_value,
    seeds_needed,
    stratified_bootstrap,
    welch_p_value,
    wilson_interval,
)

scipy_stats = pytest.importorskip("scipy.stats")

DEGREES = [0.5, 1, 1.3, 2, 3, 4.7, 10, 33.3, 1000]


def two_arms(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(2, 12, size=2)
    return generator.normal(100, 3, sizes[0]), generator.normal(103, 20, sizes[1])


@pytest.mark.parametrize("degrees", DEGREES)
def test_student(degrees: float) -> None:
    for t in (0.0, 0.001, 0.1, 0.7, 2.0, 5.0, 100.0):
        expected = 2 * scipy_stats.t.sf(t, degrees)
        assert student_p_value(t, degrees) == pytest.approx(expected, rel=1e-9)
    for p in (0.01, 0.5, 0.51, 0.8, 0.975, 0.99999):
        expected = scipy_stats.t.ppf(p, degrees)
        assert student_quantile(p, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_intervals_of_means(seed: int, level: float) -> None:
    a, b = two_arms(seed)
    error = scipy_stats.sem(a)
    expected = scipy_stats.t.interval(level, len(a) - 1, loc=a.mean(), scale=error)
    assert mean_interval(a, level) == pytest.approx(expected, rel=1e-9)
    test = scipy_stats.ttest_ind(a, b, equal_var=False)
    assert welch_p_value(a, b) == pytest.approx(test.pvalue, rel=1e-9)
    expected = tuple(test.confidence_interval(level))
    assert difference_interval(a, b, level) == pytest.approx(expected, rel=1e-9)


def test_rates() -> None:
    for n in range(1, 12):
        for k in range(n + 1):
            expected = scipy_stats.binomtest(k, n).proportion_ci(0.9, method="wilson")
            assert wilson_interval(k, n, 0.9) == pytest.approx(tuple(expected), abs=1e-12)


def test_aggregates() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.random((6, 7)).round(1), generator.random((6, 5)).round(1)
    trimmed = scipy_stats.trim_mean(x, 0.25, axis=None)
    assert interquartile_mean(x) == pytest.approx(trimmed, abs=1e-12)
    statistics = [scipy_stats.mannwhitneyu(*pair).statistic for pair in zip(x, y, strict=True)]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(statistics) / 35, abs=1e-12)


def test_bootstrap_of_many_runs_is_the_percentile_bootstrap() -> None:
    """The corrections for few runs vanish."""
    scores = np.random.default_rng(1).exponential(size=300)
    peer = scipy_stats.bootstrap(
        (scores,),
        lambda x, axis: scipy_stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        rng=np.random.default_rng(2),
    )
    expected = tuple(peer.confidence_interval)
    assert stratified_bootstrap([scores], interquartile_mean) == pytest.approx(expected, rel=0.02)


def test_holm() -> None:
    """By its definition as a sequence of rejections: the least level that rejects."""
    p_values = np.random.default_rng(0).random(6).round(2) / 4
    for adjusted, p in zip(holm(p_values.tolist()), p_values, strict=True):
        steps = [min(1, (6 - rank) * q) for rank, q in enumerate(sorted(p_values)) if q <= p]
        assert adjusted == pytest.approx(max(steps))


@pytest.mark.parametrize("effect", [0.3, 0.7, 1.1, 1.5, 2.0, 2.5])
def test_seeds_needed_are_the_fewest_with_that_power(effect: float) -> None:
    """By the noncentral t distribution."""

    def power(n: int) -> float:
        limit = scipy_stats.t.ppf(0.975, 2 * n - 2)
        shifted = scipy_stats.nct(2 * n - 2, effect * math.sqrt(n / 2))
        return shifted.sf(limit) + shifted.cdf(-limit)

    n = seeds_needed(effect, 1)
    assert power(n) >= 0.8 > power(n - 1)


@pytest.mark.parametrize("seed", range(5))
def test_ranks(seed: int) -> None:
    a, b = two_arms(seed)
    expected = scipy_stats.mannwhitneyu(a, b, method="exact").pvalue
    assert rank_p_value(a, b) == pytest.approx(expected, rel=1e-9)
