"""The largest resident memory of a run's process."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from training.process import memory
from training.process.memory import peak_memory
from training.runs.progression import Progression

ROOT = Path(__file__).resolve().parents[2]


def of_a_process(allocated: int) -> float:
    program = (
        f"block = bytearray(b'1') * ({allocated} * 2**20); del block;"
        "from training.process.memory import peak_memory; print(peak_memory())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(finished.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's own is not known")
def test_it_is_the_processs_own_and_not_that_of_its_parent() -> None:
    mine, small, large = peak_memory(), of_a_process(0), of_a_process(100)
    assert mine is not None
    assert small < 50 < mine  # torch is loaded here
    assert 100 < large < 150


def test_where_linux_does_not_tell_getrusage_does(monkeypatch) -> None:
    own = peak_memory()
    monkeypatch.setattr(memory, "_STATUS", Path("/nowhere/status"))
    assert own is None or peak_memory() == pytest.approx(own, rel=0.2)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() is None


def test_the_largest_of_all_sessions_counts(monkeypatch) -> None:
    peaks = iter([300.0, 200.0, 200.0, None])
    monkeypatch.setattr("training.runs.progression.peak_memory", lambda: next(peaks))
    first = Progression().state_dict()
    second = Progression.from_state_dict(first).state_dict()
    assert second["earlier_peak_mib"] == 300
    third = Progression.from_state_dict({**second, "earlier_peak_mib": None})
    assert third.summary()["peak_memory_mib"] == 200
    assert Progression().summary()["peak_memory_mib"] is None


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PROGRAM = """
from training.process.memory import keep_freed_memory
keep_freed_memory()
print(open("/proc/self/smaps").read())
"""


@pytest.mark.skipif(not HUGE_PAGES.exists(), reason="Linux alone has them, and not everywhere")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries take no settings")
def test_the_heap_grows_in_huge_pages() -> None:
    told = subprocess.check_output([sys.executable, "-c", PROGRAM], cwd=ROOT, text=True)
    of_heap = told.rpartition("[heap]")[2]  # the last of its mappings
    flags = next(line for line in of_heap.splitlines() if line.startswith("VmFlags:"))
    assert "hg" in flags.split()
