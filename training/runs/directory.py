"""Run directories: one process at a time, removed if the run never began."""

import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import indent

from hydra.core.hydra_config import HydraConfig

from conf.composing.choices import Choice, choices
from conf.composing.composer import environment_name
from conf.composing.stored import read_json
from conf.composing.sweeps import OF_ONE_JOB, flags_of, key_of
from conf.schema import layout
from conf.schema.types import Config
from training.process.locking import Locked, locked
from training.tracking.tracking import TensorBoard

_NO_PARAMETERS = ("run_dir", "resume", "trusted_packages")


def command() -> str | None:
    """Return the command that repeats this run in a new directory; in a sweep, this job alone.

    None if no command line started it.
    """
    if not HydraConfig.initialized():
        return None
    settings = HydraConfig.get()
    said = [*settings.overrides.hydra, *settings.overrides.task]
    words = [*flags_of(settings), *(word for word in said if key_of(word) not in OF_ONE_JOB)]
    return layout.command("train", *words)


def cells_of(config: Config) -> dict[str, Choice]:
    """Return a run's configuration as a flat table, with titles for what usually differs."""
    parameters = {key: value for key, value in config.items() if key not in _NO_PARAMETERS}
    cells = choices(parameters)
    # TensorBoard sorts the columns that differ by name, capitals first, and shows a few.
    titles = {part.capitalize(): cells.get(part) for part in ("agent", "extractor", "memory")}
    titles["Environment"] = environment_name(str(cells.get("env.id")), config.get("pomdp"))
    return cells | titles


def introduce(
    tensorboard: TensorBoard, cells: Mapping[str, Choice], text: str, versions: Config
) -> None:
    """Log the run's command, versions and configuration to TensorBoard, and its start page.

    Args:
        cells: of the table of hyper-parameters.
        text: of `config.yaml`.
    """
    line = command() or "# begun from Python; config.yaml holds the whole configuration"
    rows = "\n".join(f"| {name} | {version} |" for name, version in versions.items())
    table = f"| package | version |\n|---|---|\n{rows}\n"
    tensorboard.text("run/command", f"    {line}\n\n{table}", 0)
    tensorboard.text("run/configuration", indent(text, "    "), 0)
    tensorboard.hyperparameters(cells)
    tensorboard.start_page()


def finished(run: Path, *, total_env_steps: int, goal: float | None) -> tuple[int, float] | None:
    """Return steps and score of a run at its budget or its goal; None if steps are left."""
    try:
        summary = read_json(run / "summary.json")
        steps, evaluation = int(summary["env_steps"]), summary["evaluation"] or {}
        is_stopped = goal is not None and summary.get("stopped_at") == goal
        is_over = summary["status"] == "finished" and (is_stopped or steps >= total_env_steps)
        return (steps, float(evaluation.get("return_mean", math.nan))) if is_over else None
    except (OverflowError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # the checkpoints decide


def discard(run_directory: Path) -> None:
    """Remove the directory of a run that never began, unless it holds other files or is in use."""
    if not run_directory.is_dir() or any(p.name != ".hydra" for p in run_directory.glob("*")):
        return
    with suppress(Locked, OSError), locked(run_directory):
        shutil.rmtree(run_directory)
