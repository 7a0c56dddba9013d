"""Wrappers that make sensors and actuators unreliable: lost, noisy, late, repeated."""

import copy
from collections import deque
from typing import Any, Literal

import numpy as np
from gymnasium import Space, spaces

from envs.interface import Environment, Step
from envs.spaces import map_parts
from envs.wrappers.pomdp import PartialObservation, blank_of, with_blank

Shows = Literal["blank", "stale"]


class Flicker(PartialObservation):
    """Loses each observation with a probability, the first one of an episode too.

    Args:
        probability: that an observation is lost.
        shows: instead of a lost one: 'blank' zeros (codes: the first one); 'stale' the last one
            that was not lost, in the beginning the first one.

    Source: Hausknecht & Stone (2015), arXiv:1507.06527, flickering Atari.
    """

    def __init__(self, env: Environment, *, probability: float, shows: Shows) -> None:
        super().__init__(env, probability=probability, shows=shows)
        self._probability = probability
        self._is_stale = shows == "stale"
        if not self._is_stale:
            self.observation_space = map_parts(
                lambda _, space: with_blank(space, True), env.observation_space
            )
            self._blank = blank_of(env.observation_space)

    def _begin(self) -> None:
        self._last = copy.deepcopy(self._full) if self._is_stale else self._blank

    def _shown(self, observation: Any) -> Any:
        if self._random.random() >= self._probability:
            shown = copy.deepcopy(observation)
            if self._is_stale:
                self._last = shown
            return shown
        return copy.deepcopy(self._last)


class Noise(PartialObservation):
    """Adds Gaussian noise to all numbers; codes, intensities and other integers stay.

    Args:
        std: standard deviation, in the units of the observation.

    Raises:
        ValueError: the observation has no numbers with a floating dtype.
    """

    def __init__(self, env: Environment, *, std: float) -> None:
        super().__init__(env, std=std)
        self._std = std
        self.observation_space = map_parts(self._space, env.observation_space)
        if self.observation_space == env.observation_space:
            raise ValueError("pomdp.noise: expected observations with numbers, a floating Box")

    def _space(self, key: str, space: Space[Any]) -> Space[Any]:
        if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
            return space
        return spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type)

    def _shown(self, observation: Any) -> Any:
        return map_parts(self._part, observation)

    def _part(self, key: str, part: Any) -> Any:
        array = np.asarray(part)
        if array.dtype.kind != "f":
            return copy.copy(part)
        return array + (self._std * self._random.standard_normal(array.shape)).astype(array.dtype)


class Delay(PartialObservation):
    """Shows each observation some steps late; until one arrives, the first one of the episode.

    Args:
        steps: the delay, or the longest one.
        is_random: the delay of each step is drawn from 0 to `steps`; what was shown is never
            replaced by something older.
    """

    def __init__(self, env: Environment, *, steps: int, is_random: bool) -> None:
        super().__init__(env, steps=steps, is_random=is_random)
        self._steps, self._is_random = steps, is_random

    def _begin(self) -> None:
        self._past: deque[Any] = deque(maxlen=self._steps + 1)
        self._age = 0  # of what was shown last

    def _shown(self, observation: Any) -> Any:
        self._past.append(copy.deepcopy(observation))
        delay = self._steps
        if self._is_random:
            delay = min(int(self._random.integers(self._steps + 1)), self._age + 1)
        self._age = min(delay, len(self._past) - 1)
        return copy.deepcopy(self._past[-1 - self._age])


class StickyActions(PartialObservation):
    """Repeats the environment's previous action with a probability: who acts does not know.

    Source: Machado et al. (2018), arXiv:1709.06009, section 4.

    Args:
        probability: that an action is replaced; never in the first step of an episode.
    """

    def __init__(self, env: Environment, *, probability: float) -> None:
        super().__init__(env, probability=probability)
        self._probability = probability

    def _begin(self) -> None:
        self._last: Any = None

    def step(self, action: Any) -> Step:
        """Steps with this action, or with the previous one."""
        is_stuck = self._random.random() < self._probability
        if self._last is None or not is_stuck:
            self._last = copy.deepcopy(action)
        return super().step(copy.deepcopy(self._last))

    def _shown(self, observation: Any) -> Any:
        return copy.deepcopy(observation)
