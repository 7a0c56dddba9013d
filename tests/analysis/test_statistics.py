"""Statistics against closed forms, published examples, definitions, and simulation."""

import itertools
import math
from functools import partial
from statistics import fmean

import numpy as np
import pytest

from analysis.quantiles import student_p_value, student_quantile
from analysis.statistics import (
    MAX_SEEDS,
    area_under_curve,
    difference_interval,
    holm,
    improvement_interval,
    interquartile_mean,
    mean_interval,
    optimality_gap,
    performance_profile,
    pooled_deviation,
    probability_of_improvement,
    rank_p_value,
    seeds_needed,
    stratified_bootstrap,
    success_difference_interval,
    time_to_threshold,
    welch_p_value,
    wilson_interval,
)
from tests.analysis import simulated_coverage as simulate

NAN = (math.nan, math.nan)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("t", [0.0, 1e-6, 0.3, 1.0, 4.0, 60.0])
def test_student_of_one_and_two_degrees_has_a_closed_form(t: float) -> None:
    assert student_p_value(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-9)
    assert student_p_value(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)


@pytest.mark.parametrize("p", [0.001, 0.025, 0.5, 0.6, 0.975, 0.9999])
def test_student_quantiles_of_one_and_two_degrees(p: float) -> None:
    assert student_quantile(p, 1) == pytest.approx(
        math.tan(math.pi * (p - 0.5)), rel=1e-9, abs=1e-12
    )
    expected = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    assert student_quantile(p, 2) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("degrees", "t"), [(4, 2.776445), (9, 2.262157), (30, 2.042272)])
def test_student_quantiles_of_printed_tables(degrees: float, t: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(t, abs=5e-7)
    assert student_p_value(student_quantile(0.975, degrees), degrees) == pytest.approx(0.05)


def test_interval_of_a_mean_by_hand() -> None:
    margin = 2.776445 * math.sqrt(2.5 / 5)
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3 - margin, 3 + margin), abs=1e-6)
    narrow, wide = mean_interval([1, 2, 3], level=0.5), mean_interval([1, 2, 3], level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_single_runs_have_no_interval() -> None:
    for nothing in (
        mean_interval([3.0]),
        mean_interval([]),
        difference_interval([1.0], [1.0, 2.0]),
        stratified_bootstrap([[1.0], [2.0]], interquartile_mean),
    ):
        assert nothing == pytest.approx(NAN, nan_ok=True)
    assert math.isnan(welch_p_value([1.0], [1.0, 2.0]))
    assert math.isnan(pooled_deviation([1.0], [1.0, 2.0]))


def test_equal_scores_have_an_interval_without_width() -> None:
    """0.1 + 0.1 + 0.1 is not 0.3: rounding must not make a variance."""
    assert mean_interval([0.1] * 3) == (0.1, 0.1)
    assert welch_p_value([0.1] * 3, [0.1] * 7) == 1
    assert welch_p_value([0.1] * 3, [0.2] * 3) == 0
    assert difference_interval([500.0] * 3, [20.0] * 4) == (480, 480)
    assert stratified_bootstrap([[0.5] * 3, [0.75] * 3], np.mean) == (0.625, 0.625)


def test_welch_of_equal_variances_and_sizes_is_the_pooled_t_test() -> None:
    a, b = [1.0, 2.0, 3.0], [5.0, 6.0, 7.0]
    error = math.sqrt(2 / 3)
    margin = student_quantile(0.975, 4) * error
    assert difference_interval(a, b) == pytest.approx((-4 - margin, -4 + margin))
    assert welch_p_value(a, b) == pytest.approx(student_p_value(4 / error, 4))
    assert pooled_deviation(a, b) == 1


def test_welch_of_unequal_variances_has_its_own_degrees_of_freedom() -> None:
    """By hand: variances of the means 1 / 3 and 25 / 3; (26 / 3)^2 / ((1 / 9 + 625 / 9) / 2)."""
    a, b = [1.0, 2.0, 3.0], [5.0, 10.0, 15.0]
    degrees = 2 * 26**2 / 626
    margin = student_quantile(0.975, degrees) * math.sqrt(26 / 3)
    assert difference_interval(a, b) == pytest.approx((-8 - margin, -8 + margin))


def test_test_and_interval_agree() -> None:
    """The p-value is the one at which the interval ends at zero."""
    a, b = normal(4), 0.5 + 3 * normal(7, seed=1)
    p = welch_p_value(a, b)
    ends = difference_interval(a, b, level=1 - p)
    assert min(map(abs, ends)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17), (2.0, 6)])
def test_seeds_needed_as_in_tables_of_power(effect: float, n: int) -> None:
    """Cohen (1988), table 2.4.1."""
    assert seeds_needed(effect, 1) == seeds_needed(-3 * effect, 3) == n


