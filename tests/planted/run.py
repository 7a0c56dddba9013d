"""Plants every fault of the list in a copy of the tree and asks the nearest tests about it.

    python -m tests.planted.run [--jobs N] [--all] [PART OF A NAME OR FILE ...]

Nothing is ever changed in the tree itself. Each test run is a process forked from one that has the
large packages loaded already, and none of ours.
"""

import argparse
import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.planted.fault import ROOT, Fault
from tests.planted.faults import FAULTS

SHARE = 0.97
"""Of the faults that must be noticed."""
TIMEOUT = 180.0
WHOLE_SUITE = ("tests",)
LIBRARIES = [
    "pytest",
    "torch",
    "gymnasium",
    "safetensors.torch",
    "beartype",
    "tensorboard.backend.event_processing.event_file_loader",
]

Outcome = tuple[str, float]  # what came of it, and seconds
PASSED, FAILED, LATE = "passed", "failed", "timed out"


def copy_of_the_tree(directory: Path) -> Path:
    """Copy what git knows or would take; times stay, so that compiled files stay valid."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tree = Path(tempfile.mkdtemp(prefix="tree-", dir=directory))
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


@contextlib.contextmanager
def planted(fault: Fault, tree: Path) -> Iterator[None]:
    """Have the fault in a copy of the tree for a while."""
    path = tree / fault.file
    source, times = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(source.replace(fault.text, fault.planted), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(source, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def run_pytest(tree: Path, words: Sequence[str], log: Path, is_planted: bool) -> None:
    """Run tests in this process, which is one of their own, and leave it with pytest's code."""
    os.setsid()  # so that whoever gives it up ends its children too
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    if is_planted:  # what is compiled of it must not be found by the next one
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.path[:] = [str(tree), *(entry for entry in sys.path if Path(entry or ".") != ROOT)]
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    import pytest

    sys.exit(pytest.main([*words, "-x", "-q", "-p", "no:cacheprovider"]))


def tested(
    context: Any, tree: Path, words: Sequence[str], timeout: float, *, is_planted: bool = True
) -> Outcome:
    """Run tests in a copy of the tree."""
    log, started = tree.with_suffix(".log"), time.monotonic()
    process = context.Process(target=run_pytest, args=(tree, words, log, is_planted))
    process.start()
    process.join(timeout)
    outcome = LATE
    if process.exitcode is not None:
        outcome = {0: PASSED, 1: FAILED}.get(process.exitcode, f"exit code {process.exitcode}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    return outcome, time.monotonic() - started


class Trees:
    """Copies of the tree that are lent, one for each fault at a time."""

    def __init__(self, directory: Path, count: int) -> None:
        self._free: SimpleQueue[Path] = SimpleQueue()
        for _ in range(count):
            self._free.put(copy_of_the_tree(directory))

    @contextlib.contextmanager
    def lent(self) -> Iterator[Path]:
        tree = self._free.get()
        try:
            yield tree
        finally:
            self._free.put(tree)


def verdict(context: Any, trees: Trees, fault: Fault, *, everything: bool) -> str:
    """Plant one fault; say in words what the tests made of it."""
    with trees.lent() as tree, planted(fault, tree):
        outcome, seconds = tested(context, tree, fault.tests, TIMEOUT)
        if outcome == PASSED and everything:
            outcome, seconds = tested(context, tree, WHOLE_SUITE, 10 * TIMEOUT)
    told = {FAILED: "noticed", LATE: "noticed (timed out)", PASSED: "NOT NOTICED"}
    line = f"{told.get(outcome, f'BROKEN, {outcome}'):<20} {seconds:5.1f} s  {fault.file}"
    print(f"{line}: {fault.name}", flush=True)
    return told.get(outcome, "BROKEN")


def problems(faults: Sequence[Fault]) -> list[str]:
    """Say which faults no longer fit the source."""
    sources = {f.file: (ROOT / f.file).read_text(encoding="utf-8") for f in faults}
    return [problem for f in faults if (problem := f.problem(sources[f.file]))]


def chosen(words: Sequence[str]) -> list[Fault]:
    """Choose faults of whose name or file one of the words is a part; all without words."""
    return [f for f in FAULTS if not words or any(w in f"{f.file}: {f.name}" for w in words)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted.run")
    parser.add_argument("only", nargs="*", help="parts of names or files; all without")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    parser.add_argument(
        "--all", action="store_true", help="ask the whole fast suite where the nearest pass"
    )
    given = parser.parse_args(arguments)
    faults = chosen(given.only)
    lost = problems(faults)
    if lost or not faults:
        print(*(lost or ["no fault has such a name"]), sep="\n")
        return 2
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with tempfile.TemporaryDirectory(prefix="planted-") as directory:
        trees = Trees(Path(directory), given.jobs)
        with trees.lent() as tree:
            nearest = sorted({test for fault in faults for test in fault.tests})
            outcome, seconds = tested(context, tree, nearest, 20 * TIMEOUT, is_planted=False)
            print(f"without a fault: {outcome} ({seconds:.0f} s)", flush=True)
            if outcome != PASSED:
                print(tree.with_suffix(".log").read_text()[-4000:])
                return 2
        with ThreadPoolExecutor(given.jobs) as pool:
            ask = lambda fault: verdict(context, trees, fault, everything=given.all)  # noqa: E731
            found = list(pool.map(ask, faults))
    count = sum(word.startswith("noticed") for word in found)
    print(f"{count} of {len(found)} planted faults noticed ({count / len(found):.1%})")
    for fault, word in zip(faults, found, strict=True):
        if not word.startswith("noticed"):
            print(f"  {word}: {fault.file}: {fault.name}")
    return 0 if count >= SHARE * len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
