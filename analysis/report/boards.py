"""The same numbers in TensorBoard: every arm is one entry, and their learning curves overlay.

    tensorboard --logdir DIRECTORY/tensorboard

The HParams tab has a row for each arm with its final scores; the Custom Scalars tab a chart for
each task with the arms' mean curves, and one with their intervals.
"""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.util.tensor_util import make_tensor_proto

from analysis.comparison import ArmResult, Results
from analysis.grouping import differing_choices
from analysis.report.panels import mean_curves, slug
from training.tracking.event_files import EventFile, event_files
from training.tracking.tracking import TensorBoard

BOARDS = "tensorboard"
_LAYOUT = "00-layout"
_ENDS = {"value": "", "lower": "_low", "upper": "_high"}
"""Ends of a curve's tags, by their names in a layout."""


def write_boards(results: Results, directory: Path) -> None:
    """Write an event file for each arm and one for the layout, instead of earlier ones."""
    root, keys = directory / BOARDS, differing_choices(results.runs)
    curves = {task: mean_curves(results.of_task(task), "env_steps") for task in results.tasks}
    _clear(root)
    for number, name in enumerate(results.names, 1):
        choices = next((run.choices for run in results.runs if run.arm == name), {})
        board = _board(root / f"{number:02}-{slug(name)}")
        board.hyperparameters({"arm": name} | {key: choices[key] for key in keys if key in choices})
        for arm in (arm for arm in results.arms if arm.arm == name and arm.n):
            board.scalars(_final(arm), int(max(run.env_steps for run in arm.runs)))
        for task, line in ((task, line) for task, lines in curves.items() for line in lines):
            tags = [f"{task}/return{end}" for end in _ENDS.values()]
            for x, *values in zip(*line[1:], strict=True) if line.arm == name else ():
                board.scalars(dict(zip(tags, values, strict=True)), int(x))
        board.close()
    _write_layout(root / _LAYOUT, layout_pb2.Layout(category=map(_category, results.tasks)))


def _board(directory: Path) -> TensorBoard:
    directory.mkdir(parents=True, exist_ok=True)
    return TensorBoard(directory)


def _clear(root: Path) -> None:
    """Delete the event files of an earlier report, and nothing else that may be there."""
    for folder in root.glob("[0-9][0-9]*-*"):
        for path in event_files(folder):
            path.unlink()
        with suppress(OSError):  # not empty
            folder.rmdir()


def _final(arm: ArmResult) -> dict[str, float]:
    """Return an arm's scores by tag."""
    scores = {"score": arm.mean, "low": arm.interval.low, "high": arm.interval.high}
    if arm.num_solved is not None:
        scores["solved"] = arm.success_rate
    return {f"{arm.task}/final/{name}": score for name, score in scores.items()}


def _category(task: str) -> Any:
    """Lay out a task's charts: a tag's curve of every arm, and its interval."""
    band = {end: f"{task}/return{own}" for end, own in _ENDS.items()}
    mean = {"title": "mean over runs", "multiline": {"tag": [f"^{re.escape(task)}/return$"]}}
    interval = {"title": "95% interval", "margin": {"series": [band]}}
    return layout_pb2.Category(title=task, chart=[mean, interval])


def _write_layout(directory: Path, layout: Any) -> None:
    value = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=metadata.create_summary_metadata(),
        tensor=make_tensor_proto(layout.SerializeToString()),
    )
    directory.mkdir(parents=True, exist_ok=True)
    file = EventFile(directory)
    file.add(Event(wall_time=time.time(), summary=Summary(value=[value])))
    file.close()
