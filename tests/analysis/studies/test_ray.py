"""The jobs of a study as tasks of a Ray cluster (make test-ray)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.studies.engines import build_engine
from analysis.studies.engines.engine import Engine
from analysis.studies.engines.ray import RayEngine, pack, unpack
from analysis.studies.execution import Pool, driving, run_missing
from analysis.studies.study import is_finished, summary_of
from conf.composing.command_line import load

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes on this machine, with one core each; the driver is on the first."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture
def engine(cluster: Any, place: Path) -> Iterator[Engine]:
    (place / "study").mkdir()
    config = load(["engine=ray", f"engine.address='{cluster.address}'"], "compare")
    made = build_engine(config.engine, place / "study")
    yield made
    made.close()


def test_a_node_that_dies_loses_nothing(engine, cluster, job, place, until, sessions) -> None:
    """Its job is repeated on another node, where it resumes."""
    jobs = [job(seed=seed, words=["way=waits"]) for seed in range(3)] + [job(seed=3)]
    pool, ended = Pool(lambda: engine, place / "study"), []
    pool.add(jobs)

    def begun() -> bool:
        ended.extend(pool.step())
        return all(summary_of(each).get("status") == "running" for each in jobs[:3])

    def was_stopped() -> bool:
        """Tell whether a run saved; it may have been resumed since."""
        stopped = (summary_of(each).get("status") == "interrupted" for each in jobs)
        return any(stopped) or any("resumed" in sessions(each) for each in jobs[:3])

    until(begun, 120)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    until(was_stopped, 120)
    (place / "go").touch()
    until(lambda: ended.extend(pool.step()) or not pool, 120)
    assert [end.code for end in ended] == [0] * 4
    assert sorted(sessions(each) for each in jobs) == [["begun"]] * 3 + [["begun", "resumed"]]
    assert all(map(is_finished, jobs))


def test_a_job_that_is_told_to_saves(engine, job, command, until) -> None:
    waiting = job(words=["way=waits"])
    (handle,) = engine.submit([command(waiting)])
    until(lambda: summary_of(waiting).get("status") == "running", 120)
    engine.cancel(handle)
    until(lambda: engine.poll(handle) is not None, 120)
    assert summary_of(waiting)["status"] == "interrupted"


def test_without_a_shared_disk_runs_travel(engine, job, command, until, place, sessions) -> None:
    """As far as a task can tell: the file by which it knows the driver's disk is gone."""
    assert isinstance(engine, RayEngine)
    for token in (place / "study").glob(".token-*"):
        token.unlink()
    fresh, bad = job("fresh"), job("bad", words=["way=fails"])
    begun = job("begun", words=["way=waits"])
    begun.directory.mkdir(parents=True)
    (begun.directory / "config.yaml").write_text("total_env_steps: 100\n")
    (begun.directory / "sessions.txt").write_text("begun\n")
    with driving(place / "study") as stop:
        jobs = [fresh, begun, bad]
        failed = run_missing(jobs, Pool(lambda: engine, place / "study"), stop, metric="last")
    assert [ended.job for ended in failed] == [bad]
    assert "it is broken" in str(failed[0])
    assert [sessions(each) for each in (fresh, begun)] == [["begun"], ["begun", "resumed"]]
    assert is_finished(begun)


def test_a_directory_travels_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "run" / "a").mkdir(parents=True)
    (tmp_path / "run" / "a" / "file").write_text("1")
    data = pack(tmp_path / "run") or b""
    (tmp_path / "run" / "other").write_text("2")
    unpack(data, tmp_path / "run")
    assert [path.name for path in sorted((tmp_path / "run").rglob("*"))] == ["a", "file"]
