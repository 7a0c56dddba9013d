"""Arms that are tuned first: equally many trials each, on other seeds."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.comparison import compare
from analysis.irregularities import irregularities
from analysis.studies.engines.local import LocalEngine
from analysis.studies.execution import Pool, driving
from analysis.studies.ranges import read_ranges
from analysis.studies.searching import searched_arm, sensitivity, tune_arms
from analysis.studies.session import study_results
from analysis.studies.study import Study
from conf.checking.refusals import InvalidConfiguration
from conf.composing.composer import Composer
from tests.analysis.synthetic import run


def study(directory: Path, keys: dict[str, str]) -> Study:
    tuning = {"trials": 2, "seeds": [1000], "keys": keys}
    options = {
        **{"name": "mine", "question": "", "tasks": {"cartpole": ["task=cartpole"]}},
        **{"arms": {"none": ["memory=none"], "gru": ["memory=gru"]}, "seeds": [0]},
        **{"baseline": None, "total_env_steps": 100, "metric": "last"},
        **{"protocol": "tuned", "tuning": tuning},
    }
    return Study(options, directory)


def pool(place: Path) -> Pool:
    return Pool(lambda: LocalEngine({"jobs": 2}), place / "study")


def test_every_arm_gets_its_trials_and_then_its_best_values(place: Path) -> None:
    pytest.importorskip("optuna")
    made = study(place / "study", {"agent.discount": "interval(0.9, 0.99)"})
    with driving(place / "study") as stop, pool(place) as engines:
        remarks = tune_arms(made, engines, stop)
    trials = sorted((place / "study" / "tuning").glob("cartpole/*/*/trial*/seed*"))
    assert [path.parts[-4] for path in trials] == ["gru"] * 2 + ["none"] * 2
    for job in made.jobs():
        (discount,) = (word for word in job.words if word.startswith("agent.discount="))
        assert job.seed == 0
        assert any(discount in remark and job.arm in remark for remark in remarks)
    assert remarks[0].endswith("the best of 2 trials on seeds 1000")


def test_arms_that_differ_in_what_was_tuned_say_so_already(place: Path) -> None:
    made = study(place / "study", {"agent.discount": "interval(0.9, 0.99)"})
    plan = study_results(made, metric=None, status="finished", remarks=()).plan
    runs = [
        run(arm, 0, 1.0, task="cartpole", choices={"memory": arm, "agent.discount": discount})
        for arm, discount in (("none", 0.9), ("gru", 0.99))
    ]
    assert not [line for line in irregularities(compare(runs, plan)) if "more than" in line]


def test_trials_that_failed_are_not_counted(place: Path) -> None:
    """The small script fails with 13 epochs."""
    pytest.importorskip("optuna")
    made = study(place / "study", {"agent.num_epochs": "choice(13, 4)"})
    made.options["tuning"]["trials"] = 4
    with driving(place / "study") as stop, pool(place) as engines:
        remarks = tune_arms(made, engines, stop)
    stored = json.loads((place / "study/tuning/cartpole/none/search.json").read_text())
    states = [trial["state"] for trial in stored["trials"]]
    assert 0 < states.count("fail") < 4
    assert f"epochs=4, the best of {4 - states.count('fail')} trials" in remarks[0]


def test_a_range_must_fit_every_arm(place: Path) -> None:
    made = study(place / "study", {"memory.hidden_size": "choice(8, 16)"})
    with driving(place / "study") as stop, pytest.raises(InvalidConfiguration) as refusal:
        tune_arms(made, Pool(lambda: pytest.fail("nothing may run"), place / "study"), stop)
    first = "study.tuning.keys.memory.hidden_size in arm none: memory.hidden_size: unknown key"
    assert refusal.value.problems[0].startswith(first)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("agent.num_epochs", "interval(1, 8)", "agent.num_epochs: expected an integer >= 1"),
        ("agent.discount", "interval(0.9, 2)", "agent.discount: expected a number"),
        ("agent.discout", "choice(0.9, 0.8)", "did you mean agent.discount?"),
    ],
)
def test_a_range_is_checked_before_a_search(key: str, text: str, message: str) -> None:
    space = read_ranges("tuning.keys", {key: text})
    with pytest.raises(InvalidConfiguration) as refusal:
        searched_arm(Composer("config"), ["task=cartpole"], space)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        (["seed=3"], "", "seed: is set by the search; use tuning.seeds"),
        (["run_dir=a"], "", "run_dir: is set by the search; use directory"),
        (["tracking.progress=true"], "", "tracking.progress: is set by the search"),
        ([], "choice(1, 2)", "seed: is set by the search; use tuning.seeds"),
    ],
)
def test_what_the_search_sets_is_refused(words: list[str], text: str, message: str) -> None:
    """Else every trial would fail."""
    space = read_ranges("tuning.keys", {"seed": text} if text else {})
    with pytest.raises(InvalidConfiguration) as refusal:
        searched_arm(Composer("config"), words, space)
    assert refusal.value.problems == [message]


def search(*scores: float | None) -> dict[str, Any]:
    """The summary of a search of `x` in 0, 1, 2, ..."""
    return {"trials": [{"values": {"x": x}, "score": score} for x, score in enumerate(scores)]}


@pytest.mark.parametrize(
    ("searches", "expected"),
    [
        ([search(0, 5, 10)], None),
        ([search(0, 5, 10), search(0, 1, 2)], 0.0),  # the same setting is the best everywhere
        ([search(0, 8, 10), search(2, 1, 0)], 1 - (0.8 + 0.5) / 2),
        ([search(0, 10), search(2, 0)], 0.5),
        ([search(None, 10), search(2, None)], None),  # no setting in common
        ([search(3, 3), search(3, 3)], 0.0),
    ],
)
def test_sensitivity_is_what_one_setting_for_all_tasks_loses(
    searches: list[dict[str, Any]], expected: float | None
) -> None:
    assert sensitivity(searches) == (None if expected is None else pytest.approx(expected))
