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
    assert verdict.summary == (
        f"lstm is best on {TASK}: 471.0 [468.2, 473.8], 5 runs; better than none",
    )
    assert verdict.comparisons == (
        f"lstm is better than none on {TASK}: 471.0 against 45.0, difference 426.0 "
        "[422.7, 429.3] (95%), 5 runs each",
    )


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
        f"lstm solves {TASK} more often than none: 7 of 8 against 0 of 8, "
        "difference 88 points [40, 98] (95%), 8 runs each"
    )
    (limit,) = (line for line in verdict.limits if "success rates" in line)
    assert limit.endswith("scores: 20, 500, 500, 500, 500, 500, 500 and 500")


def test_few_successes_are_not_separable() -> None:
    verdict = judged({"none": [9, 9, 9, 9], "lstm": [500, 500, 20, 20]})
    assert verdict.comparisons[0].startswith(
        f"not separable on {TASK}: lstm and none (2 of 4 and 0 of 4 runs solve it"
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


def test_one_run_is_not_compared() -> None:
    verdict = judged({"a": [1.0, 2.0, 3.0], "b": [4.0]})
    assert verdict.summary == (
        f"Too few runs on {TASK} to compare: arms need at least 2 finished seeds",
    )
    assert verdict.comparisons == ()
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


def test_normalized_scores_of_known_bounds() -> None:
    runs, plan = memory_study(tasks=EIGHT, bounds=dict.fromkeys(EIGHT, (0.0, 500.0)))
    kept = [each for each in runs if (each.task, each.arm) != ("task3", "rnn")]
    across = judge(compare(kept, plan)).across
    assert across is not None
    none = next(arm for arm in across.arms if arm.arm == "none")
    scores = np.sort([each.record.last or 0.0 for each in runs if each.arm == "none"])
    assert none.iqm == pytest.approx(scores[10:30].mean() / 500)
    assert none.gap == pytest.approx(1 - scores.mean() / 500)
    assert none.iqm_interval.low < none.iqm < none.iqm_interval.high
    assert across.scale == "the bounds of each task"
    assert "rnn" not in [arm.arm for arm in across.arms]
    assert across.incomplete == ("rnn has no runs on some tasks, and is left out",)
