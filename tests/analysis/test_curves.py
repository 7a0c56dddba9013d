"""Curves of runs: every point of every session, over steps and seconds, up to any damage."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.summary.writer.record_writer import RecordWriter

from analysis.curves import SECONDS, read_curves
from analysis.runs import EVALUATIONS, Curve, RunRecord, read_run
from training.tracking.event_files import event_files
from training.tracking.tracking import TensorBoard


@pytest.fixture
def run(leave) -> RunRecord:
    """A run of 1,000 steps and 2 seconds, without event files."""
    return read_run(leave("run"))


def log(run: RunRecord, tag: str, points: dict[int, float]) -> None:
    """Log points in a session of their own."""
    tensorboard = TensorBoard(run.directory)
    for step, value in points.items():
        tensorboard.scalars({tag: value}, step)
    tensorboard.close()


def points(curve: Curve) -> dict[float, float]:
    return dict(zip(curve.env_steps.tolist(), curve.values.tolist(), strict=True))


def by_tensorboard(directory: Path) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    for path in event_files(directory):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    number = sum(value.tensor.float_val)
                    found.setdefault(value.tag, {})[event.step] = number
    return found


def test_it_reads_what_tensorboard_reads(run: RunRecord) -> None:
    """Steps of one to five bytes, tags that come and go, text, hyper-parameters and a picture."""
    random = np.random.default_rng(0)
    tags = [f"group/tag_{index}" for index in range(12)]
    tensorboard = TensorBoard(run.directory)
    tensorboard.text("run/command", "words " * 9, 0)
    tensorboard.hyperparameters({"seed": 1})
    for step in (0, 1, 127, 128, 5_000, 16_384, 70_000, 2**21, 2**28, 2**34):
        chosen = random.permutation(tags)[: random.integers(1, 12)]
        tensorboard.scalars({tag: float(np.float32(random.normal())) for tag in chosen}, step)
        pixels = random.integers(0, 255, (99, 99, 3), np.uint8)
        tensorboard.picture("images/noise", torch.from_numpy(pixels), step, "")
    tensorboard.close()
    curves, _ = read_curves(run)
    expected = by_tensorboard(run.directory)
    assert {tag: points(curve) for tag, curve in curves.items()} == expected
    some = {tags[0], tags[5], "unknown"}
    curves, _ = read_curves(run, some)
    assert {tag: points(curve) for tag, curve in curves.items()} == {
        tag: expected[tag] for tag in some & expected.keys()
    }


def test_sessions_follow_each_other_and_later_ones_replace(run: RunRecord) -> None:
    log(run, "a", {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0})
    log(run, "a", {3: 30.0, 5: 50.0})
    log(run, "a", {5: 500.0})
    curves, _ = read_curves(run, ["a"])
    assert points(curves["a"]) == {1: 1, 2: 2, 3: 30, 5: 500}


def test_seconds_are_those_of_training_whatever_the_clock_says(leave, monkeypatch) -> None:
    """Pre-training comes first; a night between two sessions counts nothing."""
    run = read_run(
        leave("run", training_seconds=40.0, pretraining_seconds=10.0, pretraining_env_steps=500)
    )
    for clock, seconds in ((1e9, {200: 20.0, 400: 30.0}), (2e9, {800: 45.0})):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        log(run, SECONDS, seconds)
    log(run, "a", {100: 1.0, 200: 2.0, 600: 3.0, 1000: 4.0})
    curves, notes = read_curves(run, ["a"])
    assert notes == []
    assert curves.keys() == {"a"}
    assert curves["a"].env_steps.tolist() == [600, 700, 1100, 1500]
    assert curves["a"].seconds.tolist() == [15, 20, 37.5, 50]


def test_seconds_pass_evenly_where_none_are_logged(leave) -> None:
    run = read_run(leave("run", training_seconds=40.0, env_steps=1000))
    log(run, "a", {250: 1.0, 1000: 2.0})
    curves, notes = read_curves(run, ["a"])
    assert (curves["a"].seconds.tolist(), notes) == ([10, 40], [])


def test_a_run_without_event_files_has_no_curves(run: RunRecord) -> None:
    assert read_curves(run) == ({}, [f"{run.directory} has no event files, so no curves"])


@pytest.fixture
def whole(run: RunRecord) -> tuple[Path, bytes]:
    """An event file of 30 evaluations and other records, and its content."""
    tensorboard = TensorBoard(run.directory)
    for step in range(1, 31):
        tensorboard.scalars({"loss/value": 1.0, "loss/policy": 2.0}, step)
        tensorboard.scalars({EVALUATIONS: float(step), SECONDS: step / 8}, step)
    tensorboard.close()
    (path,) = event_files(run.directory)
    return path, path.read_bytes()


def read(run: RunRecord) -> tuple[list[float], list[str]]:
    curves, notes = read_curves(run, [EVALUATIONS])
    return curves[EVALUATIONS].values.tolist() if curves else [], notes


def test_a_file_that_is_cut_anywhere_ends_there(run: RunRecord, whole) -> None:
    path, content = whole
    for size in np.random.default_rng(0).integers(0, len(content), 60):
        path.write_bytes(content[:size])
        values, notes = read(run)
        assert values == list(range(1, len(values) + 1))
        assert len(values) == content[:size].count(EVALUATIONS.encode()) or notes
    path.write_bytes(content[:-1])
    assert read(run)[0] == list(range(1, 30))
    assert read(run)[1] == [
        f"{path} is damaged, its later points are missing: it ends within a record"
    ]
    path.write_bytes(b"")
    assert read(run) == ([], [])


def test_a_flipped_bit_changes_no_point(run: RunRecord, whole) -> None:
    """Wherever it is, also in a tag: points are right, or missing and told to be."""
    path, content = whole
    random = np.random.default_rng(1)
    told = 0
    for place in random.integers(0, len(content), 200):
        changed = bytearray(content)
        changed[place] ^= 1 << random.integers(8)
        path.write_bytes(changed)
        values, notes = read(run)
        assert values == list(range(1, len(values) + 1))
        assert len(values) == 30 or any("is damaged" in note for note in notes)
        told += bool(notes)
    assert told > 130  # the others are in values that nobody asked for


def test_what_is_no_event_file_is_told(run: RunRecord) -> None:
    path = run.directory / "events.out.tfevents.1.host.1.0"
    for content in (b"\0" * 64, b"words" * 99, os.urandom(4096)):
        path.write_bytes(content)
        assert len(read(run)[1]) == 1
    path.unlink()
    path.mkdir()
    assert "Is a directory" in read(run)[1][0]


def test_a_record_that_holds_no_event_holds_no_point(run: RunRecord) -> None:
    path = run.directory / "events.out.tfevents.1.host.1.0"
    with path.open("wb") as file:
        for payload in (
            b"",
            b"abc",
            b"\x0a" * 40,
            b"\x2a\x7f\x0a",
            b"\xff" * 99,
            b"\x09" + b"1" * 8,
        ):
            RecordWriter(file).write(payload)
    log(run, EVALUATIONS, {1: 1.0})
    assert read(run)[0] == [1.0]
