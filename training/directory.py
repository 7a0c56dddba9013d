"""Run directories: one process at a time, and none left behind by a run that never began."""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conf.stored import read_json

try:
    import fcntl
except ImportError:  # Windows: directories are not guarded there
    fcntl = None  # type: ignore[assignment]


class Occupied(ValueError):
    """Another process is training into the directory."""


@contextmanager
def claimed(run_directory: Path) -> Iterator[None]:
    """Hold a run directory; the system lets go of it when the process ends, however it does.

    Raises:
        Occupied: another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(run_directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Occupied(
            f"run_dir: another process is training into {run_directory}; choose another"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def finished(run_directory: Path, *, total_env_steps: int) -> tuple[int, float] | None:
    """Return steps and score of a run that has taken all its steps; None where some are left."""
    try:
        summary = read_json(run_directory / "summary.json")
        steps, evaluation = int(summary["env_steps"]), summary["evaluation"] or {}
        is_over = summary["status"] == "finished" and steps >= total_env_steps
        return (steps, float(evaluation.get("return_mean", math.nan))) if is_over else None
    except (OverflowError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # the checkpoints know


def discard(run_directory: Path) -> None:
    """Remove the directory of a run that never began, unless it holds more or is in use."""
    if not run_directory.is_dir() or any(p.name != ".hydra" for p in run_directory.glob("*")):
        return
    with suppress(Occupied, OSError), claimed(run_directory):
        shutil.rmtree(run_directory)