def test_seeds_needed_at_the_limits() -> None:
    assert seeds_needed(1, 0) == 2
    assert seeds_needed(0, 1) == seeds_needed(0, 0) == seeds_needed(1e-9, 1) == MAX_SEEDS
    assert seeds_needed(1, 1, power=0.95) > seeds_needed(1, 1) > seeds_needed(1, 1, level=0.8)


@pytest.mark.parametrize("effect", [0.8, 1.2, 1.0])
def test_so_many_seeds_have_the_power_that_was_asked_for(effect: float) -> None:
    n = seeds_needed(effect, 1)
    arms = zip(normal(1500, n), effect + normal(1500, n, seed=1), strict=True)
    assert fmean(welch_p_value(a, b) < 0.05 for a, b in arms) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("k", "n"), [(0, 3), (3, 3), (1, 5), (8, 10), (19, 20)])
def test_wilson_ends_where_the_score_test_rejects(k: int, n: int) -> None:
    interval = wilson_interval(k, n)
    for end, is_open in zip(interval, (k > 0, k < n), strict=True):
        if is_open:
            deviations = abs(k / n - end) / math.sqrt(end * (1 - end) / n)
            assert deviations == pytest.approx(1.959964, abs=1e-6)
        else:
            assert end == k / n
    mirrored = wilson_interval(n - k, n)
    assert mirrored == pytest.approx((1 - interval.high, 1 - interval.low))


def test_no_runs_say_nothing_about_rates() -> None:
    assert wilson_interval(0, 0) == (0, 1)
    assert success_difference_interval(0, 0, 3, 3) == (-1, 1)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((6, 7, 2, 7), (0.0582, 0.8062)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 20), (-0.1611, 0.2775)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
        ((10, 10, 0, 20), (0.6791, 1.0000)),
        ((10, 10, 0, 10), (0.6075, 1.0000)),
    ],
)
def test_newcombe_as_published(counts, expected) -> None:
    """Newcombe (1998), table II, method 10."""
    assert success_difference_interval(*counts) == pytest.approx(expected, abs=5e-5)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_tests_that_were_not_made_do_not_count() -> None:
    adjusted = holm([math.nan, 0.02, 0.01])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.02, 0.02])


def plain_interquartile_mean(scores: list[float]) -> float:
    cut = int(0.25 * len(scores))
    middle = sorted(scores)[cut : len(scores) - cut]
    return math.fsum(middle) / len(middle)


