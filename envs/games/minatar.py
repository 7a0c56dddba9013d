"""MinAtar's five games, made reproducible.

Importing this module registers `MinAtar/<Game>-v0`, as MinAtar itself does on demand. (Its `-v1`
are the same games with `use_minimal_action_set=true`; Gymnasium warns that `-v0` is outdated.)
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import register, registry
from minatar.gym import BaseEnv

from envs.interface import Info, Opening

_CELL = 16  # side of a rendered cell in pixels
_GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")


class MinAtarGame(BaseEnv):
    """A MinAtar game whose episodes depend only on the seed.

    In MinAtar's own class, the last action of an episode can stick in the first step of the next
    one, even with a new seed. It does not seed Gymnasium's `np_random`. It renders fractions, with
    one pixel per cell.
    """

    metadata = {**BaseEnv.metadata, "render_fps": 10}  # noqa: RUF012 (as Gymnasium has it)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts an episode."""
        gymnasium.Env.reset(self, seed=seed)
        self.game.last_action = 0
        observation, info = super().reset(seed=seed, options=options)
        return observation, info

    def render(self) -> Any:
        """Returns the image, each cell in the colour of its content."""
        drawn = super().render()
        if self.render_mode != "rgb_array":
            return drawn
        return (255 * drawn).round().astype(np.uint8).repeat(_CELL, 0).repeat(_CELL, 1)


for _game in _GAMES:
    _id = f"MinAtar/{_game.title().replace('_', '')}-v0"
    registry.pop(_id, None)  # MinAtar's own registration, if there is one
    register(id=_id, entry_point=f"{__name__}:MinAtarGame", kwargs={"game": _game})
