"""Searches: ranges as Hydra writes them, trials that survive their driver, a result that runs."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.studies.engines.local import LocalEngine
from analysis.studies.execution import Pool
from analysis.studies.ranges import read_ranges, with_ranges
from analysis.studies.searching import write_experiment
from analysis.studies.study import Arm
from analysis.studies.tuning import Search
from conf.checking.refusals import InvalidConfiguration
from conf.composing.command_line import load
from conf.composing.composer import Composer
from conf.composing.configuration import configure
from training.process.signals import StopRequest
from training.runs.refusal import Refusal

ROOT = Path(__file__).resolve().parents[3]
optuna = pytest.importorskip("optuna")
Choice, Integer, Number = (
    getattr(optuna.distributions, f"{kind}Distribution") for kind in ("Categorical", "Int", "Float")
)
UNIT = {"x": Number(0.0, 1.0)}


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("interval(0.1, 1)", Number(0.1, 1)),
        ("tag(log, interval(1e-4, 1e-2))", Number(1e-4, 1e-2, log=True)),
        ("int(interval(1, 8))", Integer(1, 8)),
        ("interval(1, 8)", Number(1.0, 8.0)),
        ("range(1, 6)", Integer(1, 5)),
        ("tag(log, range(1, 6))", Integer(1, 5, log=True)),
        ("range(2)", Integer(0, 1)),
        ("range(0, 6, 2)", Choice(("0", "2", "4"))),
        ("choice(relu, tanh)", Choice(("relu", "tanh"))),
        ("choice([64], [64,64])", Choice(("[64]", "[64,64]"))),
    ],
)
def test_a_range_is_read_as_hydra_writes_it(text: str, distribution) -> None:
    assert read_ranges("keys", {"agent.key": text}) == {"agent.key": distribution}


@pytest.mark.parametrize(
    "text",
    [
        *("interval(2, 1)", "tag(log, interval(0, 1))", "3", "choice(", "interval(a, b)"),
        *("range(2, 2)", "range(3, 1)", "range(0, 0, 2)", "tag(log, range(0, 3))"),
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"keys\.a: cannot read .*expected interval"):
        read_ranges("keys", {"a": text})


def test_ranges_of_a_command_line_are_gathered() -> None:
    words = ["task=cartpole", "agent.discount=interval(0.9,0.99)", "agent.num_epochs=4,8", "-h"]
    *others, gathered = with_ranges(words)
    assert others == ["task=cartpole", "-h"]
    config = load([*others[:1], gathered], "tune")
    assert config.tuning["keys"] == {
        "agent.discount": "interval(0.9,0.99)",
        "agent.num_epochs": "choice(4,8)",
    }
    assert with_ranges(["seed=1", "extractor.hidden_sizes=[1,2]"]) == [
        "seed=1",
        "extractor.hidden_sizes=[1,2]",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "tuning.keys: expected at least one range"),
        (["tuning.keys={a: 'choice(1,2)'}", "tuning.seeds=[]"], "tuning.seeds: expected at least"),
        (["tuning.trails=3"], "tuning.trails: unknown key; did you mean tuning.trials?"),
    ],
)
def test_what_cannot_be_searched_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        load(words, "tune")
    assert message in str(refusal.value)


@pytest.fixture
def search(place: Path) -> Callable[..., Search]:
    """Makes a search of `x`, whose score is x + 1 over the seeds 0 and 1."""

    def make(*words: str, steps: int = 100, interval: int = 0, **changes: Any) -> Search:
        arm = Arm("task", "arm", words, "0a1b2c", steps, interval)
        options = {"trials": 3, "seeds": [0, 1], "metric": "last", "space": UNIT} | changes
        return Search(arm, options["space"], place / "search", options)

    return make


@pytest.fixture
def run() -> Callable[..., None]:
    def run_search(search: Search, stop: StopRequest | None = None) -> None:
        with Pool(lambda: LocalEngine({"jobs": 4}), search.directory) as pool:
            search.run(pool, StopRequest() if stop is None else stop)

    return run_search


def runs_of(search: Search) -> list[Path]:
    return sorted(search.directory.glob("*/trial*/seed*"))


def states(search: Search) -> list[str]:
    return [trial["state"] for trial in search.summary()["trials"]]


def test_a_trial_is_the_mean_over_its_seeds_and_the_best_one_wins(search, run, capsys) -> None:
    first = search()
    run(first)
    stored = json.loads((first.directory / "search.json").read_bytes())
    assert stored == first.summary()
    values = [trial["values"]["x"] for trial in stored["trials"]]
    assert [trial["score"] for trial in stored["trials"]] == pytest.approx([x + 1 for x in values])
    assert stored["best"]["values"] == {"x": max(values)}
    assert stored["importances"] == {}  # of three trials
    assert len(runs_of(first)) == 6
    assert len(capsys.readouterr().out.splitlines()) == 3
    run(search())
    assert capsys.readouterr().out == ""  # nothing is missing
    more = search(trials=4)
    run(more)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert len({trial["values"]["x"] for trial in more.summary()["trials"]}) == 4
    assert more.summary()["importances"] == {"x": 1.0}


def test_another_space_is_another_search(search, run) -> None:
    run(search(trials=1))
    other = search(trials=1, seeds=[0], space={"x": Number(2, 3)})
    run(other)
    assert len(runs_of(other)) == 3
    assert other.summary()["best"]["values"]["x"] >= 2


def test_scores_of_other_seeds_budgets_or_metrics_are_not_reused(search, run) -> None:
    """Else seeds that were tuned on could become those of the test."""
    run(search(trials=1))
    for count, change in enumerate(({"seeds": [0, 7]}, {"steps": 90}, {"metric": "best"}), 2):
        run(search(trials=1, **change))
        assert len(runs_of(search(trials=1))) == 2 * count


def test_fewer_trials_than_are_stored_are_refused(search, run) -> None:
    """Else one arm would have the best of more trials than another."""
    run(search(trials=2))
    with pytest.raises(Refusal, match=r"1 trials are fewer than the 2 of the search in .*search;"):
        search(trials=1)


def test_a_trial_whose_values_were_not_all_stored_gets_the_others(search, run) -> None:
    """Its driver was killed while it drew them."""
    begun = search(trials=1)
    begun._study.ask()
    run(begun)
    (trial,) = begun.summary()["trials"]
    assert (trial["state"], list(trial["values"])) == ("complete", ["x"])


def test_an_interrupted_search_resumes_its_open_trials(search, run, until, place) -> None:
    begun, stop = search("way=waits", trials=2), StopRequest()

    def interrupt() -> None:
        try:
            until(lambda: len(list(place.glob("search/*/trial*/seed*/sessions.txt"))) == 4)
        finally:
            stop.ask(signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Refusal, match="the same command resumes"):
        run(begun, stop)
    thread.join()
    again = search("way=waits", trials=2)
    run(again)
    assert states(again) == ["complete", "complete"]
    assert {path.joinpath("sessions.txt").read_text() for path in runs_of(again)} == {
        "begun\nresumed\n"
    }


def test_a_failed_trial_has_no_score_and_is_replaced_by_the_next_session(
    search, run, capsys
) -> None:
    with pytest.raises(Refusal, match="no trial has a score"):
        run(search("way=fails", trials=2))
    assert "arm trial 0: failed: task-arm-trial0-seed" in capsys.readouterr().out
    repaired = search(trials=2)
    run(repaired)
    assert states(repaired) == ["fail", "fail", "complete", "complete"]


def test_a_trial_below_the_median_stops_early(search, run) -> None:
    """Optuna lets the first five be."""
    made = search("way=evaluates", trials=10, interval=50)
    run(made)
    assert states(made)[:5] == ["complete"] * 5
    trials = made.summary()["trials"]
    pruned = [trial["values"]["x"] for trial in trials if trial["state"] == "pruned"]
    assert pruned
    assert max(pruned) < made.summary()["best"]["values"]["x"]


@pytest.mark.parametrize(
    "words",
    [
        ["task=cartpole_no_velocity", "memory=gru", "memory.hidden_size=8"],
        ["experiment=minatar_breakout", "optimizer=adamw", "agent.discount=0.9"],
        ["extractor=autoencoder", "auxiliary=[]", "critic.memory=null", "pomdp=mask_velocity"],
    ],
)
def test_an_experiment_is_the_command_line_that_it_was_written_from(
    words: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "experiment" / "best.yaml"
    write_experiment(path, words, composer=Composer("config"), comment=["how it was found"])
    assert path.read_text().startswith("# @package _global_\n# how it was found\ndefaults:\n")
    found, given = Composer("config", str(tmp_path)), Composer("config")
    written = configure(found, ["experiment=best", "seed=3"]).typed
    expected = configure(given, [*words, "seed=3"]).typed
    for config in (written, expected):
        del config["run_dir"], config["task"]["name"]
    assert written == expected


@pytest.mark.slow
def test_tune_as_it_is_typed(tmp_path: Path) -> None:
    words = [
        *("task=cartpole", "total_env_steps=200", "evaluation.interval=100"),
        *("evaluation.episodes=1", "evaluation.final_episodes=1", "agent.rollout_length=10"),
        *("optimizer.learning_rate=tag(log, interval(1e-4, 1e-2))", "agent.num_epochs=1,2"),
        *("tuning.trials=2", "tuning.seeds=[5]", "directory=found"),
    ]
    script = [sys.executable, str(ROOT / "tune.py")]
    done = subprocess.run([*script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[-1]
    assert command == "python train.py --config-dir found experiment=best"
    flags = command.split()[2:]
    trained = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert trained.returncode == 0, trained.stderr
    assert "finished after 240 steps" in trained.stdout or "finished" in trained.stdout
    again = subprocess.run([*script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout.splitlines() == done.stdout.splitlines()[-2:]
