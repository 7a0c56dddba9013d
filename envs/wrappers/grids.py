"""Wrappers that convert MiniGrid's observations to codes or images.

A MiniGrid observation is a dictionary of a view, a direction and a mission in words. The view is
not an image: its three channels are codes of object, colour and state, which are not numbers.
"""

import importlib
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from envs.interface import Environment

_CHANNELS = ("OBJECT_TO_IDX", "COLOR_TO_IDX", "STATE_TO_IDX")


class GridCodes(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Returns the agent's view as a grid of codes `[width, height, 3]`, a `MultiDiscrete`.

    Args:
        direction: whether to add the direction that the agent faces; the observation then has the
            parts `image` and `direction`.

    Raises:
        ValueError: the environment is not from MiniGrid, or another wrapper has changed its view.
    """

    def __init__(self, env: Environment, *, direction: bool) -> None:
        RecordConstructorArgs.__init__(self, direction=direction)
        super().__init__(env)
        view = _view(env, "GridCodes")
        codes = importlib.import_module("minigrid.core.constants")
        counts = [len(getattr(codes, channel)) for channel in _CHANNELS]
        image: spaces.Space[Any] = spaces.MultiDiscrete(
            np.broadcast_to(np.array(counts), view.shape), dtype=np.uint8
        )
        self._shows_direction = direction
        self.observation_space = image
        if direction:
            facing = spaces.Discrete(len(codes.DIR_TO_VEC))
            self.observation_space = spaces.Dict({"image": image, "direction": facing})

    def observation(self, observation: Any) -> Any:
        """Returns a copy of the codes."""
        codes: npt.NDArray[np.uint8] = np.array(observation["image"], np.uint8)
        if self._shows_direction:
            return {"image": codes, "direction": np.int64(observation["direction"])}
        return codes


class GridPixels(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Returns the agent's view as a colour image, `[height, width, 3]`.

    Args:
        tile_size: side of a cell in pixels.

    Raises:
        ValueError: the environment is not from MiniGrid.
    """

    def __init__(self, env: Environment, *, tile_size: int) -> None:
        RecordConstructorArgs.__init__(self, tile_size=tile_size)
        super().__init__(env)
        width, height, _ = _view(env, "GridPixels").shape
        self._tile_size = tile_size
        shape = (height * tile_size, width * tile_size, 3)
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)

    def observation(self, observation: Any) -> npt.NDArray[np.uint8]:
        """Renders the view."""
        draw = self.unwrapped.get_frame  # type: ignore[attr-defined]
        return np.array(draw(tile_size=self._tile_size, agent_pov=True), np.uint8)


def _view(env: Environment, wrapper: str) -> spaces.Box:
    """Returns the space of the view.

    Raises:
        ValueError: there is no such space.
    """
    space = env.observation_space
    view = space.spaces.get("image") if isinstance(space, spaces.Dict) else None
    if not is_minigrid(env) or not isinstance(view, spaces.Box) or view.shape[-1:] != (3,):
        raise ValueError(
            f"env.wrappers: {wrapper} reads what MiniGrid's environments show; {env} shows {space}"
        )
    return view


def is_minigrid(env: Environment) -> bool:
    """Whether an environment is from MiniGrid, without importing MiniGrid."""
    return any(kind.__name__ == "MiniGridEnv" for kind in type(env.unwrapped).__mro__)
