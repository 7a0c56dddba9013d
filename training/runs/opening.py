"""What every session begins with: its directory, its agent, what it resumes from, its records."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from omegaconf import DictConfig

from agents.agent import Agent
from envs.interface import Environments
from envs.vector.failures import EnvironmentFailure
from training.building.build import build_agent_for, refuse_large_replay
from training.building.instantiation import plain
from training.evaluation.restore import load_source
from training.process.locking import Locked, locked
from training.process.memory import keep_freed_memory
from training.process.threads import set_num_threads
from training.runs.directory import cells_of, introduce
from training.runs.identity import identity
from training.runs.refusal import refusing
from training.runs.resume import as_written, find_saved, refuse_elsewhere
from training.saving.files import write_configuration
from training.saving.weights import Start, take_weights
from training.stream.episodes import InvalidExperience
from training.tracking.event_files import rewind
from training.tracking.trackers import TrackedRun, Trackers
from training.tracking.tracking import TensorBoard


@contextmanager
def beginning(directory: Path, stack: ExitStack) -> Iterator[None]:
    """Claim a directory, until `stack` closes, and tell in one line why a session cannot begin.

    Raises:
        Refusal: it could not begin, or its environments failed.
    """
    keep_freed_memory()
    with (
        refusing(ValueError, OSError, exit_code=2),  # a damaged checkpoint is a ValueError too
        refusing(EnvironmentFailure, InvalidExperience, exit_code=1),
    ):
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"run_dir: {directory} cannot be made: {error.strerror}") from error
        try:
            stack.enter_context(locked(directory))
        except Locked as error:
            problem = f"run_dir: another process is training into {directory}; choose another"
            raise ValueError(problem) from error
        yield


class Session:
    """One session in a directory.

    Attributes:
        saved: what it resumes from; None if it begins.
        agent: with the weights that the configuration names, which saved ones replace.
        start: what those weights were.
        identity: what must be equal to resume it.
        tensorboard: after `open_records`.
    """

    tensorboard: TensorBoard

    def __init__(
        self, config: DictConfig, environments: Environments, agent: Agent | None = None
    ) -> None:
        """Build the agent unless there is one, and set the process's number of threads.

        Raises:
            ValueError: it cannot begin, or what it resumes from differs.
        """
        self.config, self.directory = config, Path(config.run_dir)
        self._trackers = Trackers(plain(config.tracking).get("also", {}))
        with as_written(self.directory):
            self.saved = find_saved(config)
            # A resumed run keeps its number of threads: sums in another order differ.
            threads = config.num_threads
            if self.saved is not None:
                threads = max(1, int(self.saved.state["identity"]["threads"]))
        self.agent = agent or build_agent_for(config, environments)
        load_source(config, self.agent, environments)
        refuse_large_replay(self.agent)
        set_num_threads(threads, self.agent)
        self.identity = identity(config, environments)
        if self.saved is not None:
            refuse_elsewhere(self.directory, self.saved, self.identity)
        has_weights = self.saved is not None or agent is not None
        self.start = Start([], 0, 0.0) if has_weights else take_weights(config, self.agent)

    def open_records(self, header: str, stack: ExitStack) -> None:
        """Write the configuration, open TensorBoard at the current step until `stack` closes.

        Args:
            header: to print.
        """
        directory, saved = self.directory, self.saved
        stored, text = write_configuration(directory, self.config)
        with as_written(directory):
            rewind(directory, {} if saved is None else saved.state["tensorboard"])
        run = TrackedRun(directory, "/".join(directory.parts[-3:]), cells_of(stored), None)
        self._trackers.open(run, is_resumed=saved is not None)
        files = directory if self.config.tracking.tensorboard else None
        self.tensorboard = TensorBoard(files, self._trackers)
        stack.callback(self.tensorboard.close)
        if saved is None:
            introduce(self.tensorboard, run.configuration, text, self.identity["versions"])
        print(header, *self.start.notices, sep="\n", flush=True)
