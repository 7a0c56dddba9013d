"""An environment in which closed doors must not be tried: it raises, as games do."""

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import register, registry, spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

Told = Literal["info", "method", "part", "nowhere"]
LENGTH = 5


class Doors(gymnasium.Env[Any, Any]):
    """In every step some doors of each corridor are open, which the observation shows.

    The reward is the mean of the numbers of the chosen doors. After the last step none is open, and
    no info tells so.

    Args:
        counts: doors of each corridor.
        told: where the mask is.
    """

    def __init__(self, counts: tuple[int, ...] = (6,), told: Told = "info") -> None:
        self._counts, self._told = tuple(counts), told
        size = sum(self._counts)
        self.action_space: Any = spaces.MultiDiscrete(self._counts)
        if len(self._counts) == 1:
            self.action_space = spaces.Discrete(size, start=3)
        seen = spaces.Box(0, 1, (size,), np.float32)
        self.observation_space: Any = seen
        if told == "part":
            mask = spaces.Box(0, 1, (size,), np.int8)
            self.observation_space = spaces.Dict({"seen": seen, "action_mask": mask})
        if told == "method":
            self.action_masks = lambda: self._open.astype(bool)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._shown()

    def step(self, action: Any) -> Any:
        starts = np.cumsum(self._counts) - self._counts
        chosen = np.ravel(action) - np.ravel(self.action_space.start)
        if not self._open[starts + chosen].all():
            raise RuntimeError(f"the door {action} is closed")
        self._steps += 1
        is_over = self._steps == LENGTH
        observation, info = self._shown(is_over=is_over)
        return observation, float(chosen.mean()), is_over, False, info

    def _shown(self, *, is_over: bool = False) -> tuple[Any, dict[str, Any]]:
        corridors = [self.np_random.random(count) < 0.3 for count in self._counts]
        for doors in corridors:
            doors[self.np_random.integers(len(doors))] = True
        self._open = np.concatenate(corridors).astype(np.int8) * (not is_over)
        seen = self._open.astype(np.float32)
        tells = self._told == "info" and not is_over
        info = {"action_mask": self._open.copy()} if tells else {}
        return ({"seen": seen, "action_mask": self._open} if self._told == "part" else seen), info


class VectorDoors(VectorEnv[Any, Any, Any]):
    """Several of them, as an environment with a vector form of its own."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        self._doors = [Doors(**kwargs) for _ in range(num_envs)]
        self.num_envs, one = num_envs, self._doors[0]
        self.single_observation_space = one.observation_space
        self.single_action_space = one.action_space
        self.observation_space = batch_space(one.observation_space, num_envs)
        self.action_space = batch_space(one.action_space, num_envs)
        self._ended = np.zeros(num_envs, bool)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        seen = [doors.reset(seed=seed)[0] for doors in self._doors]
        return np.stack(seen), self._info()

    def step(self, actions: Any) -> Any:
        told = [
            (doors.reset()[0], 0.0, False) if ended else doors.step(action)[:3]
            for doors, action, ended in zip(self._doors, actions, self._ended, strict=True)
        ]
        seen, rewards, ended = map(np.array, zip(*told, strict=True))
        self._ended = ended
        return seen, rewards, ended, np.zeros_like(ended), self._info()

    def _info(self) -> dict[str, Any]:
        return {"action_mask": np.stack([doors._open for doors in self._doors])}


if "test/Doors-v0" not in registry:
    register("test/Doors-v0", entry_point=Doors, vector_entry_point=VectorDoors)

MASKED = ["env=gymnasium", "env.id=test/Doors-v0", "env.action_mask=true"]
"""Words of a run in which only open doors are tried."""
TWO = "+env.kwargs.counts=[3,2]"
"""Two corridors, with a MultiDiscrete action space."""
