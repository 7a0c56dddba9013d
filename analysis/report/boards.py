"""The same numbers in TensorBoard: every arm is one entry, and their learning curves overlay.

    tensorboard --logdir DIRECTORY/tensorboard

The HParams tab has a row for each arm with its final scores; the Custom Scalars tab a chart for
each task with the arms' mean curves, and one with their intervals.
"""

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from analysis.comparison import Results
from analysis.grouping import differing_choices
from analysis.report.panels import Line, mean_curves, slug
from analysis.wording import typed
from training.tracking.event_files import EventFile, event_files

BOARDS = "tensorboard"
_LAYOUT = "00-layout"


def write_boards(results: Results, directory: Path) -> None:
    """Write an event file for each arm and one for the layout, instead of earlier ones."""
    keys = differing_choices([run.record for run in results.runs])
    curves = {task: mean_curves(results.of_task(task), "env_steps") for task in results.tasks}
    root = directory / BOARDS
    _clear(root)
    for number, arm in enumerate(results.names, 1):
        own = {task: line for task, lines in curves.items() for line in lines if line.arm == arm}
        _write(root / f"{number:02}-{slug(arm)}", _arm_events(results, arm, keys, own))
    layout = layout_pb2.Layout(category=[_category(task) for task in results.tasks])
    _write(root / _LAYOUT, [(0, [_layout_value(layout)])])


def _clear(root: Path) -> None:
    """Delete the event files of an earlier report, and nothing else that may be there."""
    for folder in root.glob("[0-9][0-9]*-*"):
        for path in event_files(folder):
            path.unlink()
        with suppress(OSError):  # not empty
            folder.rmdir()


def _arm_events(
    results: Results, arm: str, keys: Sequence[str], lines: Mapping[str, Line]
) -> Iterator[tuple[int, list[Any]]]:
    """Yield an arm's choices, its scores, and its curves, with their steps."""
    choices = next((run.record.choices for run in results.runs if run.arm == arm), {})
    cells = {key: typed(choices[key]) for key in keys if key in choices}
    yield 0, hparams_pb({"arm": arm, **cells}, trial_id=arm).value
    for result in results.arms:
        if result.arm == arm and result.n:
            low, high = result.interval
            scores = {"score": result.mean, "low": low, "high": high}
            if result.num_solved is not None:
                scores["solved"] = result.success_rate
            steps = max(run.record.env_steps for run in result.runs)
            yield int(steps), _scalars(f"{result.task}/final/", scores)
    for task, (_, *columns) in lines.items():
        for x, middle, low, high in zip(*columns, strict=True):
            points = {"return": middle, "return_low": low, "return_high": high}
            yield int(x), _scalars(f"{task}/", points)


def _scalars(prefix: str, values: Mapping[str, float]) -> list[Any]:
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    return [Summary.Value(tag=prefix + name, simple_value=each) for name, each in known.items()]


def _category(task: str) -> Any:
    """Lay out a task's charts: a tag's curve of every arm, and its interval."""
    mean = layout_pb2.MultilineChartContent(tag=[f"^{re.escape(task)}/return$"])
    series = layout_pb2.MarginChartContent.Series(
        value=f"{task}/return", lower=f"{task}/return_low", upper=f"{task}/return_high"
    )
    margin = layout_pb2.MarginChartContent(series=[series])
    charts = [
        layout_pb2.Chart(title="mean over runs", multiline=mean),
        layout_pb2.Chart(title="95% interval", margin=margin),
    ]
    return layout_pb2.Category(title=task, chart=charts)


def _layout_value(layout: Any) -> Any:
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME)
    return Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=SummaryMetadata(plugin_data=plugin),
        tensor=TensorProto(dtype=DT_STRING, string_val=[layout.SerializeToString()]),
    )


def _write(directory: Path, events: Iterable[tuple[int, Sequence[Any]]]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    file = EventFile(directory)
    for step, values in events:
        file.add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
    file.close()
