"""MinAtar's five games, reproducible.

Importing this module registers `MinAtar/<Game>-v0`, as MinAtar itself does on demand. (Its `-v1`
are the same games with `use_minimal_action_set=true`, of which Gymnasium says that `-v0` is old.)
"""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import register, registry
from minatar.gym import BaseEnv

_CELL = 16  # pixels of a cell's side, where a game is drawn
_GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")


class MinAtarGame(BaseEnv):
    """A game as MinAtar makes it, whose episodes depend on the seed alone.

    MinAtar's own lets the last action of an episode stick in the first step of the next one, even
    with a new seed, and does not seed the generator that Gymnasium gives every environment. What it
    draws are fractions, a pixel for each cell.
    """

    metadata = {**BaseEnv.metadata, "render_fps": 10}  # noqa: RUF012 (as Gymnasium has it)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.bool_], dict[str, Any]]:
        """Starts an episode."""
        gymnasium.Env.reset(self, seed=seed)
        self.game.last_action = 0
        observation, info = super().reset(seed=seed, options=options)
        return observation, info

    def render(self) -> Any:
        """Draws the cells, each in the colour of what is in it."""
        drawn = super().render()
        if self.render_mode != "rgb_array":
            return drawn
        return (255 * drawn).round().astype(np.uint8).repeat(_CELL, 0).repeat(_CELL, 1)


for _game in _GAMES:
    _id = f"MinAtar/{_game.title().replace('_', '')}-v0"
    registry.pop(_id, None)  # MinAtar's own, where somebody asked for it
    register(id=_id, entry_point="envs.games.minatar:MinAtarGame", kwargs={"game": _game})
