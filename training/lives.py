"""Lost lives as ends of episodes, in the stream alone: environments and scores know of none."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from networks.mirror import Array


class Lives:
    """Tells which environments lost a life in a step and go on.

    They say how many they have left in `infos["lives"]`, as Atari's do.
    """

    def __init__(self, num_envs: int, infos: Mapping[str, Any]) -> None:
        """Take the lives that a reset told.

        Raises:
            ValueError: it told none.
        """
        if "lives" not in infos:
            raise ValueError(
                "env.life_loss=true: the environments tell no lives in their info; "
                "use env.life_loss=false"
            )
        self._left = np.zeros(num_envs, np.int64)
        self.lost(infos)

    def lost(self, infos: Mapping[str, Any]) -> Array:
        """Take one step of every environment; return where a life was lost, `[B]`."""
        lives = np.asarray(infos.get("lives", self._left))
        # Single environments tell a mask besides: who failed told nothing.
        left = np.where(infos.get("_lives", True), lives, self._left)
        has_lost = left < self._left
        self._left = left.astype(np.int64)
        return np.asarray(has_lost)

    def forget(self, chosen: Array) -> None:
        """Know nothing of the environments where `chosen [B]` is True: another game began."""
        self._left[chosen] = 0

    def state_dict(self) -> list[int]:
        """Return the lives that are left."""
        return [int(count) for count in self._left]

    def load_state_dict(self, state: Sequence[int]) -> None:
        """Go on from what was saved."""
        self._left = np.array(state, np.int64)
