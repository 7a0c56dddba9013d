"""Verdicts in words: who is better, what is not separable, and by how many seeds it would be."""

import numpy as np
import pytest

from analysis.comparison import Plan, compare
from analysis.verdict import contrasts, judge
from tests.analysis.synthetic import TASK, memory_study, run


def judged(scores: dict[str, list[float]], *, baseline: str | None = None, **changes):
    runs = [
        run(arm, seed, score, **changes)
        for arm, values in scores.items()
        for seed, score in enumerate(values)
    ]
    return judge(compare(runs, Plan(baseline=baseline)))


def test_a_clear_winner_is_named_with_its_numbers() -> None:
    verdict = judged(
        {"none": [42, 46, 44, 48, 45], "lstm": [470, 472, 474, 468, 471]}, baseline="none"
    )
    assert verdict.summary == [
        f"lstm is best on {TASK}: 471.0 [468.2, 473.8], 5 runs; better than none",
    ]
    assert verdict.comparisons == [
        f"lstm is better than none on {TASK}: 471.0 against 45.0, difference 426.0 "
        "[422.7, 429.3] (95%), 5 runs each",
    ]


def test_arms_that_are_close_are_not_separable_and_seeds_are_estimated() -> None:
    verdict = judged({"gru": [100, 110, 90, 105, 95], "lstm": [103, 112, 93, 108, 99]})
    (summary,), (line,) = verdict.summary, verdict.comparisons
    assert summary.startswith(f"No single best arm on {TASK}: lstm (")
    assert line.startswith(f"not separable on {TASK}: lstm and gru (difference 3 [")
    assert line.endswith("; about 100 more seeds per arm would tell")


def test_seeds_that_are_there_already_are_not_asked_for_again() -> None:
    """A difference of one standard deviation wants 17 runs per arm (docs/statistics.md)."""
    scores = [-1.0, -1.0, 0.0, 1.0, 1.0]  # of deviation 1
    verdict = judged({"a": scores, "b": [score + 1 for score in scores]})
    assert verdict.comparisons[0].endswith("; about 12 more seeds per arm would tell")


def test_no_number_of_seeds_is_promised_for_next_to_no_difference() -> None:
    verdict = judged({"a": [0, 100, 50], "b": [0.1, 100.1, 50.1]})
    assert "no number of seeds up to 1,000 would tell" in verdict.comparisons[0]
    verdict = judged({"a": [5, 5, 5], "b": [5, 5, 5]})
    assert "no number of seeds" in verdict.comparisons[0]


def test_equal_runs_of_each_arm_differ_for_certain() -> None:
    verdict = judged({"a": [500, 500, 500], "b": [9, 9, 9]})
    assert verdict.comparisons[0].startswith(f"a is better than b on {TASK}: 500 against 9,")


def test_runs_that_solve_or_fail_are_compared_by_success_rate() -> None:
    verdict = judged({"none": [9] * 8, "lstm": [500] * 7 + [20]}, baseline="none")
    assert verdict.summary[0] == (f"lstm is best on {TASK}: 7 of 8 runs solve it; better than none")
    assert verdict.comparisons[0].startswith(
        f"lstm is better than none on {TASK}: 7 of 8 against 0 of 8 runs solve it, "
        "difference 88 points [40, 98] (95%), 8 runs each"
    )
    (limit,) = (line for line in verdict.limits if "success rates" in line)
    assert limit.endswith("scores: 20, 500, 500, 500, 500, 500, 500 and 500")


def test_few_successes_are_not_separable() -> None:
    verdict = judged({"none": [9, 9, 9, 9], "lstm": [500, 500, 5, 5]})
    assert verdict.comparisons[0].startswith(
        f"not separable on {TASK}: lstm and none (2 of 4 and 0 of 4 runs solve it"
    )


def test_every_run_of_an_arm_may_be_better_before_all_of_them_solve_the_task() -> None:
    """By success rates alone, 3 of 5 against 0 of 5 would not be told apart."""
    verdict = judged({"none": [41, 42, 43, 43, 44], "gru": [200, 336, 500, 500, 500]})
    assert verdict.comparisons[0].startswith(
        f"gru is better than none on {TASK}: 3 of 5 against 0 of 5 runs solve it, difference 60"
    )


def test_one_lucky_run_does_not_make_the_best_arm() -> None:
    """Scores that scatter are compared by their means, whatever their best run solves."""
    verdict = judged({"a": [470, 471, 472, 473, 474], "b": [200, 280, 300, 420, 480]})
    assert verdict.summary[0].startswith(("a is best", f"No single best arm on {TASK}: a ("))


def test_comparisons_are_corrected_for_their_number() -> None:
    """At p = 0.03 a single difference is significant; as one of many it is not."""
    a, b = [0.0, 1.0, 2.0, 3.0, 4.0], [2.6, 3.6, 4.6, 5.6, 6.6]
    alone = judged({"a": a, "b": b})
    assert alone.comparisons[0].startswith("b is better than a")
    among = judged({"a": a, "b": b, **{f"c{index}": b for index in range(4)}}, baseline="a")
    assert all(line.startswith("not separable") for line in among.comparisons)
    assert "p-values are corrected for 5 comparisons (Holm); intervals are not" in among.limits


