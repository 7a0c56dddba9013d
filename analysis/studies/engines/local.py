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
        self._processes: list[Process] = []

    def submit(self, commands: Sequence[Command]) -> list[Process]:
        """Start a process for each job."""
        processes = [start(command) for command in commands]
        self._processes += processes
        return processes

    def poll(self, handle: Process) -> int | None:
        """Return the exit code; it is negative if a signal ended the process."""
        return handle.poll()

    def cancel(self, handle: Process) -> None:
        """Send SIGTERM, at which a run saves."""
        handle.terminate()

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
