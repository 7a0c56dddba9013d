"""Finding runs: all there are, each once; what is damaged is told and skipped."""

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from analysis.runs import EVALUATIONS, NO_CURVE, Curve, Damaged, RunRecord, find_runs, read_run


def names(places: list[str]) -> list[str]:
    runs, skipped = find_runs(places)
    assert skipped == []
    return [run.directory.name for run in runs]


@pytest.fixture
def tree(leave, tmp_path: Path, monkeypatch) -> Path:
    for name in ("runs/CartPole-v1/a/1", "runs/CartPole-v1/b/2", "runs/Pendulum-v1/a/3", "other/4"):
        directory = leave(name)
        (directory / ".hydra").mkdir()
        (directory / ".hydra" / "config.yaml").write_text("a: 1")
        (directory / "checkpoints" / "last").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["runs"], "123"),
        (["runs/**"], "123"),
        (["runs/*"], "123"),
        (["runs/CartPole*/**"], "12"),
        (["runs/*/a"], "13"),
        (["runs/CartPole-v1/b/2"], "2"),
        (["runs/**", "runs", "runs/CartPole-v1"], "123"),
        (["other", "runs/Pendulum-v1/**"], "43"),
        (["."], "4123"),
    ],
)
def test_a_directory_or_a_pattern_finds_every_run_once(tree, places, expected) -> None:
    assert "".join(names(places)) == expected


def test_places_that_are_not_there(tree) -> None:
    assert find_runs(["nowhere"]) == ([], [])
    runs, skipped = find_runs(["nowhere", "other"])
    assert len(runs) == 1
    assert skipped == ["skipped nowhere: no such directory"]


def test_what_is_read_is_what_was_written(leave) -> None:
    directory = leave("run", "memory=lstm", "pomdp=mask_velocity", "seed=3", score=7.5)
    run = read_run(directory)
    assert run.task == "CartPole-v1-mask_velocity"
    assert (run.seed, run.budget, run.status) == (3, 100_000, "finished")
    assert (run.last, run.best, run.problem) == (7.5, None, None)
    assert (run.env_steps, run.training_seconds, run.pretraining_seconds) == (1000, 2, 0)
    assert (run.peak_memory_mib, run.versions, run.solved_at) == (None, {}, None)  # an older run
    assert (run.steps_per_second, run.parameters) == (500, 77)
    assert run.choices["memory"] == "LSTM"
    assert run.choices["memory.hidden_size"] == 64
    assert run.choices["extractor.hidden_sizes"] == "[64, 64]"
    assert run.choices["critic.memory"] is None


def test_a_probe_counts_for_the_weights_that_it_read(leave) -> None:
    directory = leave("run", score=7.5)
    assert read_run(directory).probe_score is None
    (directory / "probe").mkdir()
    for scores, env_steps, expected in (
        ({"features": [0.1, 0.3], "memory": [0.8, 0.9]}, 1000, 0.85),
        ({"features": [0.1, 0.3]}, 1000, 0.2),  # nothing is remembered
        ({"features": [0.1, 0.3]}, 500, None),  # the run was resumed
        ({"features": [math.nan]}, 1000, None),
        ("damaged", 1000, None),
    ):
        probe = {"scores": {"mlp": scores}, "env_steps": env_steps}
        (directory / "probe" / "probe.json").write_text(json.dumps(probe))
        assert read_run(directory).probe_score == (expected and pytest.approx(expected))


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_only_a_final_evaluation_is_a_score(leave, status: str) -> None:
    run = read_run(leave("run", score=7.5, status=status))
    assert (run.last, run.status) == (None, status)
    assert read_run(leave("other", score=None, status=status)).last is None


NEW = {
    "best": {"return_mean": 9.0},
    "evaluation_checkpoint": "last",
    "peak_memory_mib": 310.5,
    "versions": {"torch": "2.11"},
    "pretraining_env_steps": 500,
    "pretraining_seconds": 3.0,
}


def test_a_newer_run_tells_more(leave) -> None:
    run = read_run(leave("run", "experiment=cartpole_no_velocity", score=7.5, **NEW))
    assert (run.last, run.best) == (7.5, 9.0)
    assert (run.peak_memory_mib, run.versions) == (310.5, {"torch": "2.11"})
    assert (run.pretraining_seconds, run.training_seconds) == (3, 5)
    assert (run.pretraining_env_steps, run.env_steps) == (500, 1500)
    assert run.solved_at == 475


