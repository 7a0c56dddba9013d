"""Records videos in a separate environment, without changing any state of training."""

import itertools
import warnings
from contextlib import closing
from typing import Any, Literal

import gymnasium
import numpy as np
from omegaconf import DictConfig

from agents.agent import Agent
from conf.schema.layout import installing
from envs.interface import Environments
from envs.spaces import one_line
from envs.vector.failures import EnvironmentFailure
from training.building.environments import build_environments, with_values
from training.evaluation.clips import ENCODERS, Clip, Frame, Kind
from training.evaluation.evaluation import Evaluator, Play
from training.process.machine import draw_in_memory
from training.stream.episodes import InvalidExperience
from training.tracking.tracking import TensorBoard

RenderMode = Literal["rgb_array", "human"]
_DEFAULT_RATE = 30.0


def build_drawn(config: DictConfig, render_mode: RenderMode, *, key: str) -> Environments:
    """Make one configured environment that can render, wrappers included.

    Args:
        key: the setting that asked for it, for messages: `evaluation.video=true`.

    Raises:
        ValueError: the environment cannot be drawn; one line that names the key and the remedy.
    """
    name = f"{key}: {config.env.id}"
    own: dict[str, Any] = {"kwargs": {"render_mode": render_mode}}
    if render_mode == "rgb_array":
        draw_in_memory()
        own["on_failure"] = "stop"  # a video does not continue with another episode
    single = with_values(config, env={"vectorization": "sync"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium's, about modes and about its own window
        try:
            drawn = build_environments(with_values(single, env=own), num_envs=1, for_acting=True)
        except ValueError:
            with closing(build_environments(single, num_envs=1, for_acting=True)) as plain:
                _refuse_undrawn(name, render_mode, plain)
            raise
    try:  # a rendering package may be missing
        _refuse_undrawn(name, render_mode, drawn)
        drawn.reset(seed=0)
        if render_mode == "rgb_array":
            frame_of(drawn)
    except (DrawingFailure, EnvironmentFailure) as error:
        drawn.close()
        raise ValueError(f"{name} cannot be drawn: {error}") from error
    except ValueError:
        drawn.close()
        raise
    return drawn


def _refuse_undrawn(name: str, mode: RenderMode, environments: Environments) -> None:
    """Refuse an environment without the mode, nor frames that Gymnasium shows in its own window."""
    modes = environments.metadata.get("render_modes", [])
    if "rgb_array" not in modes and mode not in modes:
        offered = f"offers {', '.join(modes)}" if modes else "draws nothing"
        raise ValueError(f"{name} has no render mode {mode}: it {offered}")


class DrawingFailure(RuntimeError):
    """An environment could not render, or rendered something else than a frame."""


def frame_of(environments: Environments) -> Frame:
    """Render the only environment.

    Raises:
        DrawingFailure: it raised, or did not return `[H, W, 3]` bytes.
    """
    (environment,) = environments.unwrapped.envs  # type: ignore[attr-defined]
    try:
        frame = np.array(environment.render())
    except Exception as error:
        reason = one_line(error) or type(error).__name__
        if isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError):
            reason += f"; {installing('video')} may help"
        raise DrawingFailure(reason) from error
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise DrawingFailure(
            f"a frame is an array of {frame.dtype} of shape {frame.shape}, expected uint8 of shape "
            "(height, width, 3)"
        )
    return frame


def frames_per_second(environments: Environments) -> float:
    """Return the steps per second of the environment's own time."""
    return float(environments.metadata.get("render_fps") or _DEFAULT_RATE)


MAX_STEPS = 1_000
"""Steps after which a video is cut."""


class Camera:
    """Owns a rendered environment and its seeds, separate from training's and evaluation's."""

    def __init__(self, config: DictConfig, *, seed: int, deterministic: bool, key: str) -> None:
        """Make the configured environment; `seed` is the run's.

        Args:
            key: as of `build_drawn`, errors too.
        """
        self.environments = build_drawn(config, "rgb_array", key=key)
        self._play = Evaluator(self.environments, seed, deterministic, purpose="video")

    def record(self, agent: Agent, *, index: int, kind: Kind) -> Clip:
        """Record one episode; each `index` has its own seeds, so equal calls give equal videos.

        Raises:
            DrawingFailure: the environment could not render.
        """
        steps = itertools.count()
        with closing(ENCODERS[kind](frames_per_second(self.environments))) as encoder:

            def watch(play: Play) -> None:
                if next(steps) % encoder.stride == 0 or play.is_over:  # the last frame is included
                    encoder.add(frame_of(self.environments))

            seen = self._play(
                agent, episodes=1, index=index, watch=watch, max_episode_steps=MAX_STEPS
            )
            (score,), (length,), is_cut = seen.returns, seen.lengths, seen.unfinished > 0
            return Clip(encoder.finish(), encoder.size, score, length, is_cut)

    def show(self, agent: Agent, tensorboard: TensorBoard, env_steps: int) -> None:
        """Show an episode in TensorBoard; a failure must not end training, it costs a warning."""
        try:
            clip = self.record(agent, index=env_steps, kind="gif")
        except (DrawingFailure, EnvironmentFailure, InvalidExperience, ValueError) as error:
            warnings.warn(f"no video at {env_steps:,} steps: {error}", RuntimeWarning, stacklevel=2)
        else:
            tensorboard.video("video/evaluation", clip, env_steps)
