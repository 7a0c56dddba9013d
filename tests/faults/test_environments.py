"""Environments and their processes fail in every way; runs stop in order, or go on in truth."""

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.vector.base import SlotVectorEnv
from envs.vector.failures import EnvironmentFailure
from tests.envs.misbehaving import DEEDS, Misbehaving, Steady, Stubborn, Unmakeable

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
HURT = ("exits", "crashes", "dies", "hangs", "hangs hard")  # what only a worker survives
DATA = ("raises", "asks to exit", "observation: nan", "observation: another shape", "reward: nan")
WHEN: dict[str, dict[str, Any]] = {
    "once": {"length": 6},
    "in every life": {"length": None},
    "at random": {"probability": 0.05},
}


@pytest.fixture
def vector() -> Iterator[Callable[..., SlotVectorEnv]]:
    made: list[SlotVectorEnv] = []

    def vectorize(kind: str, *makers: Any, on_failure: Any = "restart") -> SlotVectorEnv:
        workers = {"in_workers": True, "step_timeout": 0.5} if kind == "async" else {}
        made.append(SlotVectorEnv(makers, on_failure=on_failure, **workers))
        return made[-1]

    yield vectorize
    for environments in made:
        environments.close()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"  # dead, and nobody has looked


def assert_gone(pids: list[int], *, within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if is_running(pid)] == []


def pids_of(environments: SlotVectorEnv) -> list[int]:
    return [worker.pid for worker in environments._workers]


def assert_true_stream(environments: SlotVectorEnv, steps: int, length: int | None) -> int:
    """Every row follows from the one before: a step, a reset, or a restart; returns the latter."""
    size = environments.num_envs
    before = environments.reset(seed=1)[0].copy()
    ended, restarts = np.zeros(size, bool), 0
    for _ in range(steps):
        observations, rewards, terminated, truncated, infos = environments.step(np.full(size, 2))
        restarted = infos.get("restarted", np.zeros(size, bool))
        for index in range(size):
            shown = observations[index].tolist()
            if restarted[index]:
                assert (shown, rewards[index], terminated[index]) == ([1, 0], 0, False)
            elif ended[index]:
                assert (shown, rewards[index]) == ([before[index][0] + 1, 0], 0)
            else:
                assert shown == [before[index][0], before[index][1] + 1]
                assert rewards[index] == 1
                assert terminated[index] == (shown[1] == length)
        assert not truncated.any()
        ended, before = terminated, observations.copy()
        restarts += int(restarted.sum())
    return restarts


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(
    ("kind", "what"),
    [("sync", what) for what in DATA] + [("async", what) for what in (*DATA, *HURT)],
)
def test_the_stream_is_true_whatever_fails(
    vector, tmp_path, kind: str, what: str, when: str
) -> None:
    options = {"length": 6, **WHEN[when]}
    if when == "once":
        options["once"] = tmp_path / "once"
    bad = partial(Misbehaving, what, **options)
    environments = vector(kind, partial(Steady, length=options["length"]), bad)
    steps = 9 if what.startswith("hangs") else 60
    restarts = assert_true_stream(environments, steps, options["length"])
    assert restarts == 1 if when == "once" else restarts >= (0 if steps == 9 else 1)
    assert environments.restarts == restarts


@pytest.mark.parametrize("what", [f"reset {what}" for what in (*DATA[:3], *HURT)])
@pytest.mark.parametrize("on_failure", ["stop", "restart"])
def test_resets_that_always_fail_end_the_run(vector, what: str, on_failure: str) -> None:
    environments = vector("async", Steady, partial(Misbehaving, what), on_failure=on_failure)
    started = time.monotonic()
    expected = r"^environment 1 \(reset\(seed=\d+\)\) failed in reset: "
    with pytest.raises(EnvironmentFailure, match=expected):
        environments.reset(seed=0)
    assert environments.restarts == (2 if on_failure == "restart" else 0)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("what", [what for what in DEEDS if what in HURT])
def test_a_reset_that_fails_once_is_made_up_for(vector, tmp_path, what: str) -> None:
    once = tmp_path / "once"
    environments = vector("async", Steady, partial(Misbehaving, f"reset {what}", once=once))
    assert environments.reset(seed=0)[0].tolist() == [[1, 0], [1, 0]]
    assert environments.restarts == 1


