"""What TensorBoard shows: which tags, at which environment steps, and what a failing disk does."""

import errno
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from training.evaluation.clips import Clip
from training.tracking.event_files import EventFile
from training.tracking.tracking import DESCRIPTIONS, Progress, TensorBoard

BACKBONES = [f"{of}.{part}" for of in ("actor", "critic") for part in ("extractor", "memory")]
PARTS = [*BACKBONES, "policy_head", "value_head"]
OF_AN_EVALUATION = {
    "evaluation/return",
    "evaluation/length",
    "time/training_seconds",
    *(f"weight_norm/{part}" for part in PARTS),
    *(
        f"representation/{backbone}/{measure}"
        for backbone in ("actor", "critic")
        for measure in (
            "dormant_units",
            "effective_rank",
            "feature_norm",
            "state_norm",
            "state_saturation",
        )
    ),
}
TAGS = {
    *OF_AN_EVALUATION,
    "episode/return",
    "episode/length",
    "loss/policy",
    "loss/value",
    "policy/entropy",
    "policy/approximate_kl",
    "policy/clip_fraction",
    "value/mean",
    "value/explained_variance",
    *(f"{what}/{part}" for what in ("gradient_norm", "update_ratio") for part in PARTS),
    "schedule/learning_rate",
    "update/steps",
    "update/skipped",
    "time/steps_per_second",
    "time/environment",
    "time/acting",
    "time/update",
    "time/rest",
}


@pytest.fixture(scope="module", params=[1, 8], ids=lambda size: f"{size} environments")
def run(request, train):
    return train(
        f"env.num_envs={request.param}",
        "env.time_limit=20",
        "memory=gru",
        "memory.hidden_size=4",
        "agent.num_minibatches=1",
        "total_env_steps=1000",
        "tracking.interval=100",
        "evaluation.interval=250",
    )


def test_every_quantity_has_its_tag(run) -> None:
    assert run.scalars().keys() == TAGS


def test_steps_are_environment_steps_and_only_grow(run) -> None:
    env_steps = run.summary["env_steps"]
    for tag, points in run.scalars().items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), tag
        assert steps[0] >= 16
        assert steps[-1] == env_steps, tag


def test_values_are_what_they_are_called(run) -> None:
    scalars = run.scalars()
    assert all(math.isfinite(value) for points in scalars.values() for _, value in points)
    for (step, value), (same_step, length) in zip(
        scalars["episode/return"], scalars["episode/length"], strict=True
    ):
        assert step == same_step
        assert 1 <= value == length <= 20  # CartPole pays 1 a step
    shares = [
        sum(values)
        for values in zip(
            *(
                [value for _, value in scalars[f"time/{phase}"]]
                for phase in ("environment", "acting", "update", "rest")
            ),
            strict=True,
        )
    ]
    assert shares == pytest.approx([1.0] * len(shares), abs=1e-5)
    assert all(0 < value <= math.log(2) + 1e-6 for _, value in scalars["policy/entropy"])
    assert all(value > 0 for _, value in scalars["time/steps_per_second"])


def test_every_evaluation_tells_the_seconds_of_training_before_it(run) -> None:
    scalars = run.scalars()
    points = scalars["time/training_seconds"]
    assert [step for step, _ in points] == [step for step, _ in scalars["evaluation/return"]]
    seconds = [value for _, value in points]
    assert 0 < seconds[0] < seconds[1] < seconds[2] <= seconds[3]
    assert seconds[-1] == pytest.approx(run.summary["training_seconds"])


def test_the_last_evaluation_is_the_summarys(run) -> None:
    evaluation = run.summary["evaluation"]
    step, value = run.scalars()["evaluation/return"][-1]
    assert step == run.summary["env_steps"]
    assert value == pytest.approx(evaluation["return_mean"])
    assert len(run.scalars()["evaluation/return"]) == 4  # about 250, 500, 750, and the end


def test_a_run_that_is_shorter_than_the_interval_shows_its_losses(train) -> None:
    scalars = train("total_env_steps=300", "tracking.interval=1000").scalars()
    assert "loss/policy" in scalars
    assert "episode/return" in scalars


