"""Every engine runs a job, stops it so that it saves, and says what became of it."""

import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.studies.engines import build_engine
from analysis.studies.engines.engine import Command, Engine, needed, start
from analysis.studies.study import is_finished, summary_of
from conf.composing.command_line import load
from training.runs.refusal import Refusal

SCRIPT = Path(__file__).with_name("sbatch.sh")


def options(*words: str):
    return load(list(words), "compare").engine


@pytest.fixture(params=["local", "slurm"])
def engine(request, place: Path) -> Iterator[Engine]:
    words = {
        "local": ["engine=local", "engine.jobs=2"],
        "slurm": ["engine=slurm", "engine.cluster=local", "engine.jobs=2"],
    }
    if request.param == "slurm":
        pytest.importorskip("submitit")
    made = build_engine(options(*words[request.param]), place / "study")
    yield made
    made.close()


def test_a_job_ends_and_another_fails(engine: Engine, job, command, until, place) -> None:
    good, bad = job("good"), job("bad", words=["way=fails"])
    handles = engine.submit([command(good), command(bad)])
    until(lambda: all(engine.poll(handle) is not None for handle in handles))
    assert [engine.poll(handle) for handle in handles] == [0, 1]
    assert is_finished(good)
    log = (place / "task-bad-seed0.txt").read_text()
    assert log.startswith("$ ") and log.endswith("it is broken\n")
    assert engine.capacity == 2


def test_a_cancelled_job_saves(engine: Engine, job, command, until) -> None:
    waiting = job(words=["way=waits"])
    (handle,) = engine.submit([command(waiting)])
    until(lambda: summary_of(waiting).get("status") == "running")
    engine.cancel(handle)
    until(lambda: engine.poll(handle) is not None)
    assert engine.poll(handle) != 0
    assert summary_of(waiting)["status"] == "interrupted"


def test_a_command_begins_once_and_then_resumes(job, command) -> None:
    made = job("a=b")
    assert command(made).line()[-1] == f"run_dir='{made.directory}'"
    assert start(command(made)).wait() == 0
    assert command(made).line()[-1] == f"resume='{made.directory}'"
    assert command(made).line()[-2] == "seed=0"


def test_jobs_have_one_thread_each_unless_the_user_says_otherwise(
    place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "train.py").write_text("import os; print(os.environ['OMP_NUM_THREADS'])")
    command = Command((), place / "run", place / "log.txt", place, place / "train.py")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert start(command).wait() == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert start(command).wait() == 0
    assert command.log.read_text().splitlines()[1::2] == ["1", "3"]


def test_a_requeued_job_resumes(job, command, until, sessions, place) -> None:
    """As SLURM does before a time limit: SIGUSR2 asks submitit for a checkpoint."""
    pytest.importorskip("submitit")
    made = build_engine(options("engine=slurm", "engine.cluster=local"), place / "study")
    waiting = job(words=["way=waits"])
    (handle,) = made.submit([command(waiting)])
    until(lambda: summary_of(waiting).get("status") == "running")
    controller = handle._process.pid
    children = Path(f"/proc/{controller}/task/{controller}/children").read_text()
    os.kill(int(children), signal.SIGUSR2)
    until(lambda: made.poll(handle) is not None)
    assert sessions(waiting) == ["begun", "resumed"]
    assert is_finished(waiting)
    made.close()


def test_the_array_that_slurm_gets(job, command, place, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    commands = {
        "srun": "",
        "sbatch": "echo Submitted batch job 12",
        "squeue": "",
        "sacct": "",
        "scancel": 'echo "$@" >> cancelled.txt',
    }
    (place / "bin").mkdir()
    for name, line in commands.items():
        path = place / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}")
    words = [
        *("engine=slurm", "engine.jobs=2", "engine.cpus_per_job=2", "engine.gpus_per_job=1"),
        "engine.parameters={timeout_min: 90, slurm_partition: short, mem_gb: 4}",
    ]
    made = build_engine(options(*words), place / "study")
    handles = made.submit([command(job(seed=seed)) for seed in range(3)])
    assert [handle.job_id for handle in handles] == ["12_0", "12_1", "12_2"]
    (script,) = (place / "study" / "logs" / "slurm").glob("*_submission.sh")
    written = script.read_text()
    for part, name in ((str(place), "PLACE"), (sys.executable, "PYTHON")):
        written = written.replace(part, name)
    assert written == SCRIPT.read_text()
    made.cancel(handles[1])
    assert (place / "cancelled.txt").read_text() == "12_1\n"


def test_what_is_not_installed_is_named_with_the_extra(place) -> None:
    with pytest.raises(Refusal, match=r"nothing_at_all is not installed: pip .*'\.\[ray\]'"):
        needed("nothing_at_all", "ray")


def test_a_cluster_that_is_not_there_is_refused_in_one_line(place, monkeypatch) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("no Ray instance\nis running")

    ray = SimpleNamespace(init=init)
    monkeypatch.setattr("analysis.studies.engines.ray.needed", lambda *_: ray)
    with pytest.raises(Refusal, match=r"engine\.address=auto: no Ray instance is running"):
        build_engine(options("engine=ray", "engine.address=auto"), place)


def test_slurm_without_slurm_is_refused_in_one_line(place, monkeypatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Refusal) as refusal:
        build_engine(options("engine=slurm"), place / "study")
    assert "engine.cluster=local tries it on this machine" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_parameter_of_slurm_is_refused(place) -> None:
    pytest.importorskip("submitit")
    words = ["engine=slurm", "engine.cluster=local", "engine.parameters={nonsense: 1}"]
    with pytest.raises(Refusal, match="nonsense"):
        build_engine(options(*words), place / "study")
