"""TensorBoard's event files: written record by record, and rewound when a run is resumed.

A run has one file for each session. TensorBoard reads them in the order of their names, and drops
points when a later file has earlier steps.
"""

import os
import socket
import time
import warnings
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

EPISODES = "episodes.csv"
Position = dict[str, int]
"""The event files and the table of a run by name, with their sizes in bytes."""


class EventFile:
    """The file of one session, written in the caller's thread, so that the caller gets errors."""

    def __init__(self, directory: Path) -> None:
        """Create a file that sorts after those of earlier sessions, whatever the clock says."""
        newest = max(map(_time_of, event_files(directory)), default=0)
        name = f"events.out.tfevents.{max(int(time.time()), newest + 1):010d}"
        path = directory / f"{name}.{socket.gethostname()}.{os.getpid()}.0"
        self._file = path.open("xb")
        self._records = RecordWriter(self._file)
        self.add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, event: Any) -> None:
        """Append an event; it survives the end of the process."""
        self._records.write(event.SerializeToString())
        self._file.flush()

    def synchronize(self) -> None:
        """Flush the file to disk; it survives a machine failure."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def event_files(directory: Path) -> list[Path]:
    """List the event files of a run, oldest first."""
    return sorted(directory.glob("events.out.tfevents.*"))


def position(directory: Path) -> Position:
    """Return the size of each event file of a run, and of its table of episodes."""
    return {path.name: path.stat().st_size for path in _records(directory)}


def _records(directory: Path) -> list[Path]:
    return [*event_files(directory), *directory.glob(EPISODES)]


def rewind(directory: Path, target: Position | None) -> None:
    """Remove points logged after a checkpoint, so that a resumed run repeats none.

    Event files that have grown since are truncated, those of later sessions deleted. An unknown
    position (None) changes nothing. Call before `TensorBoard` is created.

    Raises:
        OSError: a file cannot be truncated or deleted.
    """
    if target is None:
        return
    found = {path.name: path for path in _records(directory)}  # no path comes from a checkpoint
    for name, path in found.items():
        if name not in target:
            path.unlink()
        elif path.stat().st_size > target[name]:
            os.truncate(path, target[name])
    now = position(directory)
    lost = [name for name, size in target.items() if now.get(name, 0) < size]
    if lost:
        warnings.warn(
            f"the curves of {directory} have gaps: points are missing from {', '.join(lost)}",
            RuntimeWarning,
            stacklevel=2,
        )


def _time_of(path: Path) -> int:
    text = path.name.split(".")[3]
    return int(text) if text.isdecimal() else 0
