"""Wrappers that convert or extend observations, actions and rewards, or record statistics.

Wrappers that hide something are in `envs.wrappers.pomdp`. All return new arrays and dictionaries at
every call.
"""

import copy
import time
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import RecordEpisodeStatistics, TransformAction, TransformReward

from envs.interface import Environment, Info, Opening, Step
from envs.spaces import (
    check_spaces,
    flat_space,
    flatten_observation,
    is_grid,
    is_intensity,
    is_nested,
    parts_of,
)

_OBSERVATION = "observation"
"""Name of the environment's observation as a part beside previous inputs."""


class FlatObservation(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Flattens a nested Dict or Tuple observation to one Dict.

    The names of its parts are paths: `goal/position`, and `0`, `1`, ... for the items of a Tuple.
    """

    def __init__(self, env: Environment) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space = flat_space(env.observation_space)
        self._names = tuple(self.observation_space.spaces)

    def observation(self, observation: Any) -> dict[str, Any]:
        """Returns the flattened observation, with copies of its parts."""
        parts = flatten_observation(observation, self._names)
        return {name: copy.copy(part) for name, part in parts.items()}


def adapted(env: Environment) -> Environment:
    """Adapts an environment's spaces to those that agents support, if necessary.

    Raises:
        ValueError: names of observation parts cannot be used.
    """
    if isinstance(env.observation_space, spaces.Dict | spaces.Tuple):
        try:
            flat_space(env.observation_space)
        except ValueError as error:
            raise ValueError(f"env: {error}") from error
    if is_nested(env.observation_space):
        env = FlatObservation(env)
    arrays = spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary
    if isinstance(env.action_space, arrays) and env.action_space.shape == ():
        # An element of a batch is a number, which such a space refuses or warns of.
        env = TransformAction(env, np.asarray, None)
    return env


class ScaleReward(TransformReward[Any, Any]):
    """Multiplies rewards by a factor; reported episode returns stay raw.

    Args:
        factor: greater than 0.
    """

    def __init__(self, env: Environment, *, factor: float) -> None:
        RecordConstructorArgs.__init__(self, factor=factor)  # the first one counts
        super().__init__(env, lambda reward: float(reward) * factor)


class PreviousInputs(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds the previous action and reward to observations, for agents that must infer their task.

    They are float32 vectors: identifiers one-hot, Box actions as this environment received them.
    Both are zeros at the start of an episode. A Dict observation gets the parts `previous_action`
    and `previous_reward`. An image, a grid or intensities become the part `observation` of such a
    Dict. Any other observation becomes one vector `[observation, action, reward]`.

    Source: Duan et al. (2016), RL^2, arXiv:1611.02779, section 2.2.
    """

    def __init__(self, env: Environment, *, action: bool, reward: bool) -> None:
        RecordConstructorArgs.__init__(self, action=action, reward=reward)
        super().__init__(env)
        space = env.observation_space
        check_spaces(space, env.action_space)
        self._added: dict[str, spaces.Box] = {}
        if action:
            low, high = _flat_bounds(env.action_space)
            low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)  # must include zero
            self._added["previous_action"] = spaces.Box(low, high, dtype=np.float32)
        if reward:
            self._added["previous_reward"] = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self._is_part = _loses_meaning_in_a_vector(space)
        parts = {name or _OBSERVATION: part for name, part in parts_of(space).items()}
        for name in self._added.keys() & parts.keys():
            raise ValueError(
                f"env.{name}: the observation has a part of that name already; set env.{name}=false"
            )
        joined = spaces.Dict([*parts.items(), *self._added.items()])
        self.observation_space = joined
        self._is_vector = not (isinstance(space, spaces.Dict) or self._is_part)
        if self._is_vector:
            self.observation_space = spaces.Box(*_flat_bounds(joined), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts an episode, with zeros as previous action and reward."""
        observation, info = self.env.reset(seed=seed, options=options)
        zeros = {name: np.zeros(box.shape, np.float32) for name, box in self._added.items()}
        return self._joined(observation, zeros), info

    def step(self, action: Any) -> Step:
        """Steps, and adds the action and the reward."""
        added = {}
        if "previous_action" in self._added:
            # Encoded first, because an environment may modify the action in place.
            added["previous_action"] = _flat(self.env.action_space, action).astype(np.float32)
        observation, reward, terminated, truncated, info = self.env.step(action)
        if "previous_reward" in self._added:
            added["previous_reward"] = np.array([reward], np.float32)
        return self._joined(observation, added), reward, terminated, truncated, info

    def _joined(self, observation: Any, added: dict[str, npt.NDArray[np.float32]]) -> Any:
        if self._is_vector:
            flat = _flat(self.env.observation_space, observation)
            return np.concatenate([flat, *added.values()], dtype=np.float32, casting="unsafe")
        parts = {_OBSERVATION: observation} if self._is_part else observation
        return {name: copy.copy(part) for name, part in parts.items()} | added


def _loses_meaning_in_a_vector(space: gymnasium.Space[Any]) -> bool:
    """Whether an observation is an image, a grid or intensities, not just a row of numbers."""
    is_array = isinstance(space, spaces.Box | spaces.MultiBinary)
    is_image = is_array and len(space.shape or ()) > 2
    return is_image or is_grid(space) or is_intensity(space)


def _flat(space: gymnasium.Space[Any], value: Any) -> npt.NDArray[Any]:
    return np.asarray(flatten(space, value))


def _flat_bounds(
    space: gymnasium.Space[Any],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    flat = flatten_space(space)
    assert isinstance(flat, spaces.Box)  # true for all spaces that check_spaces accepts
    with np.errstate(over="ignore"):  # float64 bounds beyond float32 become infinite
        return flat.low.astype(np.float32), flat.high.astype(np.float32)


RAW_EPISODE = "raw_episode"
"""Key of an `info`; `episode` may be the environment's own."""


class RawEpisodeStatistics(RecordEpisodeStatistics[Any, Any]):
    """Reports raw episode statistics: `info["raw_episode"]` has return `r`, steps `l`, seconds `t`.

    It is placed below wrappers that change rewards. If one of them ends an episode early,
    Gymnasium's wrapper never reports it; this one does, in the `info` of the next reset.
    """

    _is_unreported = False

    def __init__(self, env: Environment) -> None:
        RecordConstructorArgs.__init__(self)  # the first one counts
        super().__init__(env, stats_key=RAW_EPISODE)

    def step(self, action: Any) -> Step:
        """Steps and reports the episode at its end."""
        observation, reward, terminated, truncated, info = super().step(action)
        self._is_unreported = not (terminated or truncated)
        return observation, reward, terminated, truncated, info

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Reports an episode that an outer wrapper ended, or that was abandoned."""
        elapsed = round(time.perf_counter() - self.episode_start_time, 6)
        cut = {"r": self.episode_returns, "l": self.episode_lengths, "t": elapsed}
        observation, info = super().reset(seed=seed, options=options)
        if self._is_unreported:
            info = {**info, RAW_EPISODE: cut}
        self._is_unreported = False
        return observation, info