def test_steps_after_the_last_multiple_of_the_interval_are_shown(train) -> None:
    run = train("total_env_steps=800", "tracking.interval=500", "env.time_limit=10")
    assert run.scalars()["episode/return"][-1][0] == run.summary["env_steps"]


def test_nothing_is_written_when_nothing_is_wanted(train) -> None:
    run = train("total_env_steps=100", "tracking=none")
    assert run.scalars() == {}
    assert run.summary["status"] == "finished"


def points(directory: Path) -> list[tuple[int, str, float]]:
    (path,) = directory.glob("events.out.tfevents.*")
    return [
        (event.step, value.tag, sum(value.tensor.float_val))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_points_outlive_the_process_at_once(tmp_path: Path) -> None:
    tensorboard = TensorBoard(tmp_path)
    tensorboard.scalars({"a": 1.0, "unknown": math.nan}, 5)
    assert points(tmp_path) == [(5, "a", 1.0)]  # no point where there is no number
    tensorboard.scalars({"a": 2.0}, 2**40)
    tensorboard.close()
    assert points(tmp_path)[1:] == [(2**40, "a", 2.0)]


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


CLIP = Clip(b"GIF89a", (4, 3), episode_return=1.0, length=2, is_cut=False)


def log_everything(tensorboard: TensorBoard) -> None:
    tensorboard.scalars({"a": 1.0}, 1)
    tensorboard.text("t", "words", 1)
    tensorboard.video("f", CLIP, 1)
    tensorboard.hyperparameters({"seed": 1})
    tensorboard.position()


@pytest.mark.parametrize("method", ["add", "synchronize", "close"])
def test_a_failing_disk_costs_one_warning(tmp_path: Path, monkeypatch, method: str) -> None:
    tensorboard = TensorBoard(tmp_path)
    file = tensorboard._file
    with monkeypatch.context() as patch:
        patch.setattr(EventFile, method, full_disk)
        with pytest.warns(RuntimeWarning, match="No space left") as caught:
            for _ in range(3):
                log_everything(tensorboard)
            tensorboard.close()
            tensorboard.close()
    file.close()
    assert len(caught) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to offer")
def test_a_disk_that_fills_up_leaves_what_was_written_before(tmp_path: Path) -> None:
    tensorboard = TensorBoard(tmp_path)
    tensorboard.scalars({"a": 1.0}, 1)
    file = tensorboard._file
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), file._file.fileno())
    with pytest.warns(RuntimeWarning, match="No space left") as caught:
        for step in range(2, 50):
            tensorboard.scalars({"a": 2.0}, step)
        tensorboard.close()
    assert len(caught) == 1
    assert points(tmp_path) == [(1, "a", 1.0)]
    (path,) = tmp_path.iterdir()
    assert tensorboard.position() == {path.name: path.stat().st_size}  # told all the same


def test_training_goes_on_when_curves_cannot_be_written(train, monkeypatch) -> None:
    words = ["total_env_steps=200", "tracking.interval=1", "evaluation.interval=100"]
    undisturbed = train(*words)
    add, added = EventFile.add, []

    def add_three(file, event):
        added.append(event)
        if len(added) > 3:
            full_disk()
        add(file, event)

    monkeypatch.setattr(EventFile, "add", add_three)
    with pytest.warns(RuntimeWarning, match="logging stopped"):
        run = train(*words)
    assert run.summary["status"] == "finished"
    assert run.score == undisturbed.score


