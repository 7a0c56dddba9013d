"""Recording: what is seen is one episode of the agent, and the run does not notice."""

import io

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import register, registry
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import training.evaluation.video
from training.evaluation.clips import Clip
from training.evaluation.video import (
    Camera,
    DrawingFailure,
    build_drawn,
    frame_of,
)
from training.tracking.tracking import TensorBoard

DRAWN = ["env.id=test/Drawn-v0"]


def brightnesses(clip: Clip) -> list[int]:
    with Image.open(io.BytesIO(clip.data)) as gif:
        return [int(np.array(f.convert("RGB"))[0, 0, 0]) for f in ImageSequence.Iterator(gif)]


@pytest.fixture
def run(drawn, build):
    return build(*DRAWN)


@pytest.fixture
def camera(run):
    made = Camera(run.config, seed=0, deterministic=True, key="video=gif")
    yield made
    made.environments.close()


def test_a_video_is_one_episode_from_its_reset_to_its_end(run, camera: Camera) -> None:
    clip = camera.record(run.agent, index=0, kind="gif")
    assert (clip.length, clip.is_cut) == (8, False)
    assert 0 <= clip.episode_return <= 8
    # 200 steps a second: every 7th is shown, and the last
    assert brightnesses(clip) == [0, 70, 80]
    assert clip.size == (9, 6)


def test_equal_calls_give_equal_videos(drawn, build, camera: Camera) -> None:
    run = build(*DRAWN, "extractor.activation=gelu")  # acts in torch, for the hook
    videos = [camera.record(run.agent, index=index, kind="gif") for index in (3, 4, 3)]
    assert videos[0] == videos[2]
    seen = []
    for index in (3, 4, 3):
        rows: list[torch.Tensor] = []
        hook = run.agent.actor.extractor.register_forward_hook(
            lambda module, inputs, output, rows=rows: rows.append(inputs[0].clone())
        )
        camera.record(run.agent, index=index, kind="gif")
        hook.remove()
        seen.append(torch.cat(rows))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])  # another episode


def test_long_episodes_are_cut_and_that_is_said(run, camera, monkeypatch) -> None:
    monkeypatch.setattr(training.evaluation.video, "MAX_STEPS", 5)
    clip = camera.record(run.agent, index=0, kind="gif")
    assert (clip.length, clip.is_cut) == (5, True)
    assert "cut there" in str(clip)
    assert brightnesses(clip) == [0, 50]
    monkeypatch.setattr(
        training.evaluation.video, "MAX_STEPS", 8
    )  # an episode that ends there ends there
    assert not camera.record(run.agent, index=0, kind="gif").is_cut