def plain_improvement(x, y) -> float:
    wins = []
    for ours, theirs in zip(x, y, strict=True):
        pairs = [(a, b) for a in ours for b in theirs]
        wins.append(math.fsum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    return math.fsum(wins) / len(wins)


@pytest.mark.parametrize("sizes", [(1,), (3,), (5, 5), (4, 7, 2), (10,) * 26])
def test_aggregates_equal_their_definitions(sizes: tuple[int, ...]) -> None:
    """As rliable computes them (Agarwal et al. 2021), with ties and uneven tasks."""
    generator = np.random.default_rng(len(sizes))
    x = [generator.random(n).round(1) for n in sizes]
    y = [generator.random(n + 1).round(1) for n in sizes]
    pooled = [score for task in x for score in task]
    for scores in (x, pooled, np.array(pooled)):
        assert interquartile_mean(scores) == pytest.approx(
            plain_interquartile_mean(pooled), abs=1e-9
        )
        gap = math.fsum(max(0, 0.8 - score) for score in pooled) / len(pooled)
        assert optimality_gap(scores, 0.8) == pytest.approx(gap, abs=1e-9)
        thresholds = [0, 0.1, 0.5, 1]
        shares = [fmean(score > tau for score in pooled) for tau in thresholds]
        assert performance_profile(scores, thresholds) == pytest.approx(shares, abs=1e-9)
    assert probability_of_improvement(x, y) == pytest.approx(plain_improvement(x, y), abs=1e-9)
    assert probability_of_improvement(x, x) == 0.5


def test_the_outliers_of_a_quarter_do_not_move_the_interquartile_mean() -> None:
    assert interquartile_mean([-1e9, 1, 2, 3, 4, 5, 6, 1e9]) == 3.5
    assert interquartile_mean([-1e9, 1, 2, 3, 1e9]) == 2


def test_bootstrap_of_one_mean_is_nearly_students_interval() -> None:
    """By both corrections: without them it has 0.82 of this width at 10 runs, and less at fewer."""
    for n in (10, 20):
        scores = normal(n, seed=n)
        exact, drawn = mean_interval(scores), stratified_bootstrap([scores], np.mean)
        assert drawn.high - drawn.low == pytest.approx(exact.high - exact.low, rel=0.05)


def test_bootstrap_resamples_within_tasks_only() -> None:
    """Tasks are far apart; were they mixed, the interval would be as wide as that."""
    tasks = [1000 * task + 0.1 * normal(5, seed=task) for task in range(8)]
    interval = stratified_bootstrap(tasks, np.mean)
    assert interval.low < np.mean(tasks) < interval.high
    assert interval.high - interval.low < 0.2


def test_bootstrap_repeats_for_a_seed_and_leaves_global_randomness_alone() -> None:
    tasks = list(normal(4, 5))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (stratified_bootstrap(tasks, interquartile_mean, seed=3) for _ in range(2))
    assert first == again != stratified_bootstrap(tasks, interquartile_mean, seed=4)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    wide = stratified_bootstrap(tasks, interquartile_mean, level=0.99)
    assert wide.low < first.low < first.high < wide.high


def test_profile_band_and_interval_of_improvement() -> None:
    x, thresholds = list(normal(8, 5)), np.linspace(-2, 2, 9)
    profile = performance_profile(x, thresholds)
    low, high = stratified_bootstrap(x, partial(performance_profile, thresholds=thresholds))
    assert ((low <= profile) & (profile <= high)).all()
    assert (low < high).any()
    assert improvement_interval(x, [task - 100 for task in x]) == (1, 1)
    interval = improvement_interval(x, x)
    assert interval.low < 0.5 < interval.high


def test_area_under_a_curve_by_hand() -> None:
    assert area_under_curve([0, 10], [0, 1], 10) == 0.5
    assert area_under_curve([4, 8], [1, 3], 10) == pytest.approx((4 * 1 + 4 * 2 + 2 * 3) / 10)
    assert area_under_curve([0, 10, 20], [0, 1, 9], 10) == 0.5  # what is later does not count
    assert area_under_curve([0, 20], [0, 2], 10) == 0.5  # cut between points
    assert area_under_curve([5], [7], 10) == 7


def test_times_to_a_threshold() -> None:
    assert time_to_threshold([100, 200, 300, 400], [0, 5, 2, 9], 5) == 200
    assert time_to_threshold([100, 200], [0, 5], 6) == math.inf
    assert time_to_threshold([], [], 6) == math.inf


# Coverage: a few cells here, all of them in the slow test.


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    normal_scores = np.random.Generator.standard_normal
    assert simulate.student(normal_scores, 3, 2000) == pytest.approx(0.95, abs=0.02)
    assert simulate.welch(normal_scores, normal_scores, 5, 300) == pytest.approx(0.95, abs=0.04)
    for n in simulate.NUM_RUNS:
        assert 0.94 < fmean(simulate.wilson(rate, n) for rate in simulate.EVERY_RATE) < 0.96


def is_recommended(coverage: float) -> bool:
    return 0.93 <= coverage <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n", simulate.NUM_RUNS)
@pytest.mark.parametrize("name", ["normal", "skewed (skewness 1)"])
def test_coverage_of_means_and_differences(name: str, n: int) -> None:
    draw = simulate.DISTRIBUTIONS[name]
    assert is_recommended(simulate.student(draw, n))
    assert is_recommended(simulate.welch(draw, simulate.spread(draw, 3), n))
    assert is_recommended(simulate.welch(draw, draw, n))


@pytest.mark.slow
@pytest.mark.parametrize("statistic", simulate.STATISTICS)
@pytest.mark.parametrize("name", simulate.task_sets(8))
def test_coverage_of_the_bootstrap(name: str, statistic: str) -> None:
    assert is_recommended(simulate.bootstrap(simulate.task_sets(8)[name], 5, statistic))
    if name == "normal":
        assert is_recommended(simulate.improvement(simulate.task_sets(8)[name], 5))


def test_ranks_by_counting() -> None:
    assert rank_p_value([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)
    assert rank_p_value([421, 500, 500, 500, 500], [41, 42, 43, 43, 44]) == pytest.approx(2 / 252)
    assert rank_p_value([1, 1, 2], [1, 2, 2]) == 1.0
    assert rank_p_value([0, 1], [0, 1]) == 1.0
    assert math.isnan(rank_p_value([], [1, 2]))


def test_ranks_by_every_split() -> None:
    draws = np.random.default_rng(0)
    for _ in range(5):
        a, b = draws.integers(0, 6, 4), draws.integers(0, 6, 5)
        pooled = np.concatenate([a, b])
        ranks = np.array([(pooled < x).sum() + ((pooled == x).sum() + 1) / 2 for x in pooled])
        middle = 4 * ranks.mean()
        sums = [ranks[list(chosen)].sum() for chosen in itertools.combinations(range(9), 4)]
        far = abs(ranks[:4].sum() - middle) - 1e-9
        expected = np.mean([abs(each - middle) >= far for each in sums])
        assert rank_p_value(a, b) == pytest.approx(expected, abs=1e-12)
