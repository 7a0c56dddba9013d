"""Finds runs on disk and reads their records. No stored code is executed."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np

from analysis.statistics import FloatArray, area_under_curve, time_to_threshold
from conf.composing.choices import Choice, choices
from conf.composing.stored import read_json, read_yaml, strange_values
from conf.schema.study import Metric
from conf.schema.types import at

PROBE = "probe"
"""Where a run's probe lies in its directory."""
_RECORDS = ("config.yaml", "summary.json")
_AVERAGED = 5
"""Evaluations in the score `mean`."""
EVALUATIONS = "evaluation/return"
Axis = Literal["env_steps", "seconds"]


class Damaged(ValueError):
    """A directory holds an incomplete run, or other files with a run's names."""


class Unscored(Damaged):
    """A run of agent=autoencoding: its returns are another policy's, and are not reported."""


class Curve(NamedTuple):
    """A scalar over a run.

    Attributes:
        env_steps: `[n]`, increasing, including those of pre-training.
        seconds: `[n]`, of collecting and learning, including those of pre-training; between
            evaluations by interpolation.
        values: `[n]`.
    """

    env_steps: FloatArray
    seconds: FloatArray
    values: FloatArray


NO_CURVE = Curve(np.empty(0), np.empty(0), np.empty(0))


@dataclass(frozen=True, eq=False)
class RunRecord:
    """The data of one run for comparison.

    Attributes:
        task: the environment's id, and what is hidden in it; in a study, the study's name for it.
        choices: every value of its configuration, by command-line key.
        budget: configured environment steps, including those of pre-training.
        last: mean return of the final evaluation with the last weights; None before it, or if
            `evaluation.checkpoint=best` measured the best ones only.
        best: mean return of the best evaluation so far.
        env_steps: including those of pre-training.
        pretraining_env_steps: those of pre-training.
        training_seconds: of collecting and learning, including those of pre-training.
        pretraining_seconds: those of pre-training.
        steps_per_second: of collecting and learning, without pre-training.
        parameters: of all networks.
        peak_memory_mib: the process's largest resident memory; None in older runs.
        probe_score: how much of the hidden state its memory holds; None if it was not probed.
        versions: of the packages that results depend on; empty in older runs.
        solved_at: mean return that counts as solved; None if the task has no such number.
        problem: why its score cannot count, in words; None for a finished run.
        arm: that it belongs to.
        curves: those that the report shows, by tag; empty if not read.
        notes: what was wrong with its event files.
    """

    directory: Path
    task: str
    choices: Mapping[str, Choice]
    seed: int
    budget: int
    status: str
    last: float | None
    best: float | None
    env_steps: float
    pretraining_env_steps: int
    training_seconds: float
    pretraining_seconds: float
    steps_per_second: float
    parameters: float
    peak_memory_mib: float | None
    probe_score: float | None
    versions: Mapping[str, str]
    solved_at: float | None
    problem: str | None
    arm: str = ""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def evaluations(self) -> Curve:
        """Mean return of each evaluation; empty if not read."""
        return self.curves.get(EVALUATIONS, NO_CURVE)

    def score(self, metric: Metric) -> float | None:
        """Return the number by which the run is compared; None before there is one."""
        if metric != "mean":
            return self.last if metric == "last" else self.best
        values = self.evaluations.values[-_AVERAGED:]
        return float(values.mean()) if len(values) and np.isfinite(values).all() else None

    def solved_after(self, axis: Axis) -> float | None:
        """When an evaluation first reached `solved_at`; infinite if none did, None if unknown."""
        values = self.evaluations.values
        if self.solved_at is None or not len(values):
            return None
        return time_to_threshold(getattr(self.evaluations, axis), values, self.solved_at)

    @property
    def area(self) -> float | None:
        """Mean height of the evaluations over the budget; None without any."""
        steps, _, values = self.evaluations
        return area_under_curve(steps, values, float(self.budget)) if len(values) else None


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

    def skip(error: OSError) -> None:
        skipped.append(f"skipped {error.filename}: {error.strerror}")

    roots = {Path(path) for paths in found.values() for path in paths}
    for directory in _run_directories(roots, skip):
        try:
            runs.append(read_run(directory))
        except Unscored as error:
            if directory.name != "pretraining":  # part of the run around it
                skipped.append(f"skipped {directory}: {error}")
        except Damaged as error:
            skipped.append(f"skipped {directory}: {error}")
    return runs, skipped