def test_the_numbers_of_runs_stand_in_the_order_of_the_arms() -> None:
    verdict = judged({"a": [1, 2], "b": [101, 102, 103]})
    assert verdict.comparisons[0].startswith("b is better than a")
    assert verdict.comparisons[0].endswith(", 3 and 2 runs")


def test_one_run_is_not_compared() -> None:
    verdict = judged({"a": [1.0, 2.0, 3.0], "b": [4.0]})
    assert verdict.summary == [
        f"Too few runs on {TASK} to compare: arms need at least 2 finished seeds",
    ]
    assert verdict.comparisons == []
    assert f"not compared, with fewer than 2 runs: b on {TASK}" in verdict.limits


def test_the_baseline_limits_the_pairs() -> None:
    results = compare(*memory_study())
    assert len(contrasts(results, "none")) == 3
    assert len(contrasts(results, None)) == 6


def test_many_arms_are_compared_with_the_best_alone() -> None:
    runs = [run(f"a{arm}", seed, arm * 10.0 + seed) for arm in range(14) for seed in range(3)]
    pairs = contrasts(compare(runs, Plan()), None)
    assert len(pairs) == 13
    assert {pair.first.arm for pair in pairs} == {"a13"}


def test_below_eight_tasks_nothing_is_averaged() -> None:
    verdict = judge(compare(*memory_study(tasks=[f"task{index}" for index in range(7)])))
    assert len(verdict.summary) == 7
    assert "nothing is averaged over 7 tasks: that needs at least 8" in verdict.limits


EIGHT = [f"task{index}" for index in range(8)]


def test_eight_tasks_are_averaged() -> None:
    runs, plan = memory_study(tasks=EIGHT)
    verdict = judge(compare(runs, plan))
    assert len(verdict.summary) == 1
    assert " over 8 tasks" in verdict.summary[0]
    assert len(verdict.comparisons) == 3
    assert verdict.comparisons[0].startswith("lstm is better than none: a run of lstm beats one")
    assert any("normalized by the lowest and the highest mean" in line for line in verdict.limits)


def test_scores_are_normalized_by_the_lowest_and_highest_mean_of_a_task() -> None:
    runs, plan = memory_study(tasks=EIGHT)
    kept = [each for each in runs if (each.task, each.arm) != ("task3", "rnn")]
    results = compare(kept, plan)
    verdict = judge(results)
    across = verdict.across
    assert across is not None
    gru = next(arm for arm in across.arms if arm.arm == "gru")
    scores = []
    for task in EIGHT:
        low, *_, high = sorted(arm.mean for arm in results.of_task(task) if arm.n)
        own = [each.last or 0.0 for each in kept if (each.task, each.arm) == (task, "gru")]
        scores += [(score - low) / (high - low) for score in own]
    assert gru.iqm == pytest.approx(np.sort(scores)[10:30].mean())
    assert gru.gap == pytest.approx(np.maximum(0, 1 - np.array(scores)).mean())
    assert gru.iqm_interval.low < gru.iqm < gru.iqm_interval.high
    assert "rnn" not in [arm.arm for arm in across.arms]
    assert "left out, without runs on some tasks: rnn" in verdict.limits


def eight(scores: dict[str, list[float]], **changes):
    return judge(
        compare(
            [
                run(arm, seed, score, task=task)
                for task in EIGHT
                for arm, values in scores.items()
                if (arm, task) != ("lacking", "task3")
                for seed, score in enumerate(values)
            ],
            Plan(**changes),
        )
    )


def test_the_better_of_two_arms_is_the_one_that_beats_the_other_more_often() -> None:
    """Even where the interquartile mean says otherwise: then there is no single best arm."""
    verdict = eight({"even": [10.0] * 6, "wide": [11, 11, 11, 11, -60, -60]})
    assert verdict.across is not None
    assert [arm.arm for arm in verdict.across.arms] == ["even", "wide"]
    (line,) = verdict.comparisons
    assert line.startswith("wide is better than even: a run of wide beats one of even with a")
    assert " of 67% [" in line
    (summary,) = verdict.summary
    assert summary.startswith("No single best arm over 8 tasks: even (")
    assert summary.endswith(" more often loses to a run of wide")


def test_without_two_arms_that_have_all_tasks_each_task_has_its_verdict() -> None:
    verdict = eight({"a": [10, 11, 12], "lacking": [0, 1, 2]})
    assert verdict.across is None
    assert len(verdict.summary) == 8
    assert verdict.summary[0].startswith("a is best on task0: ")
    assert (
        "nothing is averaged over 8 tasks: fewer than two arms have runs on all of them"
        in verdict.limits
    )


@pytest.mark.parametrize("tasks", [1, 8])
def test_the_best_arm_is_found_among_all_pairs_and_the_report_says_so(tasks: int) -> None:
    runs, plan = memory_study(tasks=EIGHT[:tasks])
    limits = judge(compare(runs, plan)).limits
    assert "p-values are corrected for 3 comparisons (Holm); intervals are not" in limits
    assert any("p-values are corrected for all 6 pairs" in line for line in limits)


def test_many_arms_do_not_make_an_endless_sentence() -> None:
    verdict = judged({f"a{arm}": [10.0 + arm / 99, 11, 12] for arm in range(30)})
    assert " is not separable from a28, a27, " in verdict.summary[0]  # the closest first
    assert " and 25 more (no number of seeds" in verdict.summary[0]
    assert len(verdict.comparisons) == 29
