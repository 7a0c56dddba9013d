"""Runs workers of two interpreters in turn, and describes the machine; measures nothing itself.

A side is `ours`, or a peer's package name.

Free of torch, so that the harness neither warms a cache for a worker nor competes with it.
"""

import argparse
import atexit
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class Workers:
    """Starts one process per measurement, in our interpreter or in the peers'.

    Each workload has its own cache of `torch.compile`, empty at first.
    """

    def __init__(self, *, peers_python: Path) -> None:
        self._peers_python = peers_python
        self._caches = Path(tempfile.mkdtemp(prefix="neurl-benchmarks-"))
        atexit.register(shutil.rmtree, self._caches, ignore_errors=True)

    def run(self, side: str, *arguments: str | int) -> dict[str, Any]:
        """Run one workload in a new process and read the JSON on its last line."""
        python, module = Path(sys.executable), "benchmarks.ours"
        if side != "ours":
            python, module = self._peers_python, f"benchmarks.peers.{side.replace('-', '_')}"
        words = [str(argument) for argument in arguments]
        command = [str(python), "-m", module, *words]
        cache = str(self._caches / words[1])
        print(f"  {side}: {' '.join(words)}", file=sys.stderr, flush=True)
        finished = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | ONE_THREAD | {"TORCHINDUCTOR_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            sys.exit(f"{side} failed: {' '.join(command)}\n{finished.stderr}")
        result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
        return result


def in_turn(sides: Sequence[str], round_number: int) -> list[str]:
    """Let the sides take turns to go first: a machine slows down and recovers."""
    first = round_number % len(sides)
    return [*sides[first:], *sides[:first]]


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Build the arguments of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=PEERS_PYTHON,
        help="the interpreter that has the peers (default: make peers's)",
    )
    parser.add_argument("--json", type=Path, help="also write every single measurement there")
    return parser


def require_peers(python: Path) -> None:
    """End with a message if the peers are not installed."""
    if not python.exists():
        sys.exit(f"There is no {python}: run 'make peers', or name one with --peers-python")


def machine() -> str:
    """Describe processor, versions and commit."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return ", ".join(
        (
            f"{os.cpu_count()} x {_processor()}",
            f"Python {platform.python_version()}",
            f"torch {_version('torch')}",
            f"gymnasium {_version('gymnasium')}",
            f"commit {commit or 'unknown'}",
        )
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table: names in the first column, numbers after it."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def save(path: Path | None, measurements: object) -> None:
    """Save the raw measurements, if requested."""
    if path is not None:
        text = json.dumps({"machine": machine(), "measurements": measurements}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
