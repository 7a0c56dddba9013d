"""Looking at a finished run again: any number of episodes, a video in its directory, a window."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from conf.composing.command_line import InvalidConfiguration, load
from tests import commands
from training.evaluation.evaluation import describe_spread
from training.evaluation.watching import Watched, Window, watch_run
from training.process.machine import check_display
from training.runs.refusal import Refusal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(train) -> Path:
    """A run on CartPole, which needs pygame to be drawn."""
    words = ["total_env_steps=300", "env.id=CartPole-v1", "env.time_limit=60"]
    return train(*words, "evaluation.interval=0").directory


@pytest.fixture
def drawn_run(drawn, train) -> Path:
    """A run in an environment that draws itself."""
    return train("env.id=test/Drawn-v0", "total_env_steps=32", "evaluation.interval=0").directory


def watch(run: Path, *words: str) -> Watched:
    return watch_run(load([f"run='{run}'", *words], "evaluate"))


@pytest.mark.parametrize("episodes", [1, 3, 17])
def test_any_number_of_episodes_whatever_the_number_of_environments(finished, episodes) -> None:
    watched = watch(finished, f"evaluation.episodes={episodes}", "evaluation.num_envs=10")
    assert len(watched.evaluation.returns) == len(watched.evaluation.lengths) == episodes
    assert watched.evaluation.unfinished == 0
    assert watched.clip is None
    assert watched.video_path is None


def test_other_seeds_show_other_episodes(finished) -> None:
    few = "evaluation.episodes=4"
    own = watch(finished, few).evaluation
    assert watch(finished, few, "seed=0").evaluation == own  # the run's seed
    assert watch(finished, few, "seed=1").evaluation != own


def test_another_environment_of_equal_spaces_is_evaluated(finished) -> None:
    few = "evaluation.episodes=4"
    own = watch(finished, few).evaluation
    assert watch(finished, few, "env.id=CartPole-v0").evaluation.lengths == own.lengths
    paid = watch(finished, few, "+env.kwargs.sutton_barto_reward=true").evaluation
    assert max(paid.returns) <= 0.0 < min(own.returns)
    assert paid.lengths == own.lengths
    assert watch(finished, few, "pomdp=flicker", "pomdp.flicker.probability=0").evaluation == own
    assert watch(finished, few, "pomdp=flicker").evaluation != own


def test_arguments_are_added_to_the_runs_own(drawn, train) -> None:
    words = ["env.id=test/Drawn-v0", "total_env_steps=32", "evaluation.interval=0"]
    run = train(*words, "+env.kwargs.length=5").directory
    evaluation = watch(run, "+env.kwargs.size=[4,4]", "evaluation.episodes=2").evaluation
    assert evaluation.lengths == (5, 5)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("env.id=Acrobot-v1", "the policy reads observations in Box"),
        ("env.id=Nothing-v0", "no such environment is registered"),
        ("+env.kwargs.num_envs=2", "in this project it is env.num_envs"),
        ("+env.kwargs.speed=2", "does not take speed"),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(finished, word, reason) -> None:
    with pytest.raises(Refusal, match=reason) as caught:
        watch(finished, word)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_video_is_kept_in_the_runs_directory(drawn_run: Path) -> None:
    before = watch(drawn_run, "evaluation.episodes=3")
    watched = watch(drawn_run, "evaluation.episodes=3", "video=true")
    assert watched.evaluation == before.evaluation
    steps = json.loads((drawn_run / "summary.json").read_text())["env_steps"]
    assert watched.video_path == drawn_run / "videos" / f"last-{steps}.gif"
    assert watched.clip is not None
    assert watched.video_path.read_bytes() == watched.clip.data
    with Image.open(watched.video_path) as clip:
        assert (clip.format, clip.size, clip.n_frames) == ("GIF", (9, 6), 3)
    assert [path.name for path in watched.video_path.parent.iterdir()] == [f"last-{steps}.gif"]


def test_videos_of_other_seeds_and_checkpoints_have_names_of_their_own(drawn_run: Path) -> None:
    best = watch(drawn_run, "video=gif", "evaluation.checkpoint=best", "seed=7")
    assert best.video_path is not None
    assert best.video_path.name.startswith("best-")
    assert best.video_path.name.endswith("-seed7.gif")


def test_an_mp4_is_kept_too(drawn_run: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    watched = watch(drawn_run, "video=mp4", "evaluation.episodes=1")
    assert watched.video_path is not None
    assert watched.video_path.suffix == ".mp4"
    assert b"ftyp" in watched.video_path.read_bytes()[:16]


def test_what_cannot_be_drawn_is_refused_before_anything_is_played(train, monkeypatch) -> None:
    run = train("env.id=neurl/Counting-v0", "total_env_steps=32", "evaluation.interval=0")
    monkeypatch.setattr("training.evaluation.evaluation.Play", None)
    for word in ("video=true", "render_mode=human"):
        with pytest.raises(Refusal, match=f"{word.replace('true', 'gif')}: .* draws nothing") as e:
            watch(run.directory, word)
        assert e.value.exit_code == 2
        assert "\n" not in str(e.value)


def test_a_video_that_cannot_be_kept_is_told_in_one_line(drawn_run: Path) -> None:
    (drawn_run / "videos").write_text("a file stands there")
    with pytest.raises(Refusal, match="videos") as caught:
        watch(drawn_run, "video=true", "evaluation.episodes=1")
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_a_window_shows_one_environment_at_its_own_pace(drawn, drawn_run, capsys) -> None:
    started = time.perf_counter()
    watched = watch(drawn_run, "render_mode=human", "evaluation.episodes=2")
    seconds = time.perf_counter() - started
    # once to see that it can be shown, then two episodes of 8 steps and the reset between them
    assert drawn.shown == [0, *range(9), *range(9)]
    assert seconds > 18 / 200
    assert watched.evaluation.lengths == (8, 8)
    lines = capsys.readouterr().out.splitlines()[-2:]
    for number, (line, score) in enumerate(zip(lines, watched.evaluation.returns, strict=True), 1):
        assert line == f"episode {number}: return {score:.2f} in 8 steps"


def test_a_window_that_waits_by_itself_is_not_slowed_down(monkeypatch) -> None:
    class Played:
        episodes = ()

    now = [0.0]
    slept = []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    window = Window(frames_per_second=10)
    for seconds in (0.0, 0.1, 0.1, 0.5, 0.02, 0.1):
        now[0] += seconds
        window(Played())  # type: ignore[arg-type]
    assert slept == pytest.approx([0, 0, 0, 0, 0.08, 0.08])


def test_pygames_window_is_shown(finished, tmp_path) -> None:
    """In a process of its own, as what pygame does to one does not wear off."""
    pytest.importorskip("pygame")
    shown = commands.run(
        ROOT / "evaluate.py",
        [f"run={finished}", "render_mode=human", "evaluation.episodes=1"],
        directory=tmp_path,
        environment={**os.environ, "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"},
        timeout=60,
    )
    assert shown.returncode == 0, shown.stderr
    first, score, spread = shown.stdout.splitlines()
    assert first.startswith("episode 1: return ")
    assert score.endswith("over 1 episode")
    assert spread.startswith("median ")


def test_a_machine_without_a_display_is_told_at_once(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"render_mode=human: .*no display.*video=true"):
        check_display("human")
    check_display(None)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    check_display("human")
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.setattr(sys, "platform", "darwin")
    check_display("human")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("video=avi", "video: expected true or false or gif or mp4, got 'avi'"),
        ("video=1", "video: expected true or false or gif or mp4, got 1"),
        ("render_mode=rgb_array", "render_mode: expected null or human, got 'rgb_array'"),
        ("seed=-1", "seed: expected null or an integer >= 0, got -1"),
        ("evaluation.episodes=0", "evaluation.episodes: expected an integer >= 1, got 0"),
    ],
)
def test_words_are_checked(word: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        load(["run=x", word], "evaluate")
    assert str(caught.value) == message


def test_videos_need_tensorboard_to_be_shown() -> None:
    with pytest.raises(InvalidConfiguration, match=r"evaluation.video: .*tracking.tensorboard"):
        load(["evaluation.video=true", "tracking=none"])
    load(["evaluation.video=true"])


def test_scores_are_told_in_two_lines(finished) -> None:
    evaluation = watch(finished, "evaluation.episodes=1").evaluation
    score = evaluation.returns[0]
    assert str(evaluation) == f"{score:.2f} +- 0.00 over 1 episode"
    assert describe_spread(evaluation) == (
        f"median {score:.2f}, from {score:.2f} to {score:.2f}; {score:.1f} steps per episode"
    )
