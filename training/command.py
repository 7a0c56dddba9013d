"""What a run was begun with: the command, as it can be typed again, and its configuration."""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from conf.choices import choices
from conf.sweeps import OF_ONE_JOB, key_of
from training.event_files import rewind
from training.files import replace
from training.instantiation import plain
from training.tracking import NoTensorBoard, TensorBoard

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
