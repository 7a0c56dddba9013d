"""Small environments whose optimal values are known by arithmetic.

Each isolates one possible fault of an agent. They are registered as `neurl/<class>-v0`. With the
argument `continuous`, actions are
a Box in [-1, 1], otherwise Discrete(2). Both mean a push in [-1, 1] (action 0 is -1, action 1 is
+1), so that optimal and chance returns are the same. Chance means uniformly random actions.

Source: the probe environments of Jones (2021), "Debugging reinforcement learning systems".
"""

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import register, registry, spaces

from envs.interface import Info, Opening

Vector = npt.NDArray[np.float32]
Outcome = tuple[Any, float, bool]
"""An observation, a reward, and whether the episode ends."""


class SmallTask(gymnasium.Env[Any, Any], ABC):
    """Base class: two kinds of actions, one observed number, a step counter."""

    def __init__(self, *, continuous: bool) -> None:
        self.action_space = (
            spaces.Box(-1.0, 1.0, (1,), np.float32) if continuous else spaces.Discrete(2)
        )
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts an episode; options are ignored."""
        super().reset(seed=seed)
        self._steps = 0
        return self._opening(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Steps."""
        self._steps += 1
        shown, reward, is_last = self._advance(action)
        return shown, reward, is_last, False, {}

    def _opening(self) -> Any:
        return vector(0.0)

    @abstractmethod
    def _advance(self, action: Any) -> Outcome:
        """Returns the outcome of the step that `_steps` counts already."""

    def _push(self, action: Any) -> float:
        if isinstance(self.action_space, spaces.Discrete):
            return 2.0 * float(action) - 1.0
        return float(np.clip(action[0], -1.0, 1.0))

    def _random_sign(self) -> float:
        return 1.0 if self.np_random.random() < 0.5 else -1.0


class ConstantReward(SmallTask):
    """Rewards 1 in the only step. Tests the value loss and the optimizer.

    Optimal return 1, chance 1; the value of the observation is 1.
    """

    def _advance(self, action: Any) -> Outcome:
        return vector(0.0), 1.0, True


class ObservationReward(SmallTask):
    """Rewards the observation, -1 or +1, in the only step. Tests that values depend on it.

    Optimal return 0 on average, chance 0; the value of an observation is itself.
    """

    def _opening(self) -> Vector:
        self._shown = self._random_sign()
        return vector(self._shown)

    def _advance(self, action: Any) -> Outcome:
        return vector(0.0), self._shown, True


class DelayedReward(SmallTask):
    """Rewards 1 in the second of two steps. Tests discounting and bootstrapping.

    Optimal return 1, chance 1; the value of the first observation (0) is the discount, that of the
    second (1) is 1.
    """

    def _advance(self, action: Any) -> Outcome:
        return vector(1.0), float(self._steps == 2), self._steps == 2


class ActionReward(SmallTask):
    """Rewards the push in the only step. Tests the policy gradient with constant observations.

    Optimal return 1 (action 1), chance 0.
    """

    def _advance(self, action: Any) -> Outcome:
        return vector(0.0), self._push(action), True


class ObservationActionReward(ObservationReward):
    """Rewards push times observation, -1 or +1. Tests that policies depend on observations.

    Optimal return 1 (the push equals the observation), chance 0.
    """

    def _advance(self, action: Any) -> Outcome:
        return vector(0.0), self._push(action) * self._shown, True


class ContinuousTarget(SmallTask):
    """Rewards minus the squared distance of action and observation. Tests precise control.

    Optimal return 0 (the action is the observation, uniform in [-1, 1]), chance -2/3.
    """

    def __init__(self) -> None:
        super().__init__(continuous=True)

    def _opening(self) -> Vector:
        self._target = float(self.np_random.uniform(-1.0, 1.0))
        return vector(self._target)

    def _advance(self, action: Any) -> Outcome:
        return vector(0.0), -((self._push(action) - self._target) ** 2), True


class Recall(SmallTask):
    """Shows a cue of -1 or +1 once and rewards the last push times the cue. Tests memory.

    Optimal return 1; chance 0, which is also the best that a policy without memory reaches.

    Args:
        length: steps of an episode, at least 2; the cue must be remembered for `length - 1` steps.
        discrete_observation: Discrete(3) instead of a Box: 0 is blank, 1 and 2 are the cues.
    """

    def __init__(self, *, length: int, continuous: bool, discrete_observation: bool) -> None:
        super().__init__(continuous=continuous)
        if length < 2:
            raise ValueError(f"length={length}: expected at least 2, or nothing is to be recalled")
        self._length = length
        self._is_discrete = discrete_observation
        if discrete_observation:
            self.observation_space = spaces.Discrete(3)

    def _opening(self) -> Any:
        self._cue = self._random_sign()
        return self._shown(self._cue)

    def _advance(self, action: Any) -> Outcome:
        is_last = self._steps == self._length
        return self._shown(0.0), self._push(action) * self._cue if is_last else 0.0, is_last

    def _shown(self, cue: float) -> Any:
        if not self._is_discrete:
            return vector(cue)
        return np.int64({0.0: 0, -1.0: 1, 1.0: 2}[cue])


def vector(*numbers: float) -> Vector:
    return np.array(numbers, np.float32)


DEFAULTS: dict[str, dict[str, object]] = {
    "ConstantReward": {"continuous": False},
    "ObservationReward": {"continuous": False},
    "DelayedReward": {"continuous": False},
    "ActionReward": {"continuous": False},
    "ObservationActionReward": {"continuous": False},
    "ContinuousTarget": {},
    "Recall": {"length": 4, "continuous": False, "discrete_observation": False},
}
for name, kwargs in DEFAULTS.items():
    if f"neurl/{name}-v0" not in registry:  # a script may be run as a module too
        register(f"neurl/{name}-v0", entry_point=f"tests.probes:{name}", kwargs=kwargs)