def test_a_run_that_evaluates_its_best_weights_has_no_last_score(leave) -> None:
    changes = {**NEW, "evaluation_checkpoint": "best", "best": {"return_mean": 7.5}}
    run = read_run(leave("run", score=7.5, **changes))
    assert (run.last, run.best, run.problem) == (None, 7.5, None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "running"}, "running, or killed, at 1,000 of 100,000 steps"),
        ({"status": "interrupted"}, "interrupted at 1,000 of 100,000 steps"),
        ({"status": "failed"}, "failed at 1,000 of 100,000 steps"),
        ({"evaluation": None}, "its final evaluation is missing or not a number"),
        (
            {"evaluation": {"return_mean": math.nan}},
            "its final evaluation is missing or not a number",
        ),
    ],
)
def test_a_run_without_a_score_tells_why(leave, changes, problem: str) -> None:
    run = read_run(leave("run", **changes))
    assert run.problem == problem
    assert score(run, "last") is None


def score(run: RunRecord, metric: Any, curve: Curve = NO_CURVE) -> float | None:
    return replace(run, curves={EVALUATIONS: curve}).score(metric)


def test_a_score_is_the_last_the_best_or_a_mean(leave) -> None:
    run = read_run(leave("run", score=7.5, **NEW))
    numbers = np.arange(7.0)
    curve = Curve(numbers, numbers, numbers)
    assert score(run, "last", curve) == 7.5
    assert score(run, "best", curve) == 9.0
    assert score(run, "mean", curve) == 4.0  # of 2, 3, 4, 5, 6
    assert score(run, "mean", Curve(numbers[:2], numbers[:2], numbers[:2])) == 0.5
    assert score(run, "mean") is None


DAMAGE = {
    "no summary": ("summary.json", None, "it has no summary.json"),
    "no configuration": ("config.yaml", None, "it has no config.yaml"),
    "cut": ("summary.json", b'{"status": "fin', "summary.json is damaged"),
    "empty": ("summary.json", b"", "summary.json is damaged"),
    "a list": ("summary.json", b"[1]", "holds no mapping"),
    "binary": ("config.yaml", b"\xff\xfe\x00", "config.yaml is damaged"),
    "no yaml": ("config.yaml", b"a: [", "config.yaml is damaged"),
    "code": ("config.yaml", b"a: !!python/object/apply:os.getcwd []", "config.yaml is damaged"),
    "other yaml": ("config.yaml", b"a: 1", "it does not tell env"),
    "no environment": ("config.yaml", b"env: 3\nseed: 1", "it is damaged"),
    "other json": ("summary.json", b'{"a": 1}', "it does not tell status"),
    "nan": ("summary.json", {"env_steps": float("nan")}, "nan is no number"),
    "text": ("summary.json", {"env_steps": "many"}, "many"),
    "a score in words": ("summary.json", {"evaluation": {"return_mean": "9?"}}, "it is damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_runs_are_told_and_skipped(leave, tmp_path: Path, case: str) -> None:
    name, content, words = DAMAGE[case]
    whole, broken = leave("a"), leave("b")
    path = broken / name
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
    else:
        path.write_bytes(content)
    runs, skipped = find_runs([str(tmp_path)])
    assert [run.directory for run in runs] == [whole]
    (line,) = skipped
    assert line.startswith(f"skipped {broken}: ")
    assert words in line
    assert "\n" not in line


def test_what_cannot_be_read_is_damaged(leave) -> None:
    directory = leave("run")
    (directory / "summary.json").unlink()
    (directory / "summary.json").mkdir()
    with pytest.raises(Damaged, match=r"summary\.json is damaged"):
        read_run(directory)


def test_a_budget_of_nothing_is_damage(leave) -> None:
    directory = leave("run", pretraining_env_steps=-100_000)
    with pytest.raises(Damaged, match="total_env_steps is 0"):
        read_run(directory)


def test_an_encoder_s_run_has_nothing_to_compare(leave, tmp_path: Path) -> None:
    leave("runs/a")
    path = leave("runs/b") / "config.yaml"
    config = OmegaConf.load(path)
    config.agent._target_ = "agents.autoencoding.Autoencoding"
    OmegaConf.save(config, path)
    runs, (line,) = find_runs([str(tmp_path / "runs")])
    assert [run.directory.name for run in runs] == ["a"]
    assert line.endswith("b: it trains an encoder alone, while another policy acts")


def test_a_run_that_stopped_in_pretraining_is_told(leave, tmp_path: Path) -> None:
    directory = leave("runs/b")
    (directory / "summary.json").unlink()
    (directory / "pretraining").mkdir()
    runs, (line,) = find_runs([str(tmp_path / "runs")])
    assert runs == []
    assert line == f"skipped {directory}: it has no summary.json: it has not begun to train"


def test_a_place_that_cannot_be_searched_is_told(leave, tmp_path: Path, monkeypatch) -> None:
    leave("runs/a")
    closed = tmp_path / "runs" / "closed"
    closed.mkdir()
    scan = os.scandir

    def refuse(path: str) -> Any:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(closed))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    runs, (line,) = find_runs([str(tmp_path / "runs")])
    assert len(runs) == 1
    assert line == f"skipped {closed}: Permission denied"
