"""The processes of worker environments: how they start, what they are allowed, how they end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.vector import remote, serving
from envs.vector.base import SlotVectorEnv
from envs.vector.failures import EnvironmentFailure, RemoteFailure
from envs.vector.remote import START_METHOD, RemoteSlot, WorkerLost
from envs.vector.serving import _plain
from tests.envs.misbehaving import (
    Inquisitive,
    Misbehaving,
    Other,
    Steady,
    Stubborn,
    Threaded,
    Timed,
    Told,
    Unmakeable,
)

ROOT = Path(__file__).resolve().parents[2]
ZEROS = np.array([2, 2])


def pids_of(environments: SlotVectorEnv) -> list[int]:
    return [worker.pid for worker in environments._workers]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"  # dead, and nobody has looked


def test_never_by_forking() -> None:
    assert START_METHOD in ("forkserver", "spawn")  # T81


def test_each_environment_has_a_light_process_of_its_own(vector) -> None:
    environments = vector("async", Inquisitive, Inquisitive)
    _, told = environments.reset(seed=0)
    assert len({os.getpid(), *told["pid"]}) == 3
    assert told["heavy"].tolist() == ["", ""]
    assert told["threads"].tolist() == ["1", "1"]
    assert told["ignored"].all()
    assert told["main"].tolist() == ["none"] * 2 or sys.platform == "win32"


def test_an_environment_that_uses_torch_has_one_thread_and_does_not_hang(vector) -> None:
    import torch

    torch.ones(300, 300) @ torch.ones(300, 300)
    environments = vector("async", Threaded)
    environments.reset(seed=0)
    assert environments.step(ZEROS[:1])[4]["threads"].tolist() == [1]  # T81


def test_what_the_main_script_is_born_with_is_given_back(vector) -> None:
    before = sys.modules["__main__"], dict(os.environ)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    vector("async", Steady)
    assert (sys.modules["__main__"], dict(os.environ)) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(text)
    result = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    return result.stdout + result.stderr


def test_a_script_needs_no_guard(tmp_path) -> None:
    """Python would have every worker run it again, which starts workers, and so on."""
    output = script(
        tmp_path,
        "from envs.vector.base import SlotVectorEnv\n"
        "from tests.envs.misbehaving import Steady\n"
        "environments = SlotVectorEnv([Steady] * 2, on_failure='stop', in_workers=True)\n"
        "print(environments.reset(seed=0)[0].tolist())\n",  # and it ends without close()
    )
    assert output == "[[1.0, 0.0], [1.0, 0.0]]\n"


def test_what_a_script_defines_itself_is_found(tmp_path) -> None:
    output = script(
        tmp_path,
        "from envs.vector.base import SlotVectorEnv\n"
        "from tests.envs.misbehaving import Steady\n"
        "class Mine(Steady): pass\n"
        "if __name__ == '__main__':\n"
        "    environments = SlotVectorEnv([Mine] * 2, on_failure='stop', in_workers=True)\n"
        "    print(environments.reset(seed=0)[0].tolist())\n"
        "    environments.close()\n",
    )
    assert output == "[[1.0, 0.0], [1.0, 0.0]]\n"


@pytest.mark.parametrize("maker", [lambda: Steady(), partial(Steady, length=object)])
def test_only_what_can_be_imported_is_sent(vector, maker) -> None:
    if isinstance(maker, partial):
        vector("async", maker)  # a class is found by its name
        return
    with pytest.raises(ValueError, match=r"^env\.vectorization=async: .*lambda.*=sync$"):
        vector("async", maker)


def test_what_cannot_be_made_is_named(vector, tmp_path) -> None:
    for first in (None, tmp_path / "licence"):  # where the first is made, to be described
        with pytest.raises(RuntimeError, match="environment 0 cannot be made: OSError: no licence"):
            vector("async", partial(Unmakeable, first=first))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_environments_must_be_alike(vector, kind: str) -> None:
    with pytest.raises(RuntimeError, match=r"environment 1 .*the observation space Box"):
        vector(kind, Steady, Other)


def test_refusals_of_registered_environments_are_the_same(make, refusal) -> None:
    for changes in (
        {"id": "neurl/Recall-v0", "kwargs": {"length": 1}},
        {"id": "FrozenLake-v1", "frame_stack": 2},
        {"id": "CartPole-v1", "kwargs": {"sutton": 1}},
    ):
        assert refusal(vectorization="async", **changes) == refusal(**changes)


def test_packages_are_imported_by_workers_too(tmp_path, monkeypatch, make) -> None:
    (tmp_path / "registers_and_needs_itself.py").write_text(
        "import gymnasium\n"
        "from tests.probes import ConstantReward\n"
        "def inner(): return gymnasium.make('test/Inner-v0')\n"
        "def outer(): return gymnasium.make('test/Inner-v0').unwrapped\n"
        "gymnasium.register(id='test/Outer-v0', entry_point=outer)\n"
        "gymnasium.register(id='test/Inner-v0', entry_point=lambda: ConstantReward("
        "continuous=True))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    environments = make(
        id="test/Outer-v0", packages=["registers_and_needs_itself"], vectorization="async"
    )
    assert environments.reset(seed=0)[0].tolist() == [[0], [0]]
    for id in ("test/Outer-v0", "test/Inner-v0"):
        del gymnasium.registry[id]


# ---- the end


def assert_closes(environments: SlotVectorEnv, *, within: float = 5.0) -> None:
    pids = pids_of(environments)
    started = time.monotonic()
    environments.close()
    assert time.monotonic() - started < within
    assert not any(is_running(pid) for pid in pids)
    assert not multiprocessing.active_children()
    environments.close()  # again: nothing


def test_closing_ends_all_processes(vector) -> None:
    environments = vector("async", Steady, Steady)
    environments.reset(seed=0)
    environments.step(ZEROS)
    assert_closes(environments, within=1.0)


def test_closing_waits_for_nobody(vector, monkeypatch) -> None:
    monkeypatch.setattr(remote, "_CLOSE_SECONDS", 0.2)
    environments = vector("async", Stubborn, Steady)
    environments.reset(seed=0)
    assert_closes(environments, within=1.0)


def test_what_is_forgotten_is_ended(vector) -> None:
    environments = SlotVectorEnv([Steady], in_workers=True, on_failure="stop", step_timeout=20.0)
    pids = pids_of(environments)
    del environments
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(is_running(pid) for pid in pids)


@pytest.mark.parametrize("on_failure", ["stop", "restart"])
def test_a_worker_that_dies_is_noticed_at_once(vector, on_failure: str) -> None:
    environments = vector(
        "async", Steady, partial(Misbehaving, "dies", length=None), on_failure=on_failure
    )
    environments.reset(seed=0)
    for _ in range(2):
        environments.step(ZEROS)
    started = time.monotonic()
    if on_failure == "stop":
        with pytest.raises(
            EnvironmentFailure, match=r"^environment 1 .*: WorkerLost: .*killed \(SIGKILL\)$"
        ):
            environments.step(ZEROS)
    else:
        observations, rewards, _, _, infos = environments.step(ZEROS)
        assert observations.tolist() == [[1, 3], [1, 0]]
        assert rewards.tolist() == [1, 0]
        assert infos["restarted"].tolist() == [False, True]
        assert environments.step(ZEROS)[0].tolist() == [[1, 4], [1, 1]]
    assert time.monotonic() - started < 5
    assert_closes(environments)


def test_a_worker_found_dead_does_not_keep_the_others_from_being_saved(vector) -> None:
    environments = vector("async", Steady, Told, on_failure="restart")
    environments.reset(seed=0)
    environments.step(ZEROS)
    os.kill(pids_of(environments)[0], signal.SIGKILL)
    snapshots = environments.snapshot()
    assert snapshots[0]["slot"] is None
    assert environments.restarts == 0
    assert environments.step(ZEROS)[4]["restarted"].tolist() == [True, False]
    assert environments.restore(snapshots) == [False, True]


def test_how_a_worker_died_is_told_by_the_next_step_too(vector) -> None:
    environments = vector("async", Steady)
    environments.reset(seed=0)
    os.kill(pids_of(environments)[0], signal.SIGKILL)
    environments.snapshot()
    with pytest.raises(EnvironmentFailure, match=r"WorkerLost: .*killed \(SIGKILL\)$"):
        environments.step(ZEROS[:1])


def test_an_environment_that_cannot_be_made_again_says_why_each_time(tmp_path) -> None:
    worker = RemoteSlot(partial(Unmakeable, first=tmp_path / "first"), 0, 20.0)
    worker.describe()
    worker.kill()
    for _ in range(2):
        with pytest.raises(RemoteFailure, match="no licence"):
            worker.remake({})
        assert worker.is_lost
    (tmp_path / "first").unlink()
    worker.remake({})
    worker.kill()


def test_a_parent_that_ends_while_an_environment_cannot_be_made(monkeypatch) -> None:
    monkeypatch.setattr(serving, "_belong_to_parent", lambda: None)
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    serving.serve(theirs, Unmakeable, 0, None)


@pytest.mark.parametrize("on_failure", ["stop", "restart"])
def test_a_worker_that_hangs_is_given_up(vector, on_failure: str) -> None:
    environments = vector(
        "async",
        partial(Misbehaving, "hangs", length=None),
        Steady,
        on_failure=on_failure,
        step_timeout=0.5,
    )
    environments.reset(seed=0)
    for _ in range(2):
        environments.step(ZEROS)
    hanging = pids_of(environments)[0]
    started = time.monotonic()
    if on_failure == "stop":
        with pytest.raises(
            EnvironmentFailure, match=r"no answer within 0\.5 s \(env\.step_timeout\)$"
        ):
            environments.step(ZEROS)
    else:
        observations, _, _, _, infos = environments.step(ZEROS)
        assert observations.tolist() == [[1, 0], [1, 3]]
        assert infos["restarted"].tolist() == [True, False]
        for step in range(1, 3):  # nothing of the old process is ever read
            assert environments.step(ZEROS)[0][0].tolist() == [1, step]
    assert time.monotonic() - started < 5
    assert not is_running(hanging)
    assert_closes(environments)


def test_slow_environments_do_not_wait_for_each_other(vector) -> None:
    environments = vector("async", *[partial(Timed, seconds=0.2)] * 4)
    environments.reset(seed=0)
    started = time.monotonic()
    environments.step(np.full(4, 2))
    assert time.monotonic() - started < 0.7  # F32


def test_without_a_limit_a_slow_step_is_waited_for(vector) -> None:
    environments = vector("async", partial(Timed, seconds=0.3), step_timeout=None)
    environments.reset(seed=0)
    assert environments.step(np.array([2]))[0].tolist() == [[1, 1]]


@pytest.fixture
def loose_worker() -> Iterator[SimpleNamespace]:
    """A worker's handle whose other end the test holds: it can say whatever it likes."""
    ours, theirs = multiprocessing.Pipe()
    worker = RemoteSlot.__new__(RemoteSlot)
    worker.is_lost, worker.pid, worker._number, worker._step_timeout = False, None, 0, 0.1
    worker._connection, worker._poller = ours, None
    worker._process = SimpleNamespace(
        kill=lambda: None, join=lambda seconds: None, close=lambda: None, exitcode=None
    )
    yield SimpleNamespace(worker=worker, end=theirs)
    ours.close()
    theirs.close()


