"""Environments that tell where a step belongs, for tests of how steps are collected.

They are registered as `neurl/Counting-v0` and `neurl/Endless-v0`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from gymnasium import register, registry, spaces

from envs.interface import Info, Opening
from tests.probes import Outcome, SmallTask, Vector, vector

Ending = Literal["terminated", "truncated", "both"]


class _Ending(SmallTask):
    """The last step of an episode sets the flags of an ending."""

    def __init__(self, *, continuous: bool, ending: Ending) -> None:
        super().__init__(continuous=continuous)
        self._flags = ending != "truncated", ending != "terminated"

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Steps."""
        shown, reward, is_last, _, info = super().step(action)
        terminated, truncated = (is_last and flag for flag in self._flags)
        return shown, reward, terminated, truncated, info


class Counting(_Ending):
    """Shows `[episode, step]` and rewards 1 per step. Tests the order of collected steps.

    Optimal return and chance are the episode's length.

    Args:
        lengths: steps of episodes 0, 1, ..., repeated cyclically.
        ending: the flags set by the last step of an episode.
        offset: number of the first episode; distinguishes environments.
    """

    def __init__(
        self, *, lengths: Sequence[int], ending: Ending, offset: int, continuous: bool
    ) -> None:
        super().__init__(continuous=continuous, ending=ending)
        self.observation_space = spaces.Box(0.0, np.inf, (2,), np.float32)
        self._lengths = list(lengths)
        self._episode = offset - 1

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts the next episode."""
        self._episode += 1
        return super().reset(seed=seed)

    def state_dict(self) -> dict[str, int]:
        """Returns the state that persists across episodes, so that a run can be resumed."""
        return {"episode": self._episode}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restores the state."""
        self._episode = state["episode"]

    def _opening(self) -> Vector:
        return vector(self._episode, 0.0)

    def _advance(self, action: Any) -> Outcome:
        is_last = self._steps == self._lengths[self._episode % len(self._lengths)]
        return vector(self._episode, self._steps), 1.0, is_last


class Endless(_Ending):
    """Rewards 1 per step, shows 1, and ends after `limit` steps. Tests bootstrapping at ends.

    Optimal return and chance are `limit`. With discount d and `ending` 'truncated' the value is
    1 / (1 - d), as if the episode continued. With 'terminated' it is the mean of
    (1 - d^n) / (1 - d) over the n = 1..limit remaining steps, which look the same to the agent.

    Args:
        limit: steps of an episode; None for endless episodes.
    """

    def __init__(self, *, limit: int | None, ending: Ending, continuous: bool) -> None:
        super().__init__(continuous=continuous, ending=ending)
        self._limit = limit

    def _opening(self) -> Vector:
        return vector(1.0)

    def _advance(self, action: Any) -> Outcome:
        return vector(1.0), 1.0, self._steps == self._limit


DEFAULTS = {
    "Counting": {"lengths": [3, 5, 2], "ending": "terminated", "offset": 0, "continuous": False},
    "Endless": {"limit": 10, "ending": "truncated", "continuous": False},
}
for name, kwargs in DEFAULTS.items():
    if f"neurl/{name}-v0" not in registry:
        counts = name == "Counting"  # episodes, so that a seed does not decide what one shows
        entry_point = f"tests.counting:{name}"
        register(f"neurl/{name}-v0", entry_point, kwargs=kwargs, nondeterministic=counts)
