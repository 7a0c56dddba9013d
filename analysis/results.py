"""Runs as one table: a row for each point of each scalar."""

import warnings
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from analysis.curves import read_curves
from analysis.grouping import differing_choices
from analysis.runs import NO_CURVE, find_runs

if TYPE_CHECKING:
    import pandas

Frame: TypeAlias = "pandas.DataFrame | npt.NDArray[np.void]"


def results(places: str | Sequence[str], tags: Collection[str] | None) -> Frame:
    """Read runs into a table; see `neurl.results`."""
    runs, notes = find_runs([places] if isinstance(places, str) else list(places))
    keys, labels, curves = differing_choices(runs), list[tuple[Any, ...]](), [NO_CURVE]
    for run in runs:
        found, damage = read_curves(run, tags)
        own = (str(run.directory), run.task, run.seed, *(run.choices.get(key) for key in keys))
        labels += [(*own, tag) for tag in found]
        curves += found.values()
        notes += damage
    for note in notes:
        warnings.warn(note, RuntimeWarning, stacklevel=3)
    if not runs:
        raise ValueError(f"{places}: no runs there; a run has a config.yaml and a summary.json")
    names = ("run", "environment", "seed", *keys, "tag")
    every = np.array(labels, object).reshape(-1, len(names))
    rows = np.repeat(every, [len(curve.values) for curve in curves[1:]], axis=0)
    columns = dict(zip(names, rows.T, strict=True))
    points = [np.concatenate(parts) for parts in zip(*curves, strict=True)]
    return _table(columns | dict(zip(("env_steps", "seconds", "value"), points, strict=True)))


def _table(columns: dict[str, npt.NDArray[Any]]) -> Frame:
    """Put columns together, as a data frame where pandas is installed."""
    try:
        import pandas
    except ImportError:
        kinds = [(name, column.dtype) for name, column in columns.items()]
        return np.rec.fromarrays([*columns.values()], dtype=kinds)
    words = dict.fromkeys(("run", "environment", "tag"), "category")  # codes, not a text for each
    return pandas.DataFrame(columns).infer_objects().astype(words)
