"""Run directories: one process at a time, removed if the run never began."""

import math
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from conf.composing.choices import choices
from conf.composing.stored import read_json
from conf.composing.sweeps import OF_ONE_JOB, flags_of, key_of
from training.building.instantiation import plain
from training.process.locking import Locked, locked
from training.saving.files import replace
from training.tracking.event_files import rewind
from training.tracking.tracking import TensorBoard

_NO_PARAMETERS = ("run_dir", "resume", "trusted_packages")


def command() -> str | None:
    """Return the command that repeats this run in a new directory; in a sweep, this job alone.

    None if no command line started it.
    """
    if not HydraConfig.initialized():
        return None
    settings = HydraConfig.get()
    words = flags_of(settings)
    said = [*settings.overrides.hydra, *settings.overrides.task]
    words += [word for word in said if key_of(word) not in OF_ONE_JOB]
    script = (
        "pretrain.py" if "pretrain" in (settings.job.config_name, settings.job.name) else "train.py"
    )
    return shlex.join(["python", script, *words])


def begin_records(
    config: DictConfig,
    directory: Path,
    saved: Mapping[str, Any] | None,
    versions: Mapping[str, str],
) -> TensorBoard:
    """Write the configuration, and open TensorBoard at the run's current step.

    Args:
        saved: the checkpoint state to resume from, with the curves' position; None for a new run.
    """
    stored = {**plain(config), "resume": None, "run_dir": str(directory)}
    replace(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(stored)).encode())
    rewind(directory, {} if saved is None else saved["tensorboard"])
    tensorboard = TensorBoard(directory if config.tracking.tensorboard else None)
    if saved is None:
        introduce(tensorboard, config=stored, versions=versions)
    return tensorboard


def introduce(
    tensorboard: TensorBoard,
    *,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
) -> None:
    """Log the run's command, versions and hyper-parameters to TensorBoard."""
    line = command() or "# begun from Python; config.yaml holds the whole configuration"
    rows = "\n".join(f"| {name} | {version} |" for name, version in versions.items())
    text = f"    {line}\n\n| package | version |\n|---|---|\n{rows}\n"
    tensorboard.text("run/command", text, 0)
    parameters = {key: value for key, value in config.items() if key not in _NO_PARAMETERS}
    tensorboard.hyperparameters(choices(parameters))


class Occupied(ValueError):
    """Another process is training into the directory."""


@contextmanager
def claimed(run_directory: Path) -> Iterator[None]:
    """Lock a run directory; the system releases it however the process ends.

    Raises:
        Occupied: another process has locked it.
    """
    try:
        with locked(run_directory):
            yield
    except Locked as error:
        raise Occupied(
            f"run_dir: another process is training into {run_directory}; choose another"
        ) from error


def finished(run_directory: Path, *, total_env_steps: int) -> tuple[int, float] | None:
    """Return steps and score of a finished run; None if steps are left."""
    try:
        summary = read_json(run_directory / "summary.json")
        steps, evaluation = int(summary["env_steps"]), summary["evaluation"] or {}
        is_over = summary["status"] == "finished" and steps >= total_env_steps
        return (steps, float(evaluation.get("return_mean", math.nan))) if is_over else None
    except (OverflowError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # the checkpoints decide


def discard(run_directory: Path) -> None:
    """Remove the directory of a run that never began, unless it holds other files or is in use."""
    if not run_directory.is_dir() or any(p.name != ".hydra" for p in run_directory.glob("*")):
        return
    with suppress(Occupied, OSError), claimed(run_directory):
        shutil.rmtree(run_directory)
