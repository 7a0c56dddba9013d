"""`neurl.results`: all points of all runs in one table, with pandas and without."""

import sys
from pathlib import Path

import numpy as np
import pytest

import neurl
from training.tracking.tracking import TensorBoard

RETURN, SECONDS = "evaluation/return", "time/training_seconds"


@pytest.fixture
def runs(leave, tmp_path: Path) -> Path:
    """Two runs that differ in memory and seed, with two evaluations each."""
    for seed, memory in enumerate(["gru", "none"]):
        directory = leave(f"runs/{memory}", f"memory={memory}", f"seed={seed}")
        tensorboard = TensorBoard(directory)
        for step in (500, 1000):
            values = {RETURN: step / 10 + seed, SECONDS: step / 500, "loss/value": 1.0}
            tensorboard.scalars(values, step)
        tensorboard.close()
    return tmp_path / "runs"


NAMES = ("run", "environment", "seed", "memory", "tag", "env_steps", "seconds", "value")


@pytest.fixture
def expected(runs: Path) -> list[tuple]:
    return [
        (str(runs / name), "CartPole-v1", seed, kind, RETURN, step, step / 500, step / 10 + seed)
        for seed, (name, kind) in enumerate([("gru", "GRU"), ("none", "NoMemory")])
        for step in (500, 1000)
    ]


def test_without_pandas_it_is_an_array(runs: Path, expected, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = neurl.results(f"{runs}/**", tags=[RETURN])
    assert set(NAMES) <= set(table.dtype.names)
    assert table[list(NAMES)].tolist() == expected
    assert table["value"].dtype == np.float64


def test_with_pandas_it_is_a_data_frame(runs: Path, expected) -> None:
    pytest.importorskip("pandas")
    frame = neurl.results([str(runs)], tags=[RETURN])
    assert list(frame[list(NAMES)].itertuples(index=False, name=None)) == expected
    assert frame["seed"].dtype.kind == "i"
    means = frame.groupby("memory")["value"].mean()
    assert means.to_dict() == {"GRU": 75.0, "NoMemory": 76.0}


def test_a_tag_may_stand_alone(runs: Path) -> None:
    assert len(neurl.results(str(runs), tags=RETURN)) == 4


def test_all_scalars_are_the_default(runs: Path, monkeypatch) -> None:
    monkeypatch.chdir(runs.parent)
    table = neurl.results()
    assert set(table["tag"]) == {RETURN, SECONDS, "loss/value"}
    assert len(table["tag"]) == 12


def test_damage_is_a_warning_and_no_runs_are_an_error(runs: Path, leave, tmp_path: Path) -> None:
    (leave("runs/torn") / "summary.json").unlink()
    with pytest.warns(RuntimeWarning, match="torn: it has no summary.json"):
        table = neurl.results(str(runs), tags=[RETURN])
    assert len(table["tag"]) == 4
    with pytest.raises(ValueError, match="nowhere: no runs there"):
        neurl.results(str(tmp_path / "nowhere"))


def test_runs_without_points_give_an_empty_table(runs: Path) -> None:
    assert len(neurl.results(str(runs), tags=["unknown"])) == 0
