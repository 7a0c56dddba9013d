"""Runs by other words than their directory: the newest, a directory alone, a folder of runs."""

import os
from pathlib import Path

import pytest

from conf.composing.command_line import check
from conf.composing.resumption import stored_configuration


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three runs, oldest first, with Hydra's files beside the run's own."""
    monkeypatch.chdir(tmp_path)
    made = [Path("runs", "Task-v0", name) for name in ("old run", "a", "b")]
    for age, run in enumerate(made):
        for path in (run / "config.yaml", run / ".hydra" / "config.yaml"):
            path.parent.mkdir(parents=True)
            path.touch()
            os.utime(path, (age, age))
    return made


@pytest.mark.parametrize("script", ["evaluate", "analyze", "export"])
def test_a_run_is_named_by_its_age_or_by_its_directory_alone(runs, script) -> None:
    for word, run in (("run=last", runs[-1]), ("last", runs[-1]), (str(runs[0]), runs[0])):
        (checked,), words = check([word], script)
        assert checked.typed["run"] == str(run)
        assert words == [f"run='{run}'"]


def test_without_runs_there_is_no_last_one(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        check(["run=last"], "evaluate")
    assert capsys.readouterr().err == "run=last: there is no run under runs/\n"


def test_a_path_alone_is_a_run_even_if_nothing_is_there() -> None:
    (checked,), _ = check(["runs/gone"], "evaluate")
    assert checked.typed["run"] == "runs/gone"


def test_a_directory_may_have_an_apostrophe(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it's").mkdir()
    (checked,), _ = check(["it's"], "evaluate")
    assert checked.typed["run"] == "it's"


def test_resuming_takes_the_newest_and_no_directory_alone(runs, capsys) -> None:
    for word, line in (
        ("resume=last", f"resume: {runs[-1]}/config.yaml is damaged: it holds no configuration"),
        (str(runs[0]), f"{str(runs[0])!r}: expected key=value; a run is resumed with resume="),
    ):
        with pytest.raises(SystemExit):
            check([word])
        assert capsys.readouterr().err.startswith(line)


def test_a_folder_of_runs_lists_them(runs) -> None:
    gone = Path("runs", "Task-v0", "removed meanwhile")
    gone.mkdir()
    (gone / "config.yaml").symlink_to("nowhere")
    with pytest.raises(ValueError, match="the newest runs there") as refusal:
        stored_configuration(Path("runs"))
    assert str(refusal.value).splitlines()[1:] == [f"  {run}" for run in reversed(runs)]
