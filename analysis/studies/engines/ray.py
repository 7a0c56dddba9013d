"""Jobs as tasks on a Ray cluster, with or without a disk that its nodes share.

On a shared disk a task works in the run directory itself. Elsewhere it works in a folder of its
node: an interrupted run travels there as an archive, and the run comes back as one.
"""

import io
import math
import shutil
import signal
import tarfile
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.studies.engines.engine import Command, Engine, end, import_path, needed, start
from training.runs.refusal import Refusal

_Outcome = tuple[int, bytes | None, bytes]
"""Exit code, and without a shared disk the run's archive and what it printed."""


class RayEngine(Engine):
    """One task for each job; Ray queues them, and repeats those of lost nodes."""

    def __init__(self, options: Mapping[str, Any], directory: Path) -> None:
        """Take the options of conf/engine/ray.yaml, and connect.

        Raises:
            Refusal: Ray is not installed, or there is no cluster at the address.
        """
        self.capacity = math.inf if options["jobs"] == "auto" else options["jobs"]
        self._ray = connect(options["address"], log_to_driver=False)
        self._token = directory.resolve() / f".token-{uuid.uuid4().hex}"
        self._token.touch()
        here = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=False
        )
        board = self._ray.remote(num_cpus=0, scheduling_strategy=here)(StopBoard)
        self._stops = board.remote()  # it lives as long as the driver, whatever nodes are lost
        wants = {"num_cpus": options["cpus_per_job"], "num_gpus": options["gpus_per_job"]}
        self._train = self._ray.remote(max_retries=options["retries"], **wants)(train_on_node)

    def submit(self, commands: Sequence[Command]) -> list[tuple[Any, Command]]:
        """Hand over a task for each job."""
        return [self._submit(command) for command in commands]

    def _submit(self, command: Command) -> tuple[Any, Command]:
        directory, log = command.directory.resolve(), command.log.resolve()
        given, archive = replace(command, directory=directory, log=log), pack(directory)
        return self._train.remote(given, self._token, archive, self._stops), given

    def poll(self, handle: tuple[Any, Command]) -> int | None:
        """Return the exit code, after a run without a shared disk has come back."""
        task, command = handle
        if not self._ray.wait([task], timeout=0)[0]:
            return None
        try:
            code, archive, printed = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            _append(command.log, f"{error}\n".encode())
            is_own = isinstance(error, self._ray.exceptions.RayTaskError)
            return 1 if is_own else -signal.SIGKILL  # its node was lost
        if archive is not None:
            unpack(archive, command.directory)
            _append(command.log, printed)
        return int(code)

    def cancel(self, handle: tuple[Any, Command]) -> None:
        """Post it on the board, which tasks read."""
        self._ray.get(self._stops.post.remote(str(handle[1].directory)))

    def close(self) -> None:
        """Disconnect; Ray ends the tasks of a driver that left, and their processes save."""
        self._token.unlink(missing_ok=True)
        self._ray.shutdown()


def connect(address: str | None, *, log_to_driver: bool) -> Any:
    """Connect to a cluster; return Ray.

    Raises:
        Refusal: Ray is not installed, or there is no cluster at the address.
    """
    ray = needed("ray", "ray")
    environment = {"env_vars": {"PYTHONPATH": import_path()}}
    quiet = {"log_to_driver": log_to_driver, "logging_level": "error"}
    try:
        ray.init(address=address, runtime_env=environment, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"engine.address={address}: {reason}", 2) from error
    return ray


class StopBoard:
    """The runs that are told to stop; an actor beside the driver."""

    def __init__(self) -> None:
        self._posted: set[str] = set()

    def post(self, run: str) -> None:
        """Tell a run to stop."""
        self._posted.add(run)

    def has(self, run: str) -> bool:
        """Tell whether a run is told to stop."""
        return run in self._posted


def train_on_node(command: Command, token: Path, archive: bytes | None, stops: Any) -> _Outcome:
    """Run a job, on the node that Ray chose.

    Args:
        token: a file that is here if the driver's disk is.
        archive: of an interrupted run.
        stops: the board.
    """
    ray = needed("ray", "ray")

    def is_stopped() -> bool:
        return bool(ray.get(stops.has.remote(str(command.directory))))

    if is_stopped():  # while it waited in Ray's queue
        return 128 + signal.SIGTERM, None, b""
    if token.is_file():
        return end(start(command), is_stopped), None, b""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        own = replace(command, directory=place / "run", log=place / "log.txt", place=place)
        if archive is not None:
            unpack(archive, own.directory)
        code = end(start(own), is_stopped)
        return code, pack(own.directory), own.log.read_bytes() if own.log.exists() else b""


def pack(directory: Path) -> bytes | None:
    """Archive a directory; None if there is none."""
    if not directory.is_dir():
        return None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(directory, arcname=".")
    return buffer.getvalue()


def unpack(data: bytes, directory: Path) -> None:
    """Replace a directory by an archived one, whole or not at all."""
    incoming = directory.with_name(f"{directory.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(incoming, filter="data")
    shutil.rmtree(directory, ignore_errors=True)
    incoming.rename(directory)


def _append(log: Path, text: bytes) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(text)
