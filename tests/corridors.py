"""An environment with an argument to change: `env.packages=[tests.corridors]`."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import register, registry, spaces


class Corridor(gymnasium.Env[Any, Any]):
    """Ends after `length` steps; shows that number, the step, and something random."""

    observation_space: Any = spaces.Box(-1, 100, (3,), np.float32)
    action_space: Any = spaces.Discrete(2)
    made = 0

    def __init__(self, length: int = 9, width: int = 3) -> None:
        if length < 1:
            raise ValueError("no corridor is that short")
        self._length = length
        if width != 3:
            self.observation_space = spaces.Box(-1, 100, (width,), np.float32)
        Corridor.made += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._shown(), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        return self._shown(), self.np_random.random(), self._steps == self._length, False, {}

    def _shown(self) -> Any:
        return np.array([self._length, self._steps, self.np_random.random()], np.float32)


if "test/Corridor-v0" not in registry:
    register("test/Corridor-v0", entry_point=Corridor, disable_env_checker=True)
