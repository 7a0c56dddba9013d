"""bsuite's test of memory over any length."""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from envs.interface import Info, Opening

Vector = npt.NDArray[np.float32]


class MemoryChain(gymnasium.Env[Any, Any]):
    """Shows bits at first and asks for one of them at the end.

    Rewards 1 for the right bit, -1 for the wrong one, 0 before. Optimal return 1; chance 0, which
    is also the best that a policy without memory reaches.

    An observation is `[1, 2 + num_bits]`: the remaining time, from 1 down to 0; in the last step,
    the index of the requested bit; at first, the bits, each -1 or +1.

    Source: `memory_len` and `memory_size` of bsuite (Osband et al. 2020, arXiv:1908.03568), class
    `MemoryChain`, step by step: the first observation is shown twice, and an episode takes
    `memory_length + 1` steps.

    Args:
        memory_length: observations from the bits to the question, at least 1.
        num_bits: number of bits, at least 1; `memory_len` has one.
    """

    def __init__(self, *, memory_length: int, num_bits: int) -> None:
        for name, number in (("memory_length", memory_length), ("num_bits", num_bits)):
            if number < 1:
                raise ValueError(f"{name}={number}: expected at least 1")
        self._length, self._num_bits = memory_length, num_bits
        highest = float(max(1, num_bits - 1))
        self.observation_space = spaces.Box(-1.0, highest, (1, 2 + num_bits), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts an episode; options are ignored."""
        super().reset(seed=seed)
        self._steps = 0
        self._bits = self.np_random.integers(2, size=self._num_bits)
        self._query = int(self.np_random.integers(self._num_bits))
        return self._shown(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Steps; the last action is the answer."""
        self._steps += 1
        is_last = self._steps > self._length
        answer = 1.0 if action == self._bits[self._query] else -1.0
        return self._shown(self._steps - 1), answer if is_last else 0.0, is_last, False, {}

    def _shown(self, moment: int) -> Vector:
        shown = np.zeros((1, 2 + self._num_bits), np.float32)
        shown[0, 0] = 1.0 - moment / self._length
        if moment == self._length - 1:
            shown[0, 1] = self._query
        if moment == 0:
            shown[0, 2:] = 2 * self._bits - 1
        return shown
