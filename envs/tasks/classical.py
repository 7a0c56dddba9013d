"""Two classical POMDPs, in the form of POBAX (Tao et al. 2025, arXiv:2508.00046)."""

import numpy as np
from gymnasium import spaces

from envs.interface import Array
from envs.tasks.vector import Optima, VectorTask, check_sizes

_SAMPLE = 4
_MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1], [0, 0]])  # north, east, south, west, others
_HALF_DISTANCE = 20  # at which a check is right in 75% of cases


class RockSample(VectorTask):
    """A rover samples rocks of unknown quality, checks them from afar, and leaves in the east.

    Half of the rocks are good on average: sampling rewards +10 and makes the rock bad; sampling a
    bad one costs 10. Entering the last column ends the episode with +10. A check is right with
    probability (1 + 2^(-d / 20)) / 2 at distance d. The start is any cell but the last column's.

    Observations: row and column, one-hot; the reading of each rock that was just checked, -1 bad,
    +1 good, 0 for all others. Actions: north, east, south, west, sample, check each rock.

    The full optimum is without discount, where time costs nothing.

    Source: Smith & Simmons (2004), "Heuristic search value iteration for POMDPs".

    Args:
        size: cells of a side.
        layout: seed of the rocks' cells, which are the same in all episodes.
    """

    def __init__(self, num_envs: int, *, size: int, rocks: int, layout: int) -> None:
        check_sizes(2, size=size)
        if not 0 < rocks <= size * (size - 1):
            raise ValueError(f"rocks={rocks}: expected 1 to {size * (size - 1)}, one in each cell")
        readings = spaces.Box(-1.0, 1.0, (2 * size + rocks,), np.float32)
        super().__init__(num_envs, readings, 5 + rocks, hidden=spaces.MultiBinary(rocks))
        self.optima = Optima(10 + 5.0 * rocks, None, None)
        self._size = size
        cells = np.random.default_rng(layout).permutation(size * (size - 1))[:rocks]
        self._rocks = np.stack(np.divmod(cells, size - 1), axis=1)  # [rocks, 2]
        self._place = np.zeros((num_envs, 2), np.int64)
        self._is_good = np.zeros((num_envs, rocks), np.bool_)
        self._reading = np.zeros((num_envs, rocks), np.float32)

    def _begin(self, which: Array) -> None:
        self._place[which, 0] = self.np_random.integers(self._size, size=len(which))
        self._place[which, 1] = self.np_random.integers(self._size - 1, size=len(which))
        self._is_good[which] = self.np_random.integers(2, size=(len(which), len(self._rocks)))
        self._reading[which] = 0

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        self._place = np.clip(self._place + _MOVES[np.minimum(actions, 4)], 0, self._size - 1)
        is_here = (self._place[:, None] == self._rocks).all(axis=2)
        is_sampled = is_here & (actions == _SAMPLE)[:, None]
        rewards = (is_sampled * np.where(self._is_good, 10.0, -10.0)).sum(axis=1)
        self._is_good &= ~is_sampled
        self._check(actions > _SAMPLE, np.maximum(actions - _SAMPLE - 1, 0))
        has_left = self._place[:, 1] == self._size - 1
        return rewards + 10.0 * has_left, has_left

    def _check(self, is_check: Array, rock: Array) -> None:
        """Reads the quality of each environment's rock, where that is the action."""
        distance = np.hypot(*(self._place - self._rocks[rock]).T)
        chance = (1 + 2 ** (-distance / _HALF_DISTANCE)) / 2
        is_right = self.np_random.random(self.num_envs) < chance
        reads_good = self._is_good[self._rows, rock] == is_right
        self._reading[:] = 0
        self._reading[self._rows, rock] = np.where(reads_good, 1, -1) * is_check

    def _observe(self) -> Array:
        row, column = self._place.T
        one_hot = np.eye(self._size, dtype=np.float32)
        return np.concatenate([one_hot[row], one_hot[column], self._reading], axis=1)

    def _hidden(self) -> Array:
        return self._is_good.astype(np.int8)


class Battleship(VectorTask):
    """Ships are hidden in a grid; shots must sink them all. A shot at the same cell is wasted.

    Every shot costs 1, but the last one rewards the number of cells. Who knows the ships needs one
    shot for each of their cells.

    Observations: whether the last shot was a hit, and which cells were not shot at yet. Where the
    hits were must be remembered. Actions: the cells.

    Args:
        size: cells of a side.
        ships: their lengths; placed one after another, uniformly among all free places.
    """

    def __init__(self, num_envs: int, *, size: int, ships: list[int]) -> None:
        check_sizes(1, size=size, ships=min(ships, default=0))
        if max(ships) > size or 2 * sum(ships) > size**2:
            raise ValueError(f"ships={list(ships)}: expected ships that fill at most half the grid")
        cells = size**2
        bits = spaces.MultiBinary(1 + cells)
        super().__init__(num_envs, bits, cells, hidden=spaces.MultiBinary(cells))
        self.optima = Optima(cells - sum(ships) + 1.0, None, None)
        self._places = tuple(_places(size, length) for length in ships)
        self._is_ship, self._is_shot = np.zeros((2, num_envs, cells), np.bool_)
        self._is_hit = np.zeros(num_envs, np.bool_)

    def _begin(self, which: Array) -> None:
        is_ship = np.zeros((len(which), self._is_ship.shape[1]), np.bool_)
        for places in self._places:
            is_free = is_ship.astype(np.float32) @ places.T == 0
            chosen = np.argmax(self.np_random.random(is_free.shape) * is_free, axis=1)
            is_ship |= places[chosen] > 0
        self._is_ship[which] = is_ship
        self._is_shot[which] = self._is_hit[which] = False

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        shot = self._rows, actions
        self._is_hit = self._is_ship[shot] & ~self._is_shot[shot]
        self._is_shot[shot] = True
        is_sunk = np.logical_and.reduce(self._is_shot | ~self._is_ship, axis=1)
        return np.where(is_sunk, float(self._is_ship.shape[1]), -1.0), is_sunk

    def _observe(self) -> Array:
        return np.concatenate([self._is_hit[:, None], ~self._is_shot], axis=1).astype(np.int8)

    def _hidden(self) -> Array:
        return self._is_ship.astype(np.int8)


def _places(size: int, length: int) -> Array:
    """Returns the cells of all places of a ship, `[N, size * size]`, zeros and ones."""
    line = np.zeros((size - length + 1, size), np.float32)
    for start, row in enumerate(line):
        row[start : start + length] = 1
    across = np.einsum("pc,rs->prsc", line, np.eye(size, dtype=np.float32))
    across = across.reshape(-1, size, size)
    both = np.concatenate([across, across.transpose(0, 2, 1)]).reshape(-1, size**2)
    return np.unique(both, axis=0)