def test_workers_killed_at_any_moment_leave_a_true_stream(vector) -> None:
    environments = vector("async", *[partial(Steady, length=6)] * 3)
    assert_true_stream(environments, 5, 6)
    random_generator, is_over = random.Random(0), threading.Event()

    def kill() -> None:
        while not is_over.wait(random_generator.uniform(0.02, 0.2)):
            os.kill(random_generator.choice(pids_of(environments)), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        restarts, ends = 0, time.monotonic() + 40
        while restarts < 10 and time.monotonic() < ends:
            try:
                environments.reset(seed=1)
                restarts += steps_until_a_restart(environments)
            except EnvironmentFailure:  # three in a row: it happens where a start takes long
                continue
    finally:
        is_over.set()
        killer.join()
    assert restarts >= 10


def steps_until_a_restart(environments: SlotVectorEnv) -> int:
    before = environments.current_observations().copy()
    for _ in range(200):
        observations, _, _, _, infos = environments.step(np.full(3, 2))
        if "restarted" in infos:
            assert observations[infos["restarted"]].tolist() == [[1, 0]] * infos["restarted"].sum()
            return int(infos["restarted"].sum())
        went_on = observations[:, 1] == before[:, 1] + 1
        assert (went_on | (observations[:, 1] == 0)).all()
        before = observations.copy()
    return 0


def test_many_new_processes_leave_nothing_behind(vector) -> None:
    environments = vector("async", partial(Misbehaving, "exits", probability=0.2, length=None))
    environments.reset(seed=0)

    def used() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def step(count: int) -> None:
        for _ in range(count):
            try:
                environments.step(np.array([2]))
            except EnvironmentFailure:  # three in a row: it happens
                environments.reset(seed=0)

    step(30)
    before, restarts = used(), environments.restarts
    step(150)
    assert environments.restarts > restarts + 15
    assert used() == before


# ---- processes that end

HOLDER = """
import os, sys, time
import numpy as np
from functools import partial
from envs.vector.base import SlotVectorEnv
from tests.envs.misbehaving import Misbehaving, Steady
if __name__ == "__main__":
    what = sys.argv[1]
    bad = partial(Misbehaving, what) if what != "waits" else Steady
    environments = SlotVectorEnv([Steady, bad], on_failure="stop", in_workers=True)
    environments.reset(seed=0)
    print(*(worker.pid for worker in environments._workers), flush=True)
    for _ in range(3 if what != "waits" else 0):
        environments.step(np.array([2, 2]))
    time.sleep(60)
"""


@pytest.mark.parametrize("what", ["waits", "hangs", "hangs hard"])
def test_no_worker_outlives_a_killed_parent(tmp_path, what: str) -> None:
    shared = set(os.listdir("/dev/shm"))
    path = tmp_path / "holder.py"
    path.write_text(HOLDER)
    process = subprocess.Popen(
        [sys.executable, str(path), what],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.7)  # in the midst of it
    assert all(is_running(pid) for pid in pids)
    process.kill()
    process.wait()
    assert_gone(pids)  # F23
    assert set(os.listdir("/dev/shm")) <= shared
    process.stdout.close()


@pytest.mark.parametrize(
    "state", ["new", "begun", "stepped", "hanging", "hanging hard", "dead", "failed", "stubborn"]
)
def test_closing_is_quick_in_every_state(vector, state: str) -> None:
    what = {"hanging": "hangs", "hanging hard": "hangs hard", "failed": "raises"}.get(state)
    second = Steady if what is None else partial(Misbehaving, what)
    second = Stubborn if state == "stubborn" else second
    environments = SlotVectorEnv(
        [Steady, second], in_workers=True, on_failure="stop", step_timeout=None
    )
    pids = pids_of(environments)
    if state != "new":
        environments.reset(seed=0)
    if state in ("stepped", "failed"):
        environments.step(np.array([2, 2]))
    if state == "failed":
        environments.step(np.array([2, 2]))
        with pytest.raises(EnvironmentFailure):
            environments.step(np.array([2, 2]))
    if state == "dead":
        os.kill(pids[1], signal.SIGKILL)
    if state.startswith("hanging"):
        for _ in range(2):
            environments.step(np.array([2, 2]))
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.5)  # as Ctrl-C does
        with pytest.raises(KeyboardInterrupt):
            environments.step(np.array([2, 2]))
    started = time.monotonic()
    environments.close()
    assert time.monotonic() - started < 5
    assert_gone(pids, within=0.0)


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_maker_that_fails_in_the_third_process_ends_the_others(tmp_path) -> None:
    before = children()
    makers = [Steady, Steady, Unmakeable]
    with pytest.raises(RuntimeError, match="environment 2 cannot be made: OSError: no licence"):
        SlotVectorEnv(makers, in_workers=True, on_failure="restart", step_timeout=1.0)
    assert children() <= before


