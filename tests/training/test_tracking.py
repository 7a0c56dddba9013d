"""What TensorBoard shows: which tags, at which environment steps, and what a failing disk does."""

import errno
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from training.tracking import NoTensorBoard, Progress, TensorBoard

TAGS = {
    "episode/return",
    "episode/length",
    "evaluation/return",
    "evaluation/length",
    "loss/policy",
    "loss/value",
    "policy/entropy",
    "policy/approximate_kl",
    "policy/clip_fraction",
    "value/mean",
    "value/explained_variance",
    "gradient_norm/extractor",
    "gradient_norm/memory",
    "gradient_norm/actor",
    "gradient_norm/critic",
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
    NoTensorBoard().scalars({"a": 1.0}, 1, 1.0)


def points(directory: Path) -> list[tuple[int, str, float]]:
    (path,) = directory.glob("events.out.tfevents.*")
    return [
        (event.step, value.tag, sum(value.tensor.float_val))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_points_are_on_disk_after_a_flush(tmp_path: Path) -> None:
    tensorboard = TensorBoard(tmp_path)
    tensorboard.scalars({"a": 1.0, "unknown": math.nan}, 5, 1.0)
    tensorboard.flush()
    assert points(tmp_path) == [(5, "a", 1.0)]  # no point where there is no number
    tensorboard.scalars({"a": 2.0}, 2**40, 2.0)
    tensorboard.close()
    assert points(tmp_path)[1:] == [(2**40, "a", 2.0)]


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("method", ["add_event", "flush", "close"])
def test_a_failing_disk_costs_one_warning(tmp_path: Path, monkeypatch, method: str) -> None:
    tensorboard = TensorBoard(tmp_path)
    writer = tensorboard._writer
    monkeypatch.setattr(writer, method, full_disk)
    with pytest.warns(RuntimeWarning, match="No space left") as caught:
        for step in range(3):
            tensorboard.scalars({"a": 1.0}, step, 1.0)
            tensorboard.flush()
        tensorboard.close()
    assert len(caught) == 1
    monkeypatch.undo()
    writer.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fails_in_the_writers_thread_costs_one_warning(tmp_path, monkeypatch) -> None:
    """Events are written by a thread of TensorBoard's, which dies of the first error."""
    tensorboard = TensorBoard(tmp_path)
    monkeypatch.setattr(tensorboard._writer._async_writer._writer, "write", full_disk)
    with pytest.warns(RuntimeWarning, match="No space left") as caught:
        for step in range(50):
            tensorboard.scalars({"a": 1.0}, step, 1.0)
            tensorboard.flush()
        tensorboard.close()
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_training_goes_on_when_curves_cannot_be_written(train, monkeypatch) -> None:
    words = ["total_env_steps=200", "tracking.interval=1", "evaluation.interval=100"]
    undisturbed = train(*words)
    make = TensorBoard.__init__

    def make_and_fill_the_disk(tensorboard, directory):
        make(tensorboard, directory)
        tensorboard._writer._async_writer._writer.write = full_disk

    monkeypatch.setattr(TensorBoard, "__init__", make_and_fill_the_disk)
    with pytest.warns(RuntimeWarning, match="logging stopped"):
        run = train(*words)
    assert run.summary["status"] == "finished"
    assert run.score == undisturbed.score


def test_a_disk_that_is_full_from_the_start_costs_one_warning(tmp_path, monkeypatch) -> None:
    writer = "tensorboard.summary.writer.event_file_writer.EventFileWriter"
    monkeypatch.setattr(f"{writer}.__init__", full_disk)
    with pytest.warns(RuntimeWarning, match="No space left") as caught:
        tensorboard = TensorBoard(tmp_path)
        tensorboard.scalars({"a": 1.0}, 1, 1.0)
        tensorboard.flush()
        tensorboard.close()
    assert len(caught) == 1


def test_the_bar_is_for_terminals(capsys) -> None:
    bar = Progress(100, show="auto")
    bar.update(50, 1.5)
    bar.write("a line of its own")
    bar.close()
    captured = capsys.readouterr()
    assert captured.out == "a line of its own\n"
    assert captured.err == ""


def test_the_bar_shows_rate_and_return(capsys) -> None:
    bar = Progress(100, show=True)
    bar.update(50, None)
    bar.update(100, 12.25)
    bar.close()
    shown = capsys.readouterr().err
    assert "100/100" in shown
    assert "return 12.2" in shown
    assert "steps/s" in shown