def test_a_late_answer_is_never_taken_for_a_new_one(loose_worker) -> None:
    worker, end = loose_worker.worker, loose_worker.end
    worker.send("raw_episode")
    worker.send("raw_episode")
    end.send((1, None, ("ValueError: late", "")))  # to call 1, which nobody waits for any more
    end.send((2, (1.0, 3), None))
    assert worker.receive() == (1.0, 3)
    worker.send_step(np.int64(0))
    end.send((2, (1.0, 3), None))
    with pytest.raises(WorkerLost, match=r"no answer within 0\.1 s"):
        worker.step(0)
    assert worker.is_lost
    with pytest.raises(WorkerLost, match=r"no answer within 0\.1 s"):
        worker.receive()


def test_what_only_its_own_process_can_build_is_left_out() -> None:
    kept = {"x": 1, "y": np.float32(2), "z": [np.ones(2), {"deep": "text"}], "none": None}
    own = {"file": sys.stderr, "call": lambda: 0, "list": [object()], "array": np.array([{}])}
    assert _plain({**kept, **own, 3: 4}) == kept
    assert _plain("no dictionary") == {}


def test_a_call_to_a_dead_worker_does_no_harm(loose_worker) -> None:
    worker, end = loose_worker.worker, loose_worker.end
    end.close()
    worker.send_step(np.int64(0))
    with pytest.raises(WorkerLost, match="does not answer any more"):
        worker.step(0)


def test_after_an_interrupted_step_the_next_one_is_right(vector, monkeypatch) -> None:
    """Ctrl-C while answers are awaited: they are still in the pipes when the run goes on."""
    environments: Any = vector("async", Steady, Steady)
    environments.reset(seed=0)
    read = RemoteSlot.receive

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(RemoteSlot, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environments.step(ZEROS)
    monkeypatch.setattr(RemoteSlot, "receive", read)
    assert environments.step(ZEROS)[0].tolist() == [[1, 2], [1, 2]]
