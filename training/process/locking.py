"""Locks on directories, which the system releases however their owner ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: directories are not locked there
    fcntl = None  # type: ignore[assignment]


class Locked(Exception):
    """Another process has locked the directory."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock a directory.

    Raises:
        Locked: another process has.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise Locked(f"another process uses {directory}") from error
        except OSError:  # a disk without locks, as some clusters have
            pass
        yield
    finally:
        os.close(descriptor)


def is_locked(directory: Path) -> bool:
    """Tell whether a process works in a directory."""
    if not directory.is_dir():
        return False
    try:
        with locked(directory):
            return False
    except Locked:
        return True
