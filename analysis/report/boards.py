"""The same numbers in TensorBoard: every arm is one entry, and their learning curves overlay.

    tensorboard --logdir DIRECTORY/tensorboard

The HParams tab has a row for each arm with its final scores; the Custom Scalars tab a chart for
each task with the arms' mean curves, and one with their intervals.
"""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
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
    _write(root / _LAYOUT, [Event(step=0, summary=Summary(value=[_layout_value(layout)]))])


def _clear(root: Path) -> None:
    """Delete the event files of an earlier report, and nothing else that may be there."""
    for folder in root.glob("[0-9][0-9]*-*"):
        for path in event_files(folder):
            path.unlink()
        with suppress(OSError):  # not empty
            folder.rmdir()


def _arm_events(
    results: Results, arm: str, keys: Sequence[str], lines: Mapping[str, Line]
) -> Iterator[Any]:
    """Yield an arm's choices, its scores, and its curves."""
    yield Event(step=0, summary=Summary(value=[_hyperparameters(results, arm, keys)]))
    found = [result for result in results.arms if result.arm == arm and result.n]
    for result in found:
        scores = {"score": result.mean, "low": result.interval.low, "high": result.interval.high}
        if result.num_solved is not None:
            scores["solved"] = result.num_solved / result.n
        steps = int(max(run.record.env_steps for run in result.runs))
        yield _scalars(
            {f"{result.task}/final/{name}": each for name, each in scores.items()}, steps
        )
    for task, line in lines.items():
        for x, middle, low, high in zip(line.x, line.middle, line.low, line.high, strict=True):
            named = {"return": middle, "return_low": low, "return_high": high}
            yield _scalars({f"{task}/{name}": each for name, each in named.items()}, int(x))


def _hyperparameters(results: Results, arm: str, keys: Sequence[str]) -> Any:
    """Return an arm's row: its name, and the keys in which the arms differ."""
    choices = next((run.record.choices for run in results.runs if run.arm == arm), {})
    cells = {key: typed(choices[key]) for key in keys if key in choices}
    return hparams_pb({"arm": arm, **cells}, trial_id=arm).value[0]


def _scalars(values: Mapping[str, float], env_steps: int) -> Any:
    points = [
        Summary.Value(tag=tag, simple_value=value)
        for tag, value in values.items()
        if not math.isnan(value)
    ]
    return Event(step=env_steps, summary=Summary(value=points))


def _category(task: str) -> Any:
    """Lay out a task's charts: a tag's curve of every arm, and its interval."""
    name = re.escape(task)
    mean = layout_pb2.MultilineChartContent(tag=[f"^{name}/return$"])
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


def _write(directory: Path, events: Iterator[Any] | list[Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    file = EventFile(directory)
    for event in events:
        event.wall_time = time.time()
        file.add(event)
    file.close()
