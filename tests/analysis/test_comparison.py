"""Results by task and arm: which runs count, and every number that is said of an arm."""

import math

import numpy as np
import pytest

from analysis.comparison import ArmResult, Plan, Results, compare, thinned
from analysis.runs import EVALUATIONS, Curve, RunRecord
from tests.analysis.synthetic import TASK, memory_study, record, run


def only(results: Results) -> ArmResult:
    (arm,) = results.arms
    return arm


def curve(steps: list[float], values: list[float]) -> Curve:
    return Curve(np.array(steps), np.array(steps) / 10, np.array(values))


def evaluated(seed: int, steps: list[float], values: list[float], **changes) -> RunRecord:
    return record(arm="a", seed=seed, curves={EVALUATIONS: curve(steps, values)}, **changes)


def test_scores_are_means_over_seeds_with_student_s_interval() -> None:
    arm = only(compare([run("a", seed, score) for seed, score in enumerate([10, 12, 17])], Plan()))
    assert arm.mean == 13
    # s = sqrt(13), t of 2 degrees of freedom = 4.3027
    assert arm.interval == pytest.approx(
        (13 - 4.30265 * (13 / 3) ** 0.5, 13 + 4.30265 * (13 / 3) ** 0.5), abs=1e-4
    )


def test_success_counts_runs_that_reach_the_threshold() -> None:
    arm = only(
        compare([run("a", seed, score) for seed, score in enumerate([475, 474.9, 500])], Plan())
    )
    assert arm.num_solved == 2
    assert arm.success_interval == pytest.approx((0.2077, 0.9385), abs=1e-4)  # Wilson's, 2 of 3


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([20, 500, 495, 490], True),
        ([472, 474, 478, 487, 500], False),  # they scatter around the threshold
        ([480, 500], False),
        ([9, 20], False),
        ([9, 500], True),
    ],
)
def test_bimodal_scores_have_a_gap_at_the_threshold(scores: list[float], expected: bool) -> None:
    runs = [run("a", seed, score) for seed, score in enumerate(scores)]
    assert only(compare(runs, Plan())).is_bimodal == expected


def test_without_a_threshold_nothing_is_solved() -> None:
    arm = only(compare([run("a", seed, 1.0, solved_at=None) for seed in range(2)], Plan()))
    assert (arm.num_solved, arm.is_bimodal, arm.times("env_steps")) == (None, False, [])
    assert math.isnan(arm.success_interval.low)
    assert math.isnan(arm.median_time("seconds"))


def test_times_are_censored_where_the_threshold_is_not_reached() -> None:
    runs = [
        evaluated(0, [100, 200, 300], [0, 480, 470]),
        evaluated(1, [100, 200, 300], [0, 0, 475]),
        evaluated(2, [100, 200, 300], [0, 0, 0]),
    ]
    arm = only(compare(runs, Plan()))
    assert arm.times("env_steps") == [200, 300, math.inf]
    assert (arm.median_time("env_steps"), arm.median_time("seconds")) == (300, 30)
    assert math.isinf(only(compare(runs[1:], Plan())).median_time("env_steps"))


def test_area_is_a_curve_s_mean_height_over_its_budget() -> None:
    runs = [evaluated(0, [50, 100], [10, 30], budget=100), run("a", 1, 1.0)]
    arm = only(compare(runs, Plan()))
    assert arm.area == pytest.approx((50 * 10 + 50 * 20) / 100)  # of the run that has a curve
    assert len(arm.measured) == 1


def test_costs_are_means_of_what_is_known() -> None:
    runs = [run("a", 0, 1.0, peak_memory_mib=100.0), run("a", 1, 1.0, peak_memory_mib=None)]
    arm = only(compare(runs, Plan()))
    assert arm.cost("peak_memory_mib") == 100
    assert arm.cost("steps_per_second") == 3000
    nothing = only(compare([run("a", 0, 1.0, peak_memory_mib=None)], Plan()))
    assert math.isnan(nothing.cost("peak_memory_mib"))


@pytest.mark.parametrize(
    ("metric", "score"), [("last", 5.0), ("best", 9.0), ("mean", pytest.approx(4.0))]
)
def test_the_metric_chooses_a_run_s_score(metric, score: float) -> None:
    points = [100.0, 2, 3, 4, 5, 6]
    one = evaluated(0, [1, 2, 3, 4, 5, 6], points, last=5.0, best=9.0)
    assert list(only(compare([one], Plan(metric=metric))).scores) == [score]


def test_unfinished_runs_count_only_if_asked_for() -> None:
    runs = [
        run("a", 0, 4.0),
        run("a", 1, None, status="failed", problem="failed at 5 of 10 steps", best=3.0),
    ]
    arm = only(compare(runs, Plan(metric="best")))
    assert (arm.n, [reason for _, reason in arm.left_out]) == (1, ["failed at 5 of 10 steps"])
    assert list(only(compare(runs, Plan(metric="best", status="all"))).scores) == [4, 3]


def test_a_run_without_the_score_that_is_asked_for_does_not_count() -> None:
    arm = only(compare([run("a", 0, None, best=3.0), run("a", 1, 2.0)], Plan()))
    ((_, reason),) = arm.left_out
    assert reason == "no score by metric=last; metric=best compares it"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_mean_over_evaluations_that_are_no_numbers_is_no_score(value: float) -> None:
    runs = [evaluated(0, [1, 2, 3], [1, value, 3]), evaluated(1, [1, 2, 3], [1, 2, 3])]
    arm = only(compare(runs, Plan(metric="mean")))
    assert list(arm.scores) == [2]
    ((_, reason),) = arm.left_out
    assert reason.startswith("no score by metric=mean")


def test_the_same_seed_twice_is_no_second_sample(tmp_path) -> None:
    runs = [
        run("a", 1, 1.0, directory=tmp_path / "1"),
        run("a", 1, 9.0, directory=tmp_path / "2"),
        run("a", 2, 4.0),
    ]
    arm = only(compare(runs, Plan()))
    assert list(arm.scores) == [9, 4]  # the later directory
    ((twin, reason),) = arm.left_out
    assert (twin, reason) == (runs[0], f"run more than once; {tmp_path / '2'} counts")


def test_planned_arms_without_runs_are_results_too() -> None:
    runs, plan = memory_study()
    results = compare([each for each in runs if each.arm != "rnn"], plan)
    assert results.names == ["none", "rnn", "gru", "lstm"]  # in the plan's order
    assert [arm.n for arm in results.arms] == [5, 0, 5, 5]
    assert [arm.arm for arm in results.ranked(TASK)] == ["lstm", "gru", "none", "rnn"]


def test_thinned_curves_keep_their_last_point() -> None:
    long = curve(list(range(1000)), list(range(1000)))
    assert len(thinned(long, 1000).values) == 1000
    short = thinned(long, 200)
    assert len(short.values) <= 200
    assert short.values[-1] == 999
    assert list(np.diff(short.env_steps)) == [5] * (len(short.values) - 1)
