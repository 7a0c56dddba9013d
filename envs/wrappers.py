"""Wrappers that add to what an agent observes or a run records.

Those that hide something are in `envs.pomdp`. Each returns new arrays and dictionaries at every
call, whatever the environment below it does.
"""

import time
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics

from envs.spaces import check_spaces

Environment = gymnasium.Env[Any, Any]


class FrameStack(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Shows the last `size` observations as `[size, F]`, oldest first.

    An episode's first observation fills the stack. Unlike Gymnasium's `FrameStackObservation` this
    copies every frame, so that an environment which reuses one array for all its observations is
    stacked correctly too.
    """

    def __init__(self, env: Environment, *, size: int) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(
                f"env.frame_stack={size}: only vectors can be stacked, not {space}; "
                "set env.frame_stack=1"
            )
        self.observation_space = spaces.Box(
            np.repeat(space.low[None], size, axis=0),
            np.repeat(space.high[None], size, axis=0),
            dtype=space.dtype.type,
        )
        self._frames = np.zeros(self.observation_space.shape, space.dtype)  # [size, F]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Fills the stack with the first observation: nothing of the last episode remains."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._frames[:] = observation
        return self._frames.copy(), info

    def step(
        self, action: Any
    ) -> tuple[npt.NDArray[Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """Drops the oldest frame and appends the newest."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._frames[:-1] = self._frames[1:]
        self._frames[-1] = observation
        return self._frames.copy(), reward, terminated, truncated, info


class PreviousInputs(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Appends the previous action and reward, for agents that must infer their task.

    The observation becomes one vector `[observation, action, reward]` of float32: Discrete parts
    are one-hot, Box actions are what this environment received. An episode opens with zeros in both
    places.

    Source: Duan et al. (2016), RL^2, arXiv:1611.02779, section 2.2.
    """

    def __init__(self, env: Environment, *, action: bool, reward: bool) -> None:
        RecordConstructorArgs.__init__(self, action=action, reward=reward)
        super().__init__(env)
        check_spaces(env.observation_space, env.action_space)
        parts = [_flat_bounds(env.observation_space)]
        if action:
            low, high = _flat_bounds(env.action_space)
            parts.append((np.minimum(low, 0.0), np.maximum(high, 0.0)))  # zeros must fit
        if reward:
            parts.append((np.full(1, -np.inf, np.float32), np.full(1, np.inf, np.float32)))
        low, high = (np.concatenate(bounds) for bounds in zip(*parts, strict=True))
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self._adds_action, self._adds_reward = action, reward
        self._size = low.size
        self._observation_size = parts[0][0].size

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Opens an episode, which has no previous action or reward: zeros."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._joined(observation), info

    def step(
        self, action: Any
    ) -> tuple[npt.NDArray[np.float32], SupportsFloat, bool, bool, dict[str, Any]]:
        """Steps, then shows what was done and what it brought."""
        # Encoded first: an environment may change the action's array in place.
        encoded = _flat(self.env.action_space, action) if self._adds_action else None
        observation, reward, terminated, truncated, info = self.env.step(action)
        joined = self._joined(observation)
        if encoded is not None:
            joined[self._observation_size : self._observation_size + encoded.size] = encoded
        if self._adds_reward:
            joined[-1] = reward
        return joined, reward, terminated, truncated, info

    def _joined(self, observation: Any) -> npt.NDArray[np.float32]:
        joined = np.zeros(self._size, np.float32)
        joined[: self._observation_size] = _flat(self.env.observation_space, observation)
        return joined


def _flat(space: gymnasium.Space[Any], value: Any) -> npt.NDArray[Any]:
    return np.asarray(flatten(space, value))


def _flat_bounds(
    space: gymnasium.Space[Any],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    flat = flatten_space(space)
    assert isinstance(flat, spaces.Box)  # true of every space that check_spaces admits
    with np.errstate(over="ignore"):  # float64 bounds beyond float32 become infinite
        return flat.low.astype(np.float32), flat.high.astype(np.float32)


class RawEpisodeStatistics(RecordEpisodeStatistics[Any, Any]):
    """Reports an episode as the environment gave it: `info["episode"]` has `r`, `l` steps, `t` s.

    Put below the wrappers that change rewards. When one of them ends an episode early, Gymnasium's
    own wrapper never reports it; this one does so in the `info` of the reset that follows.
    """

    _is_unreported = False

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Steps and, at an episode's end, reports it."""
        observation, reward, terminated, truncated, info = super().step(action)
        self._is_unreported = not (terminated or truncated)
        return observation, reward, terminated, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reports the episode that a wrapper above cut, unless a new seed abandoned it."""
        elapsed = round(time.perf_counter() - self.episode_start_time, 6)
        cut = {"r": self.episode_returns, "l": self.episode_lengths, "t": elapsed}
        observation, info = super().reset(seed=seed, options=options)
        if self._is_unreported and seed is None:
            info = {**info, "episode": cut}
        self._is_unreported = False
        return observation, info


def has_raw_statistics(environment: Environment) -> bool:
    """Tells whether an environment reports episodes counted below the user's wrappers."""
    layer: Any = environment
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, RawEpisodeStatistics):
            return True
        layer = layer.env
    return False


def counts_raw_returns(environments: VectorEnv[Any, Any, Any]) -> bool:
    """Tells whether the environments report episodes counted below the user's wrappers."""
    return bool(getattr(environments.unwrapped, "has_raw_statistics", False))