def children() -> set[int]:
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return {pid for pid in map(int, path.read_text().split()) if is_running(pid)}


# ---- whole runs

RUN = [
    "env.packages=[tests.envs.registering]",
    "extractor.hidden_sizes=[8]",
    "env.num_envs=4",
    "agent.rollout_length=16",
    "agent.num_minibatches=2",
    "agent.num_epochs=1",
    "evaluation.interval=0",
    "evaluation.num_envs=1",
    "evaluation.final_episodes=1",
    "tracking.progress=false",
]


def training(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "train.py", *RUN, f"run_dir={tmp_path / 'run'}", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def group(pid: int) -> list[int]:
    """All living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def processes_of(process: subprocess.Popen[str], tmp_path: Path) -> list[int]:
    """Waits until the run is under way; returns its processes."""
    while not (tmp_path / "run" / "summary.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.0)
    return group(process.pid)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("what", ["raises", "observation: nan"])
def test_a_run_stops_and_says_why(tmp_path, kind: str, what: str) -> None:
    process = training(
        tmp_path,
        "env.id=test/Misbehaving-v0",
        f"+env.kwargs.what='{what}'",
        f"env.vectorization={kind}",
        "total_env_steps=1000",
    )
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "environment 0 (reset(seed=" in output
    assert "step 3 of its episode) failed in step with action" in output
    assert "Traceback" not in output
    assert_gone(group(process.pid))


@pytest.mark.parametrize("what", ["raises", "crashes"])
def test_a_run_goes_on_with_environments_made_anew(tmp_path, what: str) -> None:
    process = training(
        tmp_path,
        "env.id=test/Misbehaving-v0",
        f"+env.kwargs={{what: {what}, probability: 0.02}}",
        "env.vectorization=async",
        "env.on_failure=restart",
        "total_env_steps=2000",
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "it starts anew" in output
    assert_gone(group(process.pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_is_the_parents_to_obey(tmp_path, number: int) -> None:
    """A terminal and a scheduler signal the whole group: workers must not die of it."""
    process = training(
        tmp_path,
        "env.id=test/Timed-v0",
        "+env.kwargs.seconds=0.05",
        "env.vectorization=async",
        "total_env_steps=100000",
    )
    pids = processes_of(process, tmp_path)
    assert len(pids) > 4
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + number, output
    assert "Traceback" not in output
    assert "WorkerLost" not in output
    assert (tmp_path / "run" / "checkpoints" / "last").exists()
    assert_gone(pids)


def test_a_killed_run_leaves_no_process(tmp_path) -> None:
    process = training(
        tmp_path,
        "env.id=test/Timed-v0",
        "+env.kwargs.seconds=0.05",
        "env.vectorization=async",
        "total_env_steps=100000",
    )
    pids = processes_of(process, tmp_path)
    assert len(pids) > 4
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert_gone(pids)


def test_a_hang_that_holds_the_interpreter_is_one() -> None:
    """Or the tests above would show nothing: no thread runs while it lasts."""
    counted = [0]

    def count() -> None:
        while counted[0] < 10**9:
            counted[0] += 1
            time.sleep(0.001)

    threading.Thread(target=count, daemon=True).start()
    time.sleep(0.05)
    before = counted[0]
    ctypes.PyDLL(None).usleep(300_000)
    assert counted[0] - before <= 2
    counted[0] = 10**9