def test_a_disk_that_is_full_from_the_start_costs_one_warning(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(EventFile, "__init__", full_disk)
    with pytest.warns(RuntimeWarning, match="No space left") as caught:
        tensorboard = TensorBoard(tmp_path)
        log_everything(tensorboard)
        tensorboard.close()
    assert len(caught) == 1


def values(directory: Path) -> list[Any]:
    (path,) = directory.glob("events.out.tfevents.*")
    return [value for event in EventFileLoader(str(path)).Load() for value in event.summary.value]


def test_hyper_parameters_keep_their_types(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("time.time", lambda: 7.0)
    tensorboard = TensorBoard(tmp_path)
    written = {"rate": 3e-4, "seed": 2, "compile": False, "memory": "LSTM", "limit": None}
    tensorboard.hyperparameters(written)
    tensorboard.close()
    (value,) = values(tmp_path)
    assert value.tag == "_hparams_/session_start_info"
    assert value.metadata.plugin_data.plugin_name == "hparams"
    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    assert content.session_start_info.start_time_secs == 7.0
    cells = {name: cell for name, cell in content.session_start_info.hparams.items()}
    assert {name: getattr(cell, cell.WhichOneof("kind")) for name, cell in cells.items()} == {
        **written,
        "seed": "2",  # a number would be shown as 2.0000
        "limit": "null",
    }
    assert cells["compile"].WhichOneof("kind") == "bool_value"
    assert cells["rate"].WhichOneof("kind") == "number_value"


def test_the_start_page_and_descriptions_are_of_tags_that_exist(run, tmp_path: Path) -> None:
    tensorboard = TensorBoard(tmp_path)
    tensorboard.start_page()
    for step in range(2):
        tensorboard.scalars({"policy/entropy": 1.0, "loss/value": 1.0}, step)
    tensorboard.close()
    page, entropy, loss, again, _ = values(tmp_path)
    plugin = page.metadata.plugin_data.plugin_name
    assert (page.tag, plugin) == ("custom_scalars__config__", "custom_scalars")
    (category,) = layout_pb2.Layout.FromString(page.tensor.string_val[0]).category
    patterns = [tag for chart in category.chart for tag in chart.multiline.tag]
    known = {*run.scalars(), "episode/success_rate", "evaluation/success_rate"}
    assert [p for p in patterns if not any(re.fullmatch(p, tag) for tag in known)] == []
    assert DESCRIPTIONS.keys() <= known
    descriptions = [each.metadata.summary_description for each in (entropy, loss, again)]
    assert descriptions == [DESCRIPTIONS["policy/entropy"], "", ""]


def test_text_is_shown_as_it_is(tmp_path: Path) -> None:
    tensorboard = TensorBoard(tmp_path)
    tensorboard.text("run/command", "    python train.py 'a b'", 3)
    tensorboard.close()
    (value,) = values(tmp_path)
    assert (value.tag, value.metadata.plugin_data.plugin_name) == ("run/command", "text")
    assert value.tensor.string_val[0].decode() == "    python train.py 'a b'"
    assert not value.tensor.tensor_shape.dim  # one text, not a table of texts


def test_what_is_not_wanted_is_ignored() -> None:
    nothing = TensorBoard(None)
    log_everything(nothing)
    assert nothing.position() is None
    nothing.close()


def test_the_bar_is_for_terminals(capsys) -> None:
    bar = Progress(100, show="auto")
    bar.update(50, 1.5)
    bar.write("a line of its own")
    bar.close()
    captured = capsys.readouterr()
    assert captured.out == "a line of its own\n"
    assert captured.err == ""


def test_the_bar_is_due_a_few_times_a_second_and_never_where_it_is_hidden(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("training.tracking.tracking.time.monotonic", lambda: now[0])
    assert not Progress(100, show=False).is_due
    bar = Progress(100, show=True)
    assert bar.is_due
    bar.update(1, None)
    now[0] += 0.1
    assert not bar.is_due
    now[0] += 0.2
    assert bar.is_due
    bar.close()


def test_the_bar_shows_rate_and_return(capsys) -> None:
    bar = Progress(100, show=True)
    bar.update(50, None)
    bar.update(100, 12.25)
    bar.close()
    shown = capsys.readouterr().err
    assert "100/100" in shown
    assert "return 12.2" in shown
    assert "steps/s" in shown


def test_the_bar_shows_evaluations_and_does_not_vanish_beyond_its_total(capsys) -> None:
    bar = Progress(100, show=True)
    bar.watch(SimpleNamespace(episodes=[None] * 3, wanted=10))
    assert "evaluating: 3 of 10 episodes" in capsys.readouterr().err
    bar.update(103, 1.0)
    bar.close()
    assert "100%|" in (last := capsys.readouterr().err.split("\r")[-1])
    assert "103/103" in last
