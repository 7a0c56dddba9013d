"""Corridors in which the way depends on what was seen earlier."""

import numpy as np
from gymnasium import spaces

from envs.interface import Array
from envs.tasks.vector import Optima, VectorTask, check_sizes

_SOUTH = 1
_ALONG = np.array([0, 0, 1, -1])  # steps along a T-maze by action: north, south, east, west
_ACROSS = np.array([1, -1, 0, 0])


class TMaze(VectorTask):
    """Shows the goal's direction at the start of a corridor, and forks at its end.

    The agent starts in the first cell; `length` cells of hallway and the junction follow, and they
    look alike. Turning north or south in the junction ends the episode: +4 for the goal's
    direction, -0.1 for the other one.

    Observations: 0 and 1 are the start with the goal in the north or south, 2 hallway, 3 junction.
    Actions: north, south, east, west. The best agent is in the junction after `length + 1` steps.
    Without memory, the best always turns to one side and never leaves the start if the goal is on
    the other side: 4 or 0. (Always walking, as in POBAX' baseline, gives 4 or -0.1.)

    Source: Bakker (2001); Allen et al. (2024), arXiv:2407.07333; POBAX (Tao et al. 2025).
    """

    def __init__(self, num_envs: int, *, length: int) -> None:
        check_sizes(1, length=length)
        codes = spaces.Discrete(4)
        super().__init__(num_envs, codes, 4, hidden=spaces.Discrete(2))
        self._length = length
        arrival = 0.99 ** (length + 1)
        self.optima = Optima(4 * arrival, 4 * arrival, 2 * arrival, discount=0.99)
        self._goal = np.zeros(num_envs, np.int64)
        self._place = np.zeros(num_envs, np.int64)

    def _begin(self, which: Array) -> None:
        self._goal[which] = self.np_random.integers(2, size=len(which))
        self._place[which] = 0

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        turns = (self._place > self._length) & (actions <= _SOUTH)
        rewards = np.where(turns, np.where(actions == self._goal, 4.0, -0.1), 0.0)
        self._place = np.clip(self._place + _ALONG[actions], 0, self._length + 1)
        return rewards, turns

    def _observe(self) -> Array:
        return np.where(self._place == 0, self._goal, 2 + (self._place > self._length))

    def _hidden(self) -> Array:
        return self._goal.copy()


class TimedTMaze(VectorTask):
    """A T-maze whose episode has just the steps that the best agent needs.

    The oracle cell shows the goal once, at the first visit. The agent starts `oracle_distance`
    cells east of it, and the junction is `length` cells further east. The last step rewards 1 for
    standing in the goal, north or south of the junction. Each earlier step in which the agent is
    behind schedule costs 1 / `length`. With `oracle_distance` 0 the memory is passive; with 1 it is
    active: the agent must fetch what it remembers.

    Observations: whether the agent is in the junction or beyond, and the side: of the goal in the
    oracle cell, of the agent beyond the junction, else 0. Actions: north, south, east, west.

    Source: Ni et al. (2023), arXiv:2307.03864, section 4.2.
    """

    def __init__(self, num_envs: int, *, length: int, oracle_distance: int) -> None:
        check_sizes(1, length=length)
        sides = spaces.Box(-1.0, 1.0, (2,), np.float32)
        super().__init__(num_envs, sides, 4, hidden=spaces.Discrete(3, start=-1))
        self.optima = Optima(1.0, 1.0, 0.5)
        self._length, self._oracle_distance = length, oracle_distance
        self._junction = oracle_distance + length
        self._goal, self._shown, self._along, self._across = np.zeros((4, num_envs), np.int64)
        self._is_told = np.zeros(num_envs, np.bool_)

    def _begin(self, which: Array) -> None:
        self._goal[which] = 2 * self.np_random.integers(2, size=len(which)) - 1
        self._along[which] = self._oracle_distance
        self._across[which] = 0
        self._is_told[which] = self._oracle_distance == 0
        self._shown[which] = self._goal[which] * self._is_told[which]

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        along, across = self._along + _ALONG[actions], self._across + _ACROSS[actions]
        is_in_corridor = (across == 0) & (along >= 0) & (along <= self._junction)
        is_free = is_in_corridor | ((along == self._junction) & (abs(across) == 1))
        self._along = np.where(is_free, along, self._along)
        self._across = np.where(is_free, across, self._across)
        is_visit = (self._along == 0) & ~self._is_told
        self._shown = np.where(is_visit, self._goal, 0)
        self._is_told |= is_visit
        is_last = self._ages > self._length + 2 * self._oracle_distance
        is_late = self._along < self._ages - self._oracle_distance
        reached = (self._across == self._goal).astype(np.float64)
        return np.where(is_last, reached, np.where(is_late, -1 / self._length, 0.0)), is_last

    def _observe(self) -> Array:
        is_beyond = self._along == self._junction
        return np.stack([is_beyond, self._shown + self._across], axis=1).astype(np.float32)

    def _hidden(self) -> Array:
        return self._goal.copy()


class KeyToDoor(VectorTask):
    """A key lies at one end of a corridor, and its door is at the other end.

    The agent starts in the middle, `distance` cells from both, with just the steps for both ways.
    Opening the door with the key rewards 1. Every cell between start and key is crossed twice, in
    opposite directions: without memory, at best every other step there is right by chance.

    Observations: the agent's cell, from 0 (the key) to `2 * distance` (the door). Actions: towards
    the key, towards the door.
    """

    def __init__(self, num_envs: int, *, distance: int) -> None:
        check_sizes(1, distance=distance)
        cells = spaces.Discrete(2 * distance + 1)
        super().__init__(num_envs, cells, 2, hidden=spaces.Discrete(2))
        self.optima = Optima(1.0, 1.0, 0.25**distance)
        self._distance = distance
        self._cell = np.zeros(num_envs, np.int64)
        self._has_key = np.zeros(num_envs, np.bool_)

    def _begin(self, which: Array) -> None:
        self._cell[which] = self._distance
        self._has_key[which] = False

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        self._cell = np.clip(self._cell + 2 * actions - 1, 0, 2 * self._distance)
        self._has_key |= self._cell == 0
        is_open = self._has_key & (self._cell == 2 * self._distance)
        return is_open.astype(np.float64), is_open | (self._ages >= 3 * self._distance)

    def _observe(self) -> Array:
        return self._cell.copy()

    def _hidden(self) -> Array:
        return self._has_key.astype(np.int64)