def read_run(directory: Path) -> RunRecord:
    """Read one run.

    Raises:
        Damaged: a record is missing or invalid.
    """
    config = read_mapping(directory / "config.yaml")
    if at(config, "agent._target_") == "agents.autoencoding.Autoencoding":
        raise Unscored("it trains an encoder alone, while another policy acts")
    for line in strange_values(config):
        raise Damaged(f"config.yaml is damaged: {line}")
    summary = read_mapping(directory / "summary.json")
    try:
        return _record(directory, config, summary)
    except KeyError as error:
        raise Damaged(f"it does not tell {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Damaged(f"it is damaged: {error}") from error


def _record(directory: Path, config: Mapping[str, Any], summary: Mapping[str, Any]) -> RunRecord:
    """Combine a run's two records; older runs lack some keys."""
    task = "-".join([str(config["env"]["id"]), *(config.get("pomdp") or {})])
    before = int(summary.get("pretraining_env_steps", 0))
    seconds_before = _number(summary.get("pretraining_seconds", 0.0))
    status, env_steps = str(summary["status"]), _number(summary["env_steps"]) + before
    budget, memory = int(config["total_env_steps"]) + before, summary.get("peak_memory_mib")
    if budget < 1:
        raise ValueError(f"total_env_steps is {budget}")
    final = _score(summary["evaluation"]) if status == "finished" else None
    problem = None
    if status != "finished":
        told = "running, or killed," if status == "running" else status
        problem = f"{told} at {env_steps:,.0f} of {budget:,} steps"
    elif final is None:
        problem = "its final evaluation is missing or not a number"
    solved_at = (config.get("task") or {}).get("solved_at")
    return RunRecord(
        directory=directory,
        task=task,
        choices=choices(config),
        seed=int(config["seed"]),
        budget=budget,
        status=status,
        last=None if summary.get("evaluation_checkpoint") == "best" else final,
        best=_score(summary.get("best")),
        env_steps=env_steps,
        pretraining_env_steps=before,
        training_seconds=_number(summary["training_seconds"]) + seconds_before,
        pretraining_seconds=seconds_before,
        steps_per_second=_number(summary["steps_per_second"]),
        parameters=_number(summary["parameters"]["total"]),
        peak_memory_mib=None if memory is None else _number(memory),
        probe_score=_probe_score(directory, env_steps),
        versions={str(k): str(v) for k, v in dict(summary.get("versions") or {}).items()},
        solved_at=None if solved_at is None else _number(solved_at),
        problem=problem,
    )


def _probe_score(directory: Path, env_steps: float) -> float | None:
    """Return the mean score of the hidden variables that an MLP reads from what the policy reads.

    That is the memory's state, without a memory the features. A probe of a run that was resumed
    afterwards does not count.
    """
    try:
        probe = read_mapping(directory / PROBE / "probe.json")
        scores = probe["scores"]["mlp"]
        found = _number(fmean(scores.get("memory") or scores["features"]))
        return found if probe["env_steps"] == env_steps else None
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _run_directories(roots: Iterable[Path], skip: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield directories with a run's record, each once, without those inside a run."""
    seen: set[Path] = set()
    for root in sorted(roots):
        if seen.intersection(root.parents):
            continue  # below a directory already searched
        seen.add(root)
        for folder, folders, files in os.walk(root, onerror=skip):
            if set(_RECORDS) & set(files):
                yield Path(folder)
                folders.clear()  # there are no runs in a run
            folders[:] = sorted(name for name in folders if not name.startswith("."))


def _expanded(place: str) -> list[str]:
    found = [place] if os.path.isdir(place) else glob.glob(place, recursive=True)
    return [path for path in found if os.path.isdir(path)]


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a record of a run, in YAML or JSON.

    Raises:
        Damaged: there is none, or it is no mapping.
    """
    try:
        content: Any = (read_yaml if path.suffix == ".yaml" else read_json)(path)
    except FileNotFoundError as error:
        why = ": it has not begun to train" if path.name == "summary.json" else ""
        raise Damaged(f"it has no {path.name}{why}") from error
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise Damaged(f"{path.name} is damaged: it holds no mapping")
    return content


def _score(evaluation: Mapping[str, Any] | None) -> float | None:
    """Return an evaluation's mean return; None if there is none, or if it is not finite."""
    number = float(evaluation["return_mean"]) if evaluation else math.nan
    return number if math.isfinite(number) else None


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number to compare")
    return number
