"""TensorBoard: an entry for each arm with its final scores, and a layout that overlays them."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams import plugin_data_pb2

from analysis.comparison import compare
from analysis.report.boards import write_boards
from tests.analysis.synthetic import TASK, memory_study


def loaded(directory: Path) -> Any:
    events = EventAccumulator(str(directory))
    events.Reload()
    return events


def test_arms_are_entries_with_their_scores_and_curves(tmp_path: Path) -> None:
    results = compare(*memory_study())
    mine = tmp_path / "tensorboard" / "mine" / "events.out.tfevents.1"
    mine.parent.mkdir(parents=True)
    mine.touch()
    write_boards(compare(*memory_study(tasks=["earlier"])), tmp_path)
    write_boards(results, tmp_path)  # instead of the earlier one
    assert mine.exists()
    folders = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert folders == ["00-layout", "01-none", "02-rnn", "03-gru", "04-lstm", "mine"]
    events = loaded(tmp_path / "tensorboard" / "04-lstm")
    (lstm,) = (arm for arm in results.arms if arm.arm == "lstm")
    (score,) = events.Scalars(f"{TASK}/final/score")
    assert abs(score.value - lstm.mean) < 1e-3
    (solved,) = events.Scalars(f"{TASK}/final/solved")
    assert solved.value == (lstm.num_solved or 0) / 5
    curve = events.Scalars(f"{TASK}/return")
    assert curve[-1].step == 100_000
    assert abs(curve[-1].value - lstm.mean) < 1e-3
    data = events.summary_metadata[hparams.SESSION_START_INFO_TAG].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info
    assert start.hparams["arm"].string_value == "lstm"
    assert start.hparams["memory"].string_value == "LSTM"


def test_the_layout_has_a_chart_for_each_task(tmp_path: Path) -> None:
    write_boards(compare(*memory_study(tasks=["one", "t.w+o"])), tmp_path)
    (event,) = loaded(tmp_path / "tensorboard" / "00-layout").Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["one", "t.w+o"]
    mean, margin = layout.category[1].chart
    assert mean.multiline.tag == ["^t\\.w\\+o/return$"]
    assert margin.margin.series[0].lower == "t.w+o/return_low"
