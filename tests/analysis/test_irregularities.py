"""Everything odd is named: never a crash, never dropped in silence."""

from analysis.comparison import Plan, compare
from analysis.irregularities import irregularities
from analysis.runs import RunRecord
from tests.analysis.synthetic import TASK, memory_study, record, run


def told(runs: list[RunRecord], **changes) -> list[str]:
    return irregularities(compare(runs, Plan(**changes)))


def three(arm: str, **changes) -> list[RunRecord]:
    return [run(arm, seed, 1.0 + seed, **changes) for seed in range(3)]


def choices(**changes) -> dict:
    return {"choices": {**record().choices, **changes}}


def test_nothing_odd_is_nothing_told() -> None:
    assert irregularities(compare(*memory_study())) == []


def test_runs_of_a_study_that_do_not_count_are_named_with_their_reason() -> None:
    runs, plan = memory_study()
    failed = run("rnn", 2, None, status="failed", problem="failed at 5 of 100,000 steps")
    kept = [each for each in runs if (each.arm, each.seed) not in {("rnn", 2), ("gru", 4)}]
    assert irregularities(compare([*kept, failed], plan)) == [
        f"rnn on {TASK}: seed 2 does not count: failed at 5 of 100,000 steps",
        f"gru on {TASK}: seed 4 not begun",
    ]


def test_unfinished_runs_that_nobody_planned_are_counted() -> None:
    runs = [*three("a"), run("b", 0, None, status="running", problem="running at 1 of 2 steps")]
    assert told(runs) == ["1 unfinished run is left out; status=all shows them"]


def test_unfinished_runs_that_are_asked_for_are_named() -> None:
    runs = [*three("a"), run("b", 0, None, status="running", problem="running at 1 of 2 steps")]
    assert told(runs, status="all") == [
        f"b on {TASK}: seed 0 does not count: running at 1 of 2 steps: no score by metric=last"
    ]


def test_repeated_seeds_are_named(tmp_path) -> None:
    runs = [*three("a"), run("a", 1, 2.0, directory=tmp_path / "again")]
    (line,) = told(runs)
    assert line.startswith(f"a on {TASK}: seed 1 does not count: run more than once; ")


def test_intervals_that_are_not_to_be_trusted_are_told() -> None:
    runs = [run(f"a{arm:02}", 0, 1.0, **choices(memory="A")) for arm in range(20)]
    assert told(runs[:1]) == [
        f"a00 on {TASK}: 1 of at least 3 runs: too few for an interval of the mean"
    ]
    assert len(told(runs)) == 9
    assert told(runs)[-1] == "12 more arms whose intervals have such a caveat"
    same = [run("a", seed, 500.0) for seed in range(3)]
    assert "all 3 runs scored the same" in told(same)[0]


def test_budgets_that_differ_are_told_and_pretraining_counts() -> None:
    assert told([*three("a"), *three("b", budget=7_000)]) == [
        f"{TASK}: budgets differ: total_env_steps is 7,000 or 100,000; compare scores of equal "
        "budgets",
    ]
    assert told([*three("a"), *three("b", budget=100_200)]) == []  # pre-training ends later
    assert told([*three("a"), *three("b", budget=100_500, pretraining_env_steps=500)]) == [
        f"{TASK}: budgets differ: total_env_steps with pre-training is 100,000 or 100,500; compare "
        "scores of equal budgets",
        f"{TASK}: env steps and budgets count those of pre-training, where there was any: 500",
    ]


def test_arms_that_differ_in_more_than_they_say_are_named() -> None:
    words = {"gru": ["memory=gru"], "none": ["memory=none"]}
    runs = [
        *three("gru", **choices(memory="GRU", **{"memory.hidden_size": 8})),
        *three("none", **choices(memory="NoMemory", **{"agent.clip_range": 0.1})),
    ]
    assert told(runs, words=words) == [
        f"{TASK}: arms differ in more than they say: agent.clip_range is 0.2 (gru) or 0.1 (none)"
    ]
    assert told(runs, words={"gru": ["experiment=a"], "none": ["experiment=b"]}) == []


def test_runs_of_one_arm_with_different_configurations_are_named() -> None:
    runs = [*three("a"), run("a", 3, 1.0, **choices(memory="A", **{"agent.clip_range": 0.3}))]
    assert told(runs) == [f"a on {TASK}: its runs differ in agent.clip_range: 0.2 or 0.3"]


def test_other_versions_are_told() -> None:
    runs = [*three("a"), run("a", 3, 1.0, versions={"python": "3.13.5", "torch": "2.12.0"})]
    assert told(runs) == ["runs were made with torch 2.13.0 (3 runs) and 2.12.0 (1 run)"]


def test_damaged_event_files_are_told() -> None:
    runs = three("a")
    damaged = run("a", 3, 45.0, notes=("x: a record is damaged",))
    assert told([*runs, damaged]) == ["x: a record is damaged"]
