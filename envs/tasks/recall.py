"""Tasks in which symbols, or the results of one's own actions, must be named later."""

from typing import Literal

import numpy as np
from gymnasium import spaces

from envs.interface import Array
from envs.tasks.vector import Optima, VectorTask, check_sizes

Order = Literal["previous", "first", "backwards"]

_BLOCKS, _BLOCK_SIZE = 4, 3  # per side of a picture; pixels per side of a block


class Repeat(VectorTask):
    """Shows random symbols, one per step, and asks for earlier ones.

    All scored answers together are worth 1 if right and -1 if wrong. Symbols are uniform and
    independent, so an agent without memory guesses: 2 / `symbols` - 1.

    Observations: the shown symbol, or `symbols` for none; with `pictures`, a grey image of it.
    Actions: the symbols.

    Source: RepeatPrevious, RepeatFirst and Autoencode of POPGym (Morad et al. 2023,
    arXiv:2303.01859), which draw from a deck without replacement.

    Args:
        order: of the answers. 'previous': in every step the symbol shown `span` - 1 steps ago (as
            POPGym counts); 'first': in every step but the first, the first one; 'backwards': when
            all are shown, all of them, the last one first.
        length: number of symbols.
        span: of 'previous', at least 2.
    """

    def __init__(
        self, num_envs: int, *, order: Order, length: int, span: int, symbols: int, pictures: bool
    ) -> None:
        asked = {
            "previous": [step - span + 1 for step in range(length)],
            "first": [-1] + [0] * (length - 1),
            "backwards": [-1] * length + list(reversed(range(length))),
        }
        if order not in asked:
            raise ValueError(f"order={order!r}: expected one of {', '.join(asked)}")
        check_sizes(2, span=span, symbols=symbols)
        check_sizes(span if order == "previous" else 2, length=length)
        side = _BLOCKS * _BLOCK_SIZE
        image = spaces.Box(0, 255, (side, side, 1), np.uint8)
        shown = image if pictures else spaces.Discrete(symbols + 1)
        hidden = spaces.MultiDiscrete([symbols] * length)
        super().__init__(num_envs, shown, symbols, hidden=hidden)
        self.optima = Optima(1.0, 1.0, 2 / symbols - 1)
        self._asked = np.array(asked[order])
        self._worth = 1 / np.count_nonzero(self._asked >= 0)
        self._length, self._count = length, symbols
        self._symbols = np.full((num_envs, len(self._asked) + 1), symbols)
        self._pictures = _pictures(symbols + 1) if pictures else None

    def _begin(self, which: Array) -> None:
        drawn = self.np_random.integers(self._count, size=(len(which), self._length))
        self._symbols[which, : self._length] = drawn

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        asked = self._asked[np.minimum(self._ages, len(self._asked)) - 1]
        is_right = actions == self._symbols[self._rows, asked]
        rewards = np.where(asked >= 0, np.where(is_right, self._worth, -self._worth), 0.0)
        return rewards, self._ages >= len(self._asked)

    def _observe(self) -> Array:
        codes: Array = self._symbols[self._rows, self._ages]
        return codes if self._pictures is None else self._pictures[codes]

    def _hidden(self) -> Array:
        return self._symbols[:, : self._length].copy()


def _pictures(count: int) -> Array:
    """Returns different images `[count, side, side, 1]`, always the same, of black and white."""
    generator = np.random.default_rng(0)
    bits = generator.permutation(2 ** (_BLOCKS**2))[:count, None] >> np.arange(_BLOCKS**2) & 1
    blocks = bits.reshape(count, _BLOCKS, _BLOCKS, 1).astype(np.uint8)
    return 255 * blocks.repeat(_BLOCK_SIZE, axis=1).repeat(_BLOCK_SIZE, axis=2)


class HiddenArm(VectorTask):
    """A bandit: results are shown while arms are tried, and later only one arm pays.

    In the first `arms` steps the result of the last pull is shown and nothing is paid. In the
    `pulls` steps after that nothing is shown, and the best arm, drawn at the start, pays
    1 / `pulls`. Without memory, one arm is as good as any other.

    Observations: 0 nothing, 1 the start, 2 + 2 x arm + (1 for the best arm). Actions: the arms.
    """

    def __init__(self, num_envs: int, *, arms: int, pulls: int) -> None:
        check_sizes(2, arms=arms)
        check_sizes(1, pulls=pulls)
        results = spaces.Discrete(2 * arms + 2)
        super().__init__(num_envs, results, arms, hidden=spaces.Discrete(arms))
        self.optima = Optima(1.0, 1.0, 1 / arms)
        self._arms, self._pulls = arms, pulls
        self._best, self._shown = np.zeros((2, num_envs), np.int64)

    def _begin(self, which: Array) -> None:
        self._best[which] = self.np_random.integers(self._arms, size=len(which))
        self._shown[which] = 1

    def _advance(self, actions: Array) -> tuple[Array, Array]:
        is_best = actions == self._best
        self._shown = np.where(self._ages < self._arms, 2 + 2 * actions + is_best, 0)
        rewards = np.where(is_best & (self._ages > self._arms), 1 / self._pulls, 0.0)
        return rewards, self._ages >= self._arms + self._pulls

    def _observe(self) -> Array:
        return self._shown.copy()

    def _hidden(self) -> Array:
        return self._best.copy()
