"""Runs as one table: a row for each point of each scalar."""

import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from analysis.curves import Curve, read_curves
from analysis.grouping import differing_choices
from analysis.runs import RunRecord, find_runs

if TYPE_CHECKING:
    import pandas

Frame: TypeAlias = "pandas.DataFrame | npt.NDArray[np.void]"

_POINTS = ("env_steps", "seconds", "value")
_WORDS = ("run", "environment", "tag")


def results(places: str | Sequence[str], tags: Collection[str] | None) -> Frame:
    """Read runs into a table; see `neurl.results`."""
    runs, notes = find_runs([places] if isinstance(places, str) else list(places))
    curves: list[tuple[RunRecord, str, Curve]] = []
    for run in runs:
        found, damage = read_curves(run, tags)
        curves += [(run, tag, curve) for tag, curve in found.items()]
        notes += damage
    for note in notes:
        warnings.warn(note, RuntimeWarning, stacklevel=3)
    if not runs:
        raise ValueError(f"{places}: no runs there; a run has a config.yaml and a summary.json")
    return _table(curves, differing_choices(runs))


def _table(curves: Sequence[tuple[RunRecord, str, Curve]], keys: Sequence[str]) -> Frame:
    counts = [len(curve.values) for *_, curve in curves]

    def repeated(values: Iterable[Any]) -> npt.NDArray[Any]:
        return np.repeat(np.array([*values], object), counts)

    columns = {
        "run": repeated(str(run.directory) for run, *_ in curves),
        "environment": repeated(run.environment for run, *_ in curves),
        "seed": repeated(run.seed for run, *_ in curves),
        **{key: repeated(run.choices.get(key) for run, *_ in curves) for key in keys},
        "tag": repeated(tag for _, tag, _ in curves),
    }
    for index, name in enumerate(_POINTS):
        columns[name] = np.concatenate([np.empty(0), *(curve[index] for *_, curve in curves)])
    try:
        import pandas
    except ImportError:
        kinds = [(name, column.dtype) for name, column in columns.items()]
        return np.rec.fromarrays([*columns.values()], dtype=kinds)
    frame = pandas.DataFrame(columns).infer_objects()
    return frame.astype(dict.fromkeys(_WORDS, "category"))  # a code for each row, not a text
