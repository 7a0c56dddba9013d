"""A run that is resumed repeats no point of its curves, and loses none."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from training.tracking.event_files import event_files, position, rewind
from training.tracking.tracking import TensorBoard


def points(directory: Path) -> list[tuple[int, float]]:
    """What TensorBoard reads, file after file."""
    return [
        (event.step, sum(value.tensor.float_val))
        for path in event_files(directory)
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def log(tensorboard: TensorBoard, *steps: int) -> None:
    for step in steps:
        tensorboard.scalars({"a": float(step)}, step)


def die(tensorboard: TensorBoard) -> None:
    """Let go of the file as a process that is killed does: nothing more reaches it."""
    file = tensorboard._file
    assert file is not None
    file._file.detach().close()


def die_after(directory: Path, *steps: int) -> None:
    tensorboard = TensorBoard(directory)
    log(tensorboard, *steps)
    die(tensorboard)


def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_points(tmp_path: Path) -> None:
    """Sessions of random lengths, each dying between two checkpoints; nothing is flushed for it."""
    random = np.random.default_rng(0)
    for trial in range(10):
        directory = tmp_path / str(trial)
        directory.mkdir()
        saved, saved_step, step = {}, 0, 0
        while step < 40:
            rewind(directory, saved)
            step = saved_step
            tensorboard = TensorBoard(directory)
            for _ in range(int(random.integers(1, 25))):
                if step == 40:
                    break
                step += 1
                log(tensorboard, step)
                if step % 7 == 0:
                    saved, saved_step = tensorboard.position(), step
            die(tensorboard)
        assert points(directory) == [(s, float(s)) for s in range(1, 41)]


def test_a_position_holds_every_session(tmp_path: Path) -> None:
    found = []
    for session in range(3):
        tensorboard = TensorBoard(tmp_path)
        log(tensorboard, session)
        found.append(tensorboard.position())
        tensorboard.close()
    assert [len(each) for each in found] == [1, 2, 3]
    assert found[2] == position(tmp_path)
    assert found[0].items() <= found[1].items() <= found[2].items()
    rewind(tmp_path, found[2])
    assert position(tmp_path) == found[2]
    rewind(tmp_path, found[1])
    rewind(tmp_path, found[1])  # dying in between changes nothing
    assert position(tmp_path) == found[1]
    assert [step for step, _ in points(tmp_path)] == [0, 1]


def test_a_run_that_begins_anew_keeps_no_point(tmp_path: Path) -> None:
    die_after(tmp_path, 1, 2)
    (tmp_path / "summary.json").write_text("{}")
    rewind(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_nothing_is_taken_back_where_the_position_is_unknown(tmp_path: Path) -> None:
    die_after(tmp_path, 1, 2)
    rewind(tmp_path, TensorBoard(None).position())
    assert len(points(tmp_path)) == 2


def test_names_in_a_checkpoint_are_no_paths(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    die_after(directory, 1)
    outside = tmp_path / "events.out.tfevents.1.host.1.0"
    outside.write_bytes(b"precious")
    whole = position(directory)
    rewind(directory, {**whole, "../events.out.tfevents.1.host.1.0": 0, str(outside): 0})
    assert outside.read_bytes() == b"precious"
    assert position(directory) == whole


@pytest.mark.parametrize("damage", ["deleted", "cut"])
def test_lost_points_are_told(tmp_path: Path, damage: str) -> None:
    tensorboard = TensorBoard(tmp_path)
    log(tensorboard, 1, 2)
    saved = tensorboard.position()
    tensorboard.close()
    assert saved is not None
    (path,) = event_files(tmp_path)
    if damage == "deleted":
        path.unlink()
    else:
        os.truncate(path, saved[path.name] - 1)
    with pytest.warns(RuntimeWarning, match=f"points are missing from {path.name}"):
        rewind(tmp_path, saved)


def test_sessions_are_read_in_their_order_whatever_the_clock_says(tmp_path, monkeypatch) -> None:
    """TensorBoard drops later steps when a file of earlier ones follows."""
    for step, clock in enumerate([2e9, 2e9, 1e9, 3e9, 0.0]):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        tensorboard = TensorBoard(tmp_path)
        log(tensorboard, step)
        tensorboard.close()
    assert [step for step, _ in points(tmp_path)] == [0, 1, 2, 3, 4]


def test_a_position_is_on_disk(tmp_path: Path, monkeypatch) -> None:
    synchronized = []
    tensorboard = TensorBoard(tmp_path)
    log(tensorboard, 1)
    monkeypatch.setattr(os, "fsync", lambda file: synchronized.append(os.fstat(file).st_size))
    saved = tensorboard.position()
    assert saved is not None
    assert list(saved.values()) == synchronized
    tensorboard.close()


def test_a_run_that_goes_on_is_introduced_once_and_recorded_without_a_gap(
    drawn, train, go_on
) -> None:
    words = ["env.id=test/Drawn-v0", "evaluation.video=true", "evaluation.interval=32"]
    run = train(*words, "total_env_steps=64")
    go_on(run.directory, "total_env_steps=128")
    found: dict[str, list[int]] = {}
    for path in event_files(run.directory):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    assert len(event_files(run.directory)) == 2
    assert found["run/command"] == found["_hparams_/session_start_info"] == [0]
    assert found["video/evaluation"] == found["evaluation/return"]
    assert len(set(found["video/evaluation"])) == len(found["video/evaluation"]) >= 4
