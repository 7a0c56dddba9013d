"""`compare.py` as it is typed: what it prints, skips and refuses, and how quickly it starts."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

import compare
from conf.composing.command_line import InvalidConfiguration, load, refusals_end

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch) -> Path:
    """Two runs of one choice and one of another, below `runs`, and something damaged."""
    monkeypatch.chdir(tmp_path)
    for name, seed, words, score in (
        ("a", 0, ["memory=gru"], 10.0),
        ("b", 1, ["memory=gru"], 12.0),
        ("c", 0, ["total_env_steps=9"], 3.0),
    ):
        directory = tmp_path / "runs" / name
        directory.mkdir(parents=True)
        config = OmegaConf.to_container(load([*words, f"seed={seed}"]))
        (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        summary = {
            "status": "finished",
            "env_steps": 100,
            "training_seconds": 2.0,
            "steps_per_second": 50.0,
            "parameters": {"total": 7},
            "evaluation": {"return_mean": score},
        }
        (directory / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "runs" / "d").mkdir()
    (tmp_path / "runs" / "d" / "config.yaml").write_text("a: [")
    return tmp_path


def test_it_prints_a_table_the_verdict_and_what_it_skipped(runs, capsys) -> None:
    assert compare.compare(load([], "compare")) == 3
    printed, errors = capsys.readouterr()
    lines = printed.splitlines()
    assert lines[0].startswith("CartPole-v1   score: mean return of the final evaluation")
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["memory", "total_env_steps", "score"],
        ["GRU", "100,000", "11"],
        ["NoMemory", "9", "3"],
    ]
    assert "  Too few runs on CartPole-v1 to compare: arms need at least 2 finished seeds" in lines
    assert any(line.startswith("  CartPole-v1: budgets differ") for line in lines)
    assert errors.startswith("skipped runs/d: ")
    assert len(errors.splitlines()) == 1


def test_a_report_is_written_where_it_is_wanted(runs, capsys) -> None:
    compare.compare(load(["report=here", "metric=last"], "compare"))
    printed, errors = capsys.readouterr()
    assert errors.splitlines()[-1] == "report: here/report.html"
    assert "no event files" in printed  # of runs that logged nothing
    page = (runs / "here" / "report.html").read_text()
    assert "GRU" in page
    assert (runs / "here" / "report.md").exists()
    assert "skipped runs/d: config.yaml is damaged" in page


def test_a_report_that_cannot_be_written_is_one_line(runs, capsys) -> None:
    (runs / "file").touch()
    with pytest.raises(SystemExit) as caught, refusals_end():
        compare.compare(load(["report=file"], "compare"))
    assert caught.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("file: no report was written: ")


def test_a_column_that_no_run_has_is_told(runs, capsys) -> None:
    compare.compare(load(["columns=[memory,agnt.discount]"], "compare"))
    assert capsys.readouterr().err.splitlines()[1:] == ["columns: no run has a key agnt.discount"]


def test_no_runs_are_refused_in_one_line(runs, capsys) -> None:
    with pytest.raises(SystemExit) as caught, refusals_end():
        compare.compare(load(["runs=elsewhere/**"], "compare"))
    assert caught.value.code == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    (line,) = errors.splitlines()
    assert line.startswith("runs=elsewhere/**: no runs there")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("run=runs", "run: unknown key; did you mean runs?"),
        ("runs=3", "runs: expected a path or a list of paths, got 3"),
        ("metric=max", "metric: expected one of auto, last, best, mean, got 'max'"),
        ("status=some", "status: expected finished or all, got 'some'"),
        ("columns=[memory]", None),
        ("columns=all", None),
        ("report=somewhere", None),
        ("runs=[]", None),
        ("runs=[a,b]", None),
    ],
)
def test_words_are_checked(word: str, message: str | None) -> None:
    if message is None:
        load([word], "compare")
        return
    with pytest.raises(InvalidConfiguration) as caught:
        load([word], "compare")
    assert str(caught.value) == message


def test_a_command_line_starts_quickly_and_leaves_nothing(runs) -> None:
    """In a process of its own: nothing that is slow to load is loaded."""
    program = (
        "import sys, runpy; sys.argv = ['compare.py', 'runs=runs/**'];"
        f"sys.path.insert(0, {str(ROOT)!r});"
        f"runpy.run_path({str(ROOT / 'compare.py')!r}, run_name='__main__');"
        "slow = ('torch', 'gymnasium', 'matplotlib', 'pandas', 'scipy');"
        "print([name for name in slow if name in sys.modules])"
    )
    before = sorted(runs.rglob("*"))
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert finished.stdout.splitlines()[-1] == "[]"
    assert finished.stdout.startswith("CartPole-v1   score: ")
    assert sorted(runs.rglob("*")) == before


TINY = """
question: Does memory help?
tasks:
  cartpole:
    - task=cartpole
    - evaluation.interval=100
    - evaluation.episodes=1
    - evaluation.final_episodes=1
    - agent.rollout_length=10
    - checkpoint.interval=50
arms:
  none: [memory=none]
  gru: [memory=gru, memory.hidden_size=4]
seeds: [0, 1]
total_env_steps: 200
"""


def command(place: Path, *words: str) -> list[str]:
    (place / "mine" / "study").mkdir(parents=True, exist_ok=True)
    (place / "mine" / "study" / "tiny.yaml").write_text(TINY)
    script = str(ROOT / "compare.py")
    return [sys.executable, script, "--config-dir=mine", "study=tiny", *words]


def scores(report: Path) -> list[tuple[str, ...]]:
    """The numbers that no clock decides, of every run."""
    kept = ("arm", "seed", "score", "last", "best", "area", "env_steps", "status")
    with (report / "results.csv").open(newline="") as file:
        return [tuple(row[key] for key in kept) for row in csv.DictReader(file)]


@pytest.mark.faults
def test_a_study_ends_as_if_its_driver_had_not_been_killed(tmp_path: Path) -> None:
    """Typed again, it finishes what is missing; typed a third time, it runs nothing."""
    whole = subprocess.run(
        command(tmp_path, "directory=whole"), cwd=tmp_path, capture_output=True, text=True
    )
    assert whole.returncode == 0, whole.stderr
    assert whole.stderr.count("[") == 4
    with subprocess.Popen(command(tmp_path, "directory=again"), cwd=tmp_path) as driver:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "again").glob("*/*/*/checkpoints/last/manifest.json")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        driver.kill()
    for expected, more in ((4, []), (0, ["probe=true"])):
        words = command(tmp_path, "directory=again", *more)
        again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert scores(tmp_path / "again") == scores(tmp_path / "whole")
        assert again.stderr.count("]") <= expected
        assert again.stderr.count(": nothing is hidden") == 4 * len(more)
    assert [status for *_, status in scores(tmp_path / "whole")] == ["finished"] * 4
    logs = sorted(path.name for path in (tmp_path / "whole" / "logs").iterdir())
    assert logs == [f"cartpole-{arm}-seed{seed}.txt" for arm in ("gru", "none") for seed in (0, 1)]


def test_a_study_with_an_invalid_arm_runs_nothing(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    command(tmp_path)
    words = ["study=value_losses_ppo_acrobot", "+study.arms.c51=['value_head=c51']"]
    with pytest.raises(SystemExit) as caught, refusals_end():
        compare.compare(load(words, "compare"))
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("study.arms.c51: value_head: expected mse, huber")
    assert not Path("runs").exists()