@pytest.mark.parametrize("deterministic", [True, False])
def test_recording_does_not_change_training(drawn, build, deterministic: bool) -> None:
    """The camera has an environment, seeds and a generator of its own."""
    weights = []
    for videos in (0, 1, 3):
        run = build(*DRAWN, "memory=gru", "memory.hidden_size=4", "normalize_observations=true")
        camera = Camera(run.config, seed=0, deterministic=deterministic, key="video=gif")
        np.random.random(videos)  # noqa: NPY002  (the global generator is what must not matter)
        for iteration in range(3):
            run.agent.learn(run.collector.collect(run.agent))
            for _ in range(videos):
                camera.record(run.agent, index=iteration, kind="gif")
        camera.environments.close()
        weights.append(run.agent.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(weights[1][name], tensor), name
        assert torch.equal(weights[2][name], tensor), name


def test_what_the_agent_sees_is_wrapped_as_configured(drawn, build) -> None:
    run = build(*DRAWN, "env.frame_stack=3", "env.previous_action=true")
    camera = Camera(run.config, seed=0, deterministic=True, key="video=gif")
    try:
        assert camera.record(run.agent, index=0, kind="gif").length == 8
    finally:
        camera.environments.close()


def test_native_environments_are_recorded_one_by_one(build) -> None:
    pytest.importorskip("pygame")
    run = build("env.id=CartPole-v1", "env.vectorization=native")
    camera = Camera(run.config, seed=0, deterministic=True, key="video=gif")
    try:
        clip = camera.record(run.agent, index=0, kind="gif")
    finally:
        camera.environments.close()
    assert clip.size == (400, 267)
    assert clip.length == clip.episode_return


class Undrawable(gymnasium.Env):
    """Draws what it is given, or raises it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(2)
    picture: object = None
    good_pictures = 0

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, True, False, {}

    def render(self):
        Undrawable.good_pictures -= 1
        if Undrawable.good_pictures >= 0:
            return np.zeros((4, 4, 3), np.uint8)
        if isinstance(Undrawable.picture, Exception):
            raise Undrawable.picture
        return Undrawable.picture


@pytest.fixture
def undrawable(monkeypatch):
    register("test/Undrawable-v0", entry_point=Undrawable, disable_env_checker=True)
    monkeypatch.setattr(Undrawable, "good_pictures", 0)
    yield Undrawable
    del registry["test/Undrawable-v0"]


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (None, ["array of object"]),
        (np.zeros((4, 4), np.uint8), ["shape (4, 4)", "height, width, 3"]),
        (np.zeros((4, 4, 4), np.uint8), ["shape (4, 4, 4)"]),
        (np.zeros((4, 4, 3)), ["float64"]),
        (RuntimeError("no GL\n context"), ["no GL context"]),
        (ImportError("no module named pygame"), ["pygame", "pip install", "[video]"]),
        (gymnasium.error.DependencyNotInstalled("run pip"), ["run pip", "[video]"]),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(
    undrawable, build, monkeypatch, picture, words
) -> None:
    monkeypatch.setattr(undrawable, "picture", picture)
    config = build("env.id=test/Undrawable-v0").config
    with pytest.raises(ValueError) as caught:
        Camera(config, seed=0, deterministic=True, key="evaluation.video=true")
    message = str(caught.value)
    assert message.startswith("evaluation.video=true: test/Undrawable-v0 cannot be drawn: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_environments_without_pictures_are_refused(build, mode) -> None:
    config = build("env.id=neurl/Counting-v0").config
    with pytest.raises(ValueError, match=f"no render mode {mode}: it draws nothing"):
        build_drawn(config, mode, key="evaluation.video=true")


def test_a_frame_is_not_overwritten_by_the_next(run) -> None:
    environments = build_drawn(run.config, "rgb_array", key="video=gif")
    try:
        environments.reset(seed=0)
        first = frame_of(environments)
        environments.step(np.zeros(1, np.int64))
        assert (first.max(), frame_of(environments).min()) == (0, 10)
    finally:
        environments.close()


def test_videos_of_evaluations_are_in_tensorboard(drawn, build, tmp_path) -> None:
    run = build(*DRAWN, "evaluation.video=true")
    camera = Camera(run.config, seed=0, deterministic=True, key="evaluation.video=true")
    tensorboard = TensorBoard(tmp_path)
    for env_steps in (10, 20):
        camera.show(run.agent, tensorboard, env_steps)
    camera.environments.close()
    tensorboard.close()
    (path,) = tmp_path.iterdir()
    found = [
        (event.step, value)
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    assert [(step, value.tag) for step, value in found] == [
        (10, "video/evaluation"),
        (20, "video/evaluation"),
    ]
    for _, value in found:
        assert value.metadata.plugin_data.plugin_name == "images"
        assert value.metadata.summary_description.endswith("in 8 steps")
        width, height, data = value.tensor.string_val
        assert (width, height) == (b"9", b"6")
        with Image.open(io.BytesIO(data)) as gif:
            assert (gif.format, gif.n_frames) == ("GIF", 3)


def test_a_video_that_fails_costs_a_warning(undrawable, build, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(undrawable, "picture", RuntimeError("the display is gone"))
    monkeypatch.setattr(undrawable, "good_pictures", 2)
    run = build("env.id=test/Undrawable-v0")
    camera = Camera(run.config, seed=0, deterministic=True, key="video=gif")
    with pytest.warns(RuntimeWarning, match="no video at 1,000 steps: the display is gone"):
        camera.show(run.agent, TensorBoard(None), 1000)
    monkeypatch.setattr(undrawable, "good_pictures", 100)
    camera.show(run.agent, TensorBoard(None), 2000)  # the next one may succeed
    camera.environments.close()


def test_drawing_failures_are_told_by_the_camera(undrawable, build, monkeypatch) -> None:
    monkeypatch.setattr(undrawable, "picture", RuntimeError("gone"))
    monkeypatch.setattr(undrawable, "good_pictures", 1)
    run = build("env.id=test/Undrawable-v0")
    camera = Camera(run.config, seed=0, deterministic=True, key="video=gif")
    with pytest.raises(DrawingFailure, match="gone"):
        camera.record(run.agent, index=0, kind="gif")
    camera.environments.close()
