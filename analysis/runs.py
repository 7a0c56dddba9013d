"""Finds runs on disk and reads their records. No stored code is executed."""

import glob
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.composing.choices import Choice, choices
from conf.composing.stored import read_json, read_yaml, strange_values

_RECORDS = ("config.yaml", "summary.json")


class Damaged(ValueError):
    """A directory holds an incomplete run, or other files with a run's names."""


@dataclass(frozen=True)
class RunRecord:
    """The data of one run for comparison.

    Attributes:
        environment: its id, and what is hidden in it.
        choices: every value of its configuration, by command-line key.
        budget: configured environment steps, including those of pre-training.
        score: mean return of the final evaluation; None before it.
        env_steps: including those of pre-training.
        pretraining_env_steps: those of pre-training.
        training_seconds: of collecting and learning only.
        parameters: of all networks.
    """

    directory: Path
    environment: str
    choices: Mapping[str, Choice]
    seed: int
    budget: int
    status: str
    score: float | None
    env_steps: float
    pretraining_env_steps: int
    training_seconds: float
    steps_per_second: float
    parameters: float


def find_runs(places: Sequence[str]) -> tuple[list[RunRecord], list[str]]:
    """Read every run in the places and below.

    Args:
        places: directories, or patterns such as `runs/**`.

    Returns:
        The runs in the order of their paths, and a line for each skipped place or directory.
    """
    found = {place: _expanded(place) for place in places}
    # If there are no runs at all, the caller says so.
    nowhere = [place for place, paths in found.items() if not paths] if any(found.values()) else []
    runs, skipped = [], [f"skipped {place}: no such directory" for place in nowhere]
    for directory in _run_directories({Path(path) for paths in found.values() for path in paths}):
        try:
            runs.append(read_run(directory))
        except Damaged as error:
            skipped.append(f"skipped {directory}: {error}")
    return runs, skipped


def read_run(directory: Path) -> RunRecord:
    """Read one run.

    Raises:
        Damaged: a record is missing or invalid.
    """
    config = _mapping(directory / "config.yaml", read_yaml)
    for line in strange_values(config):
        raise Damaged(f"config.yaml is damaged: {line}")
    summary = _mapping(directory / "summary.json", read_json)
    try:
        is_finished = summary["status"] == "finished"
        before = int(summary.get("pretraining_env_steps", 0))
        return RunRecord(
            directory=directory,
            environment="-".join([str(config["env"]["id"]), *(config.get("pomdp") or {})]),
            choices=choices(config),
            seed=int(config["seed"]),
            budget=int(config["total_env_steps"]) + before,
            status=str(summary["status"]),
            score=_number(summary["evaluation"]["return_mean"]) if is_finished else None,
            env_steps=_number(summary["env_steps"]) + before,
            pretraining_env_steps=before,
            training_seconds=_number(summary["training_seconds"]),
            steps_per_second=_number(summary["steps_per_second"]),
            parameters=_number(summary["parameters"]["total"]),
        )
    except KeyError as error:
        raise Damaged(f"it does not tell {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Damaged(f"it is damaged: {error}") from error


def _run_directories(roots: Iterable[Path]) -> Iterator[Path]:
    """Yield directories with a run's record, each once, without those inside a run."""
    seen: set[Path] = set()
    for root in sorted(roots):
        if seen.intersection(root.parents):
            continue  # below a directory already searched
        seen.add(root)
        for folder, folders, files in os.walk(root):
            if set(_RECORDS) & set(files):
                if "summary.json" in files or "pretraining" not in folders:
                    yield Path(folder)
                folders.clear()  # weights alone are not a run, and contain none
            folders[:] = sorted(name for name in folders if not name.startswith("."))


def _expanded(place: str) -> list[str]:
    found = [place] if os.path.isdir(place) else glob.glob(place, recursive=True)
    return [path for path in found if os.path.isdir(path)]


def _mapping(path: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    try:
        content = read(path)
    except FileNotFoundError as error:
        raise Damaged(f"it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise Damaged(f"{path.name} is damaged: it holds no mapping")
    return content


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number to compare")
    return number
