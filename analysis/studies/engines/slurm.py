"""Jobs as an array of SLURM jobs, by submitit; nodes share the disk of the study."""

import math
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.studies.engines.engine import (
    Command,
    Engine,
    Process,
    end,
    import_path,
    needed,
    start,
)
from analysis.studies.engines.local import cores
from training.runs.refusal import Refusal

_REQUEUES = 1_000
"""Times that a job may reach its time limit; each time it resumes."""


class SlurmEngine(Engine):
    """One array for all jobs that are submitted together."""

    def __init__(self, options: Mapping[str, Any], directory: Path) -> None:
        """Take the options of conf/engine/slurm.yaml.

        Raises:
            Refusal: submitit or SLURM is not installed, or a parameter is unknown.
        """
        self._submitit = needed("submitit", "submitit")
        at_once = None if options["jobs"] == "auto" else options["jobs"]
        self.capacity = (at_once or cores()) if options["cluster"] == "local" else math.inf
        os.environ["PYTHONPATH"] = import_path()
        own = {"name": directory.name, "cpus_per_task": options["cpus_per_job"]}
        own |= {"gpus_per_node": math.ceil(options["gpus_per_job"]) or None}
        own |= {"slurm_array_parallelism": at_once, **options["parameters"]}
        how = {"cluster": options["cluster"], "slurm_max_num_timeout": _REQUEUES}
        try:
            self._executor = self._submitit.AutoExecutor(directory / "logs" / "slurm", **how)
            self._executor.update_parameters(**own)
        except (RuntimeError, NameError, ValueError, AssertionError) as error:
            told = f"{' '.join(str(error).split())}; engine.cluster=local tries it on this machine"
            raise Refusal(f"engine=slurm: {told}", 2) from error

    def submit(self, commands: Sequence[Command]) -> list[Any]:
        """Submit an array."""
        with self._executor.batch():
            return [self._executor.submit(RequeuedJob(command)) for command in commands]

    def poll(self, handle: Any) -> int | None:
        """Return the exit code of the run; a job that SLURM ended counts as killed."""
        if not handle.done():
            return None
        errors = self._submitit.core.utils
        try:
            return int(handle.result())
        except errors.FailedJobError:
            return 1
        except errors.UncompletedJobError:
            return -signal.SIGKILL

    def cancel(self, handle: Any) -> None:
        """Cancel it: SLURM sends SIGTERM, at which a run saves."""
        handle.cancel(check=False)


class RequeuedJob:
    """What submitit calls on a node; requeued, the same command resumes the run."""

    def __init__(self, command: Command) -> None:
        """Take the job."""
        self._command = command
        self._process: Process | None = None

    def __call__(self) -> int:
        """Run it to its end."""
        self._process = start(self._command)
        return end(self._process)

    def checkpoint(self) -> Any:
        """Let the run save, before the job is preempted or reaches its time limit."""
        if self._process is not None:
            self._process.terminate()
            # Not `wait`: this handles a signal, perhaps in the middle of a `poll`.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return needed("submitit", "submitit").helpers.DelayedSubmission(RequeuedJob(self._command))
