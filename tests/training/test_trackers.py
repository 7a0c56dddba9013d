"""What a run tells trackers beside TensorBoard, and what their failures cost."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.own_trackers import Noting
from tests.training.endings import Killed
from training.runs.refusal import Refusal
from training.tracking.trackers import TrackedRun, Trackers
from training.tracking.tracking import TensorBoard

RUN = ["total_env_steps=200", "evaluation.interval=100", "tracking.interval=1"]
OURS = ("mlflow", "trackio", "wandb")


def own(name: str, **keys: str) -> list[str]:
    node = {"_target_": f"tests.own_trackers.{name}", **keys}
    words = ", ".join(f"{key}: {value}" for key, value in node.items())
    return [f"+tracking.also.mine={{{words}}}", "trusted_packages=[tests]"]


def told(directory: Path) -> list:
    (key,) = [key for key in Noting.notes if key.startswith("/".join(directory.parts[-3:]))]
    return Noting.notes[key]


def test_a_tracker_is_told_what_tensorboard_shows(train, tmp_path) -> None:
    words = [*RUN, *own("Noting", greeting="hi"), "extractor.activation=relu"]
    run = train(*words, "evaluation.video=true", directory=tmp_path / "run")
    (_, greeting, about), *notes = told(tmp_path / "run")
    assert greeting == "hi" and about.id is None and about.directory == tmp_path / "run"
    assert about.configuration["extractor.activation"] == "relu"
    curves: dict = {}
    for _, values, steps in (note for note in notes if note[0] == "scalars"):
        for tag, value in values.items():
            curves.setdefault(tag, []).append((steps, pytest.approx(value, rel=1e-6)))
    assert run.scalars() == curves
    videos = [note[1:4] for note in notes if note[0] == "video"]
    assert videos == [("video/evaluation", b"GIF8", ".gif")] * 2
    assert notes[-1] == ("close", "finished")


def test_a_picture_is_a_file(tmp_path) -> None:
    trackers = Trackers({"mine": {"_target_": "tests.own_trackers.Noting"}})
    trackers.open(TrackedRun(tmp_path, "a/b/picture", {}, None), is_resumed=False)
    pixels = torch.zeros(4, 5, 3, dtype=torch.uint8)
    TensorBoard(None, trackers).picture("images/x", pixels, 7, "black")
    (notes,) = [notes for key, notes in Noting.notes.items() if "a/b/picture" in key]
    assert notes[-1] == ("image", "images/x", b"\x89PNG", ".png", "black")


def test_a_resumed_run_is_the_same_run(train, go_on, kill, tmp_path) -> None:
    kill(4)
    with pytest.raises(Killed):
        train(*RUN, *own("Noting"), directory=tmp_path / "run")
    kill(0)
    go_on(tmp_path / "run", "trusted_packages=[tests]")
    notes = told(tmp_path / "run")
    sessions = [note[2] for note in notes if note[0] == "begin"]
    assert [session.id is None for session in sessions] == [True, False]
    # Points after the checkpoint are repeated as they were.
    points: dict = {}
    for _, values, steps in (note for note in notes if note[0] == "scalars"):
        for tag, value in values.items():
            if not tag.startswith("time/"):
                assert points.setdefault((tag, steps), value) == value
    assert max(steps for _, steps in points) >= 200


@pytest.mark.parametrize("where", ["__init__", "scalars", "close"])
def test_a_failure_costs_one_warning(train, where) -> None:
    said = r"tracking\.also\.mine stopped: ConnectionError: no route to host"
    with pytest.warns(RuntimeWarning, match=said) as caught:
        run = train(*RUN, *own("Failing", where=where))
    assert len(caught) == 1 and run.summary["status"] == "finished"


@pytest.mark.parametrize("name", OURS)
def test_a_missing_package_is_refused_with_its_extra(name, train, monkeypatch, tmp_path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda word: None if word == name else find(word)
    )
    with pytest.raises(Refusal, match=rf"^tracking\.also\.{name}: .*'\.\[{name}\]'$") as caught:
        train(f"tracking={name}", directory=tmp_path / "run")
    assert caught.value.exit_code == 2
    assert not list((tmp_path / "run").glob("events*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # MLflow reads its tables in an old way
@pytest.mark.parametrize("name", OURS)
def test_ours_follow_a_run_and_its_resumption(name, tmp_path) -> None:
    pytest.importorskip(name)
    run, words = tmp_path / "runs/run", ["total_env_steps=3000", "evaluation.interval=1000"]
    offline = ["tracking.also.wandb.mode=offline"] if name == "wandb" else []
    variables = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    root = Path(__file__).parents[2]
    again = [f"resume={run}", "total_env_steps=5000"]
    for more in ([f"tracking={name}", f"run_dir={run}", *words, *offline], again):
        line = [sys.executable, str(root / "train.py"), *more]
        where = {"cwd": tmp_path, "env": variables}
        done = subprocess.run(line, check=True, capture_output=True, text=True, **where)
        assert "stopped" not in done.stderr
    if name == "mlflow":
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        (found,) = client.search_runs([client.get_experiment_by_name("neurl").experiment_id])
        history = client.get_metric_history(found.info.run_id, "evaluation/return")
        assert found.info.status == "FINISHED" and found.data.params["agent.clip_range"] == "0.2"
        assert max(point.step for point in history) >= 5000
    else:
        where = {"trackio": "trackio/neurl.db", "wandb": "wandb/offline-run-*/*.wandb"}[name]
        assert list(tmp_path.glob(where))
