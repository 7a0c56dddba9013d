"""A study goes on whatever becomes of its jobs, and of the process that drives it."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from functools import partial
from pathlib import Path

import pytest

from analysis.studies.engines.local import LocalEngine
from analysis.studies.execution import Pool, driving, run_missing
from analysis.studies.progress import GridProgress
from analysis.studies.study import is_finished, summary_of
from training.process.locking import is_locked, locked
from training.runs.refusal import Refusal

ROOT = Path(__file__).resolve().parents[3]


def run(jobs, place: Path, jobs_at_once: int = 2):
    directory = place / "study"
    build = partial(LocalEngine, {"jobs": jobs_at_once})
    with driving(directory) as stop, Pool(build, directory) as pool:
        return run_missing(jobs, pool, stop, metric="last")


def test_what_is_missing_runs_and_what_is_finished_does_not(job, place, sessions, capfd) -> None:
    jobs = [job(arm, seed) for seed in (0, 1) for arm in ("none", "gru")]
    assert run(jobs[:2], place) == []
    assert run(jobs, place) == []
    assert run(jobs, place) == []
    assert [sessions(each) for each in jobs] == [["begun"]] * 4
    assert all(map(is_finished, jobs))
    lines = capfd.readouterr().err.splitlines()
    assert "2 of 4 jobs are finished already" in lines
    assert any(line.startswith("[4/4] task-") and line.endswith("1.50") for line in lines)
    assert lines[2].startswith("2 of 2 jobs done in 0:00:")
    assert lines[6].startswith("4 of 4 jobs done in 0:00:")
    assert len(lines) == 7  # and none for each second


def test_a_job_that_fails_is_named_with_its_reason_and_others_go_on(job, place, capfd) -> None:
    jobs = [job("bad", words=["way=fails"]), job("good")]
    (failed,) = run(jobs, place)
    log = place / "study" / "logs" / "task-bad-seed0.txt"
    assert str(failed) == f"task-bad-seed0: it is broken ({log})"
    assert is_finished(jobs[1])
    assert log.read_text().startswith("$ ")
    assert "failed: task-bad-seed0: it is broken" in capfd.readouterr().err


def test_a_killed_job_is_resumed_once(job, place, sessions) -> None:
    once, always = job("once", words=["way=killed-once"]), job("always", words=["way=killed"])
    (failed,) = run([once, always], place)
    assert sessions(once) == ["begun", "resumed"]
    assert sessions(always) == ["begun", "resumed"]
    assert failed.job == always
    log = place / "study" / "logs" / "task-always-seed0.txt"
    assert str(failed) == f"task-always-seed0: killed by SIGKILL ({log})"


def test_a_signal_lets_every_run_save_and_the_same_command_goes_on(
    job, place, sessions, until
) -> None:
    jobs = [job(seed=seed, words=["way=waits"]) for seed in range(3)]

    def interrupt() -> None:
        try:
            until(lambda: all(summary_of(each).get("status") == "running" for each in jobs[:2]))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Refusal, match="0 of 3 jobs done; the same command resumes") as stopped:
        run(jobs, place)
    thread.join()
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert [summary_of(each).get("status") for each in jobs] == ["interrupted"] * 2 + [None]
    jobs[2] = job(seed=2)
    assert run(jobs, place) == []
    assert sessions(jobs[0]) == ["begun", "resumed"]


def test_a_run_that_another_process_trains_waits(job, place, sessions, until) -> None:
    busy, free = job("busy"), job("free")
    busy.directory.mkdir(parents=True)
    pool = Pool(lambda: LocalEngine({"jobs": 2}), place)
    pool.add([busy, free])
    with locked(busy.directory):
        until(lambda: any(ended.job == free for ended in pool.step()))
        assert pool
        assert not (busy.directory / "sessions.txt").exists()
    until(lambda: any(ended.job == busy for ended in pool.step()))
    assert not pool


def test_two_drivers_do_not_share_a_directory(place) -> None:
    with driving(place / "study"):
        second = driving(place / "study")
        with pytest.raises(Refusal, match=r"another process uses .*study: wait for it"), second:
            pass
    with driving(place / "study"):
        pass


def test_a_disk_without_locks_is_used_without_them(place, monkeypatch) -> None:
    def flock(*_: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    assert not is_locked(place)
    with driving(place / "study"), driving(place / "study"):
        pass


def test_a_directory_that_cannot_be_written_to_is_refused(place, monkeypatch) -> None:
    (place / "file").touch()
    for directory in (place / "file", place / "file" / "below"):
        with pytest.raises(Refusal, match=r"directory: cannot write to .*file"), driving(directory):
            pass
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Refusal, match="Permission denied"), driving(place / "study"):
        pass


def test_a_cancelled_job_is_not_retried(job, place, sessions, until) -> None:
    pool = Pool(lambda: LocalEngine({"jobs": 1}), place)
    jobs = [job(seed=0, words=["way=waits"]), job(seed=1)]
    pool.add(jobs)
    until(lambda: not pool.step() and summary_of(jobs[0]).get("status") == "running")
    assert not pool.has_room
    pool.cancel(jobs)
    until(lambda: [ended.code for ended in pool.step()] == [128 + signal.SIGTERM])
    assert not pool
    assert sessions(jobs[0]) == ["begun"]
    assert not jobs[1].directory.exists()


def test_a_killed_driver_leaves_no_job_behind(job, place, until) -> None:
    """Its jobs save and end, so that the next driver resumes them."""
    waiting = job(words=["way=waits"])
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from analysis.studies import execution
        from analysis.studies.engines.local import LocalEngine
        from analysis.studies.execution import Pool, driving, run_missing
        from analysis.studies.study import Job
        execution.SCRIPT = Path({str(place / "train.py")!r})
        job = Job("task", "gru", 0, {waiting.words!r}, Path({str(waiting.directory)!r}), 100)
        study = Path("study")
        with driving(study) as stop, Pool(lambda: LocalEngine(dict(jobs=1)), study) as pool:
            run_missing([job], pool, stop, metric="last")
        """
    )
    driver = subprocess.Popen([sys.executable, "-c", program], cwd=place)
    until(lambda: summary_of(waiting).get("status") == "running")
    driver.kill()
    driver.wait()
    assert run([waiting], place) == []  # once the directory is free
    log = (place / "study" / "logs" / "task-gru-seed0.txt").read_text()
    assert log.count("\n$ ") + log.startswith("$ ") == 2
    assert is_finished(waiting)
    assert not is_locked(waiting.directory)


def test_the_display_counts_and_compares(job, place) -> None:
    jobs = [job(arm, seed) for arm in ("none", "gru") for seed in (0, 1)]
    run([jobs[1]], place)
    progress = GridProgress(jobs, "best")
    assert progress.line([]) == "1 of 4 jobs done, 0 running   none 1.50 (1)"
    run([jobs[2], jobs[3]], place)
    for finished in jobs[2:]:
        progress.finish(finished)
    progress.fail(jobs[0], "why")
    line = progress.line([])
    assert line.startswith("3 of 4 jobs done, 1 failed, 0 running   none 1.50 (1)")
    assert "gru 1.00 (2)" in line
