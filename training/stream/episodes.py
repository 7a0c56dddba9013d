"""Counts returns and lengths of episodes, from raw rewards and valid steps."""

from collections import deque
from collections.abc import Mapping, Sequence
from numbers import Real
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from envs.interface import Environments
from envs.wrappers.adapters import RAW_EPISODE
from networks.mirror import Array

State = Mapping[str, Any]
"""What `state_dict` returned, after a way through JSON."""


class InvalidExperience(RuntimeError):
    """An environment sent a value that is not finite."""


class Abandoned(Exception):
    """Playing was asked to stop in the middle; the steps since its start are lost."""


class Episode(NamedTuple):
    """A finished episode: its environment, undiscounted raw return and number of steps.

    Attributes:
        info: numbers of the last step's `info`, by key.
    """

    environment: int
    episode_return: float
    length: int
    info: Mapping[str, float] = MappingProxyType({})


def measures(episode: Episode) -> dict[str, float]:
    """Return what is averaged over episodes, by the last part of its TensorBoard tag."""
    told = {"success_rate" if key == "is_success" else key: v for key, v in episode.info.items()}
    return {**told, "return": episode.episode_return, "length": episode.length}


def shown_return(value: float) -> str:
    """Write a return with two decimals, or with three significant digits where those say more."""
    return f"{value:.2f}" if value == 0 or 0.1 <= abs(value) < 1e6 else f"{value:.3g}"


def _episodes(environments: Array, returns: Array, lengths: Array) -> list[Episode]:
    return [Episode(int(i), float(returns[i]), int(lengths[i])) for i in environments]


def _numbers(infos: Mapping[str, Any], keys: Sequence[str], index: int) -> dict[str, float]:
    """Read the numbers that one environment told in this step."""
    found = {}
    for key in keys:
        mask = infos.get(f"_{key}")  # native environments may have none
        if key in infos and (mask is None or mask[index]):
            told = infos[key]
            value = told[index] if isinstance(told, np.ndarray) and told.ndim == 1 else None
            if isinstance(value, Real | np.bool_):
                found[key] = float(value)
    return found


class EpisodeCounter:
    """Adds up each environment's rewards until its episode ends.

    Attributes:
        info_keys: numbers of `info` that a finished episode keeps from its last step.
    """

    def __init__(self, environments: Environments) -> None:
        self._returns = np.zeros(environments.num_envs, np.float64)
        self.info_keys: Sequence[str] = ()
        self._told: dict[int, dict[str, float]] = {}  # of ended episodes that are still to come
        self._steps = 0  # of each environment, reset steps included
        self._begins = np.zeros(environments.num_envs, np.int64)  # `_steps` before each episode
        unwrapped: Any = environments.unwrapped
        # Statistics of raw rewards, which the environments record below the user's wrappers.
        self._beneath = unwrapped if getattr(unwrapped, "has_raw_statistics", False) else None

    def add(self, rewards: Array, ended: Array, infos: dict[str, Any]) -> Sequence[Episode]:
        """Add one step of every environment; return the finished episodes.

        The step after an episode's end only resets: it belongs to no episode, and its reward is 0.
        """
        self._returns += rewards
        self._steps += 1
        episodes: Sequence[Episode] = ()
        if self._beneath is not None and RAW_EPISODE in infos:
            # The user's wrappers may change rewards: the count below them is right. It arrives
            # one step late if a wrapper truncated the episode.
            told = infos[RAW_EPISODE]
            episodes = _episodes(np.flatnonzero(infos[f"_{RAW_EPISODE}"]), told["r"], told["l"])
        if np.count_nonzero(ended):  # ten times faster than any()
            if self._beneath is None:
                episodes = _episodes(np.flatnonzero(ended), self._returns, self.lengths)
            self._returns[ended] = 0.0
            self._begins[ended] = self._steps + 1
            for index in np.flatnonzero(ended).tolist():
                self._told[index] = _numbers(infos, self.info_keys, index)
        return [e._replace(info=self._told.pop(e.environment, {})) for e in episodes]

    def forget(self, chosen: Array) -> None:
        """Drop the running episodes where `chosen [B]` is True: their end will not be seen."""
        self._returns[chosen] = 0.0
        self._begins[chosen] = self._steps

    def state_dict(self) -> dict[str, list[Any]]:
        """Return the returns and lengths of running episodes; length -1 before a reset step."""
        told = list(self._told.items())
        return {"returns": self._returns.tolist(), "lengths": self.lengths.tolist(), "told": told}

    def load_state_dict(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Resume counting from a saved state."""
        self._told = dict(state["told"])
        self._returns[:] = state["returns"]
        self._begins = self._steps - np.array(state["lengths"], np.int64)

    @property
    def lengths(self) -> Array:
        """Steps `[B]` of the running episodes, as the agent sees them."""
        return self._steps - self._begins

    def under_way(self, environments: Array) -> list[Episode]:
        """Return some environments' running episodes, with raw returns like finished ones."""
        if self._beneath is None:
            return _episodes(environments, self._returns, self.lengths)
        counted = self._beneath.raw_episodes(environments.tolist())
        return [Episode(index, *episode) for index, episode in counted.items()]


class EpisodeHistory:
    """The latest episodes: sums since the last report, and a window for averages."""

    def __init__(self, window: int) -> None:
        """Average over the last `window` episodes."""
        self._window: deque[float] = deque(maxlen=window)
        self._sums: dict[str, tuple[int, float]] = {}  # count and sum by tag

    def extend(self, episodes: Sequence[Episode]) -> None:
        """Add finished episodes."""
        for episode in episodes:
            self._window.append(episode.episode_return)
            for name, value in measures(episode).items():
                count, total = self._sums.get(f"episode/{name}", (0, 0.0))
                self._sums[f"episode/{name}"] = count + 1, total + value

    @property
    def return_mean(self) -> float | None:
        """Mean return over the window; None before the first episode ends."""
        return float(np.mean(self._window)) if self._window else None

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        return {"window": list(self._window), "sums": self._sums}

    def load_state_dict(self, state: State) -> None:
        """Resume from a saved state."""
        self._window.clear()
        self._window.extend(state["window"])
        self._sums = {tag: (count, total) for tag, (count, total) in state["sums"].items()}

    def report(self) -> dict[str, float]:
        """Means since the last report, by TensorBoard tag; {} without episodes."""
        means = {tag: total / count for tag, (count, total) in self._sums.items()}
        self._sums = {}
        return means
