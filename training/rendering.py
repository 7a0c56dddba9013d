"""Environments that are drawn: as frames for a film, or in a window."""

import warnings
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from omegaconf import DictConfig, OmegaConf

from envs.vector import EnvironmentFailure
from training.display import check_window, draw_in_memory
from training.environments import build_environments
from training.film import Frame

RenderMode = Literal["rgb_array", "human"]
_DEFAULT_RATE = 30.0
# A film does not go on with another episode where one breaks.
_FAILING: dict[RenderMode, dict[str, str]] = {"rgb_array": {"on_failure": "stop"}, "human": {}}


def build_drawn(
    config: DictConfig, render_mode: RenderMode, *, key: str
) -> VectorEnv[Any, Any, Any]:
    """Make one configured environment that is drawn, wrappers included.

    Args:
        key: the setting that asked for it, for messages: `evaluation.video=true`.

    Raises:
        ValueError: the environment cannot be drawn; one line that names the key and the remedy.
    """
    name = f"{key}: {config.env.id}"
    single = _changed(config, {"vectorization": "sync"})
    plain = build_environments(single, num_envs=1)
    modes = plain.metadata.get("render_modes", [])
    plain.close()
    # Gymnasium shows frames in a window of its own where an environment has none.
    if "rgb_array" not in modes and render_mode not in modes:
        offered = f"offers {', '.join(modes)}" if modes else "draws nothing"
        raise ValueError(f"{name} has no render mode {render_mode}: it {offered}")
    if render_mode == "rgb_array":
        draw_in_memory()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Gymnasium opens that window
        drawn = build_environments(
            _changed(single, {"kwargs": {"render_mode": render_mode}, **_FAILING[render_mode]}),
            num_envs=1,
        )
    try:  # what drawing needs may be missing
        drawn.reset(seed=0)
        if render_mode == "rgb_array":
            frame_of(drawn)
        else:
            check_window()
    except (DrawingFailure, EnvironmentFailure) as error:
        drawn.close()
        raise ValueError(f"{name} cannot be drawn: {error}") from error
    except ValueError:
        drawn.close()
        raise
    return drawn


class DrawingFailure(RuntimeError):
    """An environment could not be drawn, or drew what is no frame."""


def frame_of(environments: VectorEnv[Any, Any, Any]) -> Frame:
    """Draw the only environment.

    Raises:
        DrawingFailure: it raised, or did not return `[H, W, 3]` bytes.
    """
    (environment,) = environments.unwrapped.envs  # type: ignore[attr-defined]
    try:
        frame = np.array(environment.render())
    except Exception as error:
        is_missing = isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError)
        extra = "; python -m pip install -c constraints.txt -e '.[video]' may help"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DrawingFailure(f"{reason}{extra if is_missing else ''}") from error
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise DrawingFailure(
            f"a frame is an array of {frame.dtype} of shape {frame.shape}, expected uint8 of shape "
            "(height, width, 3)"
        )
    return frame


def frames_per_second(environments: VectorEnv[Any, Any, Any]) -> float:
    """Tell how many steps make up a second of the environment's own time."""
    return float(environments.metadata.get("render_fps") or _DEFAULT_RATE)


def _changed(config: DictConfig, env: dict[str, Any]) -> DictConfig:
    changed = OmegaConf.merge(config, {"env": env})
    assert isinstance(changed, DictConfig)
    return changed
