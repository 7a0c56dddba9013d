"""Jobs as processes of this machine."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.studies.engines.engine import Command, Engine, Process, start


class LocalEngine(Engine):
    """As many processes as there are cores."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Take the options of conf/engine/local.yaml."""
        self.capacity = cores() if options["jobs"] == "auto" else options["jobs"]

    def submit(self, commands: Sequence[Command]) -> list[Process]:
        """Start a process for each job."""
        return [start(command) for command in commands]

    def poll(self, handle: Process) -> int | None:
        """Return the exit code; it is negative if a signal ended the process."""
        return handle.poll()

    def cancel(self, handle: Process) -> None:
        """Send SIGTERM, at which a run saves."""
        handle.terminate()


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
