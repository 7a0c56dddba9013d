"""Counts returns and lengths of episodes, from raw rewards and valid steps."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from envs.wrappers.adapters import counts_raw_returns
from networks.mirror import Array


class InvalidExperience(RuntimeError):
    """An environment sent a number that must not reach a network or a score."""


class Abandoned(Exception):
    """Playing was asked to stop in the middle; what was played since it began is lost."""


class Episode(NamedTuple):
    """A finished episode: which environment, its undiscounted raw return and its steps."""

    environment: int
    episode_return: float
    length: int


def _episodes(environments: Array, returns: Array, lengths: Array) -> list[Episode]:
    return [Episode(int(i), float(returns[i]), int(lengths[i])) for i in environments]


class EpisodeCounter:
    """Adds up each environment's rewards until its episode ends."""

    def __init__(self, environments: VectorEnv[Any, Any, Any]) -> None:
        """Start with nothing counted."""
        self._returns = np.zeros(environments.num_envs, np.float64)
        self._steps = 0  # of each environment, those that only reset among them
        self._begins = np.zeros(environments.num_envs, np.int64)  # `_steps` before each episode
        unwrapped: Any = environments.unwrapped
        self._beneath = unwrapped if counts_raw_returns(environments) else None

    def add(self, rewards: Array, ended: Array, infos: dict[str, Any]) -> Sequence[Episode]:
        """Take one step of every environment; return the episodes that it finished.

        The step after an episode's end only resets: it belongs to none, and its reward is 0.
        """
        self._returns += rewards
        self._steps += 1
        episodes: Sequence[Episode] = ()
        if self._beneath is not None and "episode" in infos:
            # The user's wrappers may change rewards: what was counted below them stands, and is
            # told one step late where a wrapper cut the episode.
            told = infos["episode"]
            episodes = _episodes(np.flatnonzero(infos["_episode"]), told["r"], told["l"])
        if np.count_nonzero(ended):  # in a tenth of the time that any() takes
            if self._beneath is None:
                episodes = _episodes(np.flatnonzero(ended), self._returns, self.lengths)
            self._returns[ended] = 0.0
            self._begins[ended] = self._steps + 1
        return episodes

    def forget(self, chosen: Array) -> None:
        """Drop the episodes under way where `chosen [B]` is True: nobody will see their end."""
        self._returns[chosen] = 0.0
        self._begins[chosen] = self._steps

    def state_dict(self) -> dict[str, list[float]]:
        """Return the returns and lengths under way; -1 before a step that only resets."""
        return {"returns": self._returns.tolist(), "lengths": self.lengths.tolist()}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on counting from what was saved."""
        self._returns[:] = state["returns"]
        self._begins = self._steps - np.array(state["lengths"], np.int64)

    @property
    def lengths(self) -> Array:
        """Steps `[B]` of the episodes under way, as the agent sees them."""
        return self._steps - self._begins

    def under_way(self, environments: Array) -> list[Episode]:
        """Return the episodes of some environments so far, as raw as finished ones are."""
        if self._beneath is None:
            return _episodes(environments, self._returns, self.lengths)
        counted = self._beneath.raw_episodes(environments.tolist())
        return [Episode(index, *episode) for index, episode in counted.items()]


class EpisodeHistory:
    """The latest episodes: sums of all since the last report, and a window for averages."""

    def __init__(self, window: int) -> None:
        """Average over the last `window` episodes."""
        self._window: deque[Episode] = deque(maxlen=window)
        self._forget()

    def _forget(self) -> None:
        self._count, self._return_sum, self._length_sum = 0, 0.0, 0

    def extend(self, episodes: Sequence[Episode]) -> None:
        """Remember finished episodes."""
        self._window.extend(episodes)
        for episode in episodes:
            self._count += 1
            self._return_sum += episode.episode_return
            self._length_sum += episode.length

    @property
    def return_mean(self) -> float | None:
        """Mean return over the window; None before the first episode ends."""
        if not self._window:
            return None
        return float(np.mean([episode.episode_return for episode in self._window]))

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        return {
            "window": [list(episode) for episode in self._window],
            "sums": [self._count, self._return_sum, self._length_sum],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was saved."""
        self._window.clear()
        self._window.extend(Episode(*episode) for episode in state["window"])
        self._count, self._return_sum, self._length_sum = state["sums"]

    def report(self) -> dict[str, float]:
        """Mean return and length since the last report, by TensorBoard tag; {} without episodes."""
        if not self._count:
            return {}
        means = {
            "episode/return": self._return_sum / self._count,
            "episode/length": self._length_sum / self._count,
        }
        self._forget()
        return means
