"""An environment of images that processes can import by name."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

SIZE = 8


class Camera(gymnasium.Env[Any, Any]):
    """A bright square to the left or right of noise says which action pays 1; five times.

    Args:
        shows: `intensities`, the image; `codes`, a grid with 1 where the square is; `parts`, the
            image and a number that says nothing.
    """

    action_space = spaces.Discrete(2)

    def __init__(self, *, shows: str = "intensities") -> None:
        image = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.shows = shows
        self.observation_space = {
            "intensities": image,
            "codes": spaces.MultiDiscrete(np.full((SIZE, SIZE), 3)),
            "parts": spaces.Dict([("camera", image), ("number", spaces.Box(-1, 1, (1,)))]),
        }[shows]

    def _observe(self) -> Any:
        self.side = int(self.np_random.integers(2))
        row, column = self.np_random.integers(0, [SIZE - 2, SIZE // 2 - 2])
        column += self.side * SIZE // 2
        if self.shows == "codes":
            codes = self.np_random.choice([0, 2], (SIZE, SIZE))
            codes[row : row + 3, column : column + 3] = 1
            return codes
        image = self.np_random.integers(0, 120, (SIZE, SIZE, 3), np.uint8)
        image[row : row + 3, column : column + 3] = 255
        number = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return {"camera": image, "number": number} if self.shows == "parts" else image

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == self.side)
        self.steps += 1
        return self._observe(), reward, self.steps == 5, False, {}
