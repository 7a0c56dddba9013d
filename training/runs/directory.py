"""Run directories: one process at a time, and none left behind by a run that never began."""

import math
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from conf.composing.choices import choices
from conf.composing.stored import read_json
from conf.composing.sweeps import OF_ONE_JOB, key_of
from training.building.instantiation import plain
from training.saving.files import replace
from training.tracking.event_files import rewind
from training.tracking.tracking import NoTensorBoard, TensorBoard

_CONFIG_NAMES = ("config", "pretrain")
_NO_PARAMETERS = ("run_dir", "resume", "trusted_packages")


def command() -> str | None:
    """Write the command that repeats this run in a directory of its own; of a sweep, its one job.

    None where no command line started it.
    """
    if not HydraConfig.initialized():
        return None
    settings = HydraConfig.get()
    sources = settings.runtime.config_sources
    words = [f"--config-dir={s.path}" for s in sources if s.provider == "command-line"]
    name = settings.job.config_name
    words += [f"--config-name={name}"] if name not in _CONFIG_NAMES else []
    said = [*settings.overrides.hydra, *settings.overrides.task]
    words += [word for word in said if key_of(word) not in OF_ONE_JOB]
    script = "pretrain.py" if "pretrain" in (name, settings.job.name) else "train.py"
    return shlex.join(["python", script, *words])


def begin_records(
    config: DictConfig,
    directory: Path,
    saved: Mapping[str, Any] | None,
    versions: Mapping[str, str],
) -> TensorBoard | NoTensorBoard:
    """Write the configuration, and open the curves where the run stands: at its start or later.

    Args:
        saved: what the run goes on from, which tells how far the curves went; None for a new one.
    """
    stored = {**plain(config), "resume": None, "run_dir": str(directory)}
    replace(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(stored)).encode())
    rewind(directory, {} if saved is None else saved["tensorboard"])
    if not config.tracking.tensorboard:
        return NoTensorBoard()
    tensorboard = TensorBoard(directory)
    if saved is None:
        introduce(tensorboard, config=stored, versions=versions)
    return tensorboard


def introduce(
    tensorboard: TensorBoard | NoTensorBoard,
    *,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
) -> None:
    """Tell TensorBoard what a run was begun with: its command, versions and hyper-parameters."""
    now = time.time()
    line = command() or "# begun from Python; config.yaml holds the whole configuration"
    rows = "\n".join(f"| {name} | {version} |" for name, version in versions.items())
    text = f"    {line}\n\n| package | version |\n|---|---|\n{rows}\n"
    tensorboard.text("run/command", text, 0, now)
    values = choices({key: value for key, value in config.items() if key not in _NO_PARAMETERS})
    tensorboard.hyperparameters(values, now)


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
