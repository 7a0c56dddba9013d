"""Base of the memory tasks: many episodes at once on arrays, and one of them as an environment.

A task is written once, for `B` episodes. Its native vector environment is the task itself; its
single environment is the task with one episode.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.interface import Array, Info, Opening
from envs.vector.snapshot import decoded, encoded
from envs.wrappers.privileged import Shares


@dataclass(frozen=True)
class Optima:
    """Mean returns of the best agents by what they know; None where no closed form is known.

    Attributes:
        full: the agent sees the hidden variables.
        memory: it sees observations and remembers all of them.
        memoryless: it sees the newest observation alone, and may act at random.
        discount: of the returns.
    """

    full: float
    memory: float | None
    memoryless: float | None
    discount: float = 1.0


class VectorTask(VectorEnv[Any, Any, Any], ABC):
    """Steps `B` episodes together; resets each in the step after its end (`NEXT_STEP`).

    A subclass keeps its state in arrays `[B, ...]`, from which `_observe` follows: these arrays
    and the generator are what a resumed run restores.

    Attributes:
        optima: mean returns of the best agents.
        limit: steps after which an episode is truncated; None for never.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (as Gymnasium has it)
    optima: Optima
    limit: int | None = None

    def __init__(
        self, num_envs: int, shown: Space[Any], num_actions: int, *, hidden: Space[Any]
    ) -> None:
        """Sets the spaces of a single environment.

        Args:
            shown: space of an observation.
            hidden: space of what an observation does not show.
        """
        self.num_envs = num_envs
        self.single_observation_space = shown
        self.single_action_space = spaces.Discrete(num_actions)
        self.observation_space = batch_space(shown, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.full_observation_space = spaces.Dict({"observation": shown, "hidden": hidden})
        self._rows = np.arange(num_envs)
        self._ages = np.zeros(num_envs, np.int64)  # steps since the reset
        self._ended = np.zeros(num_envs, np.bool_)
        self._shares: Shares | None = None

    def show_twin(self) -> None:
        """From now on, shows a critic the hidden variables too (`envs.wrappers.privileged`)."""
        seen, full = self.single_observation_space, self.full_observation_space
        self._shares = Shares(actor=seen, critic=full)
        self.single_observation_space = self._shares.space
        self.observation_space = batch_space(self._shares.space, self.num_envs)

    @abstractmethod
    def _begin(self, which: Array) -> None:
        """Draws the hidden variables of new episodes in the environments `which [N]`."""

    @abstractmethod
    def _advance(self, actions: Array) -> tuple[Array, Array]:
        """Returns rewards `[B]` and the mask `[B]` of ends; `_ages` counts this step already."""

    @abstractmethod
    def _observe(self) -> Array:
        """Returns the current observations `[B, *O]` as a new array."""

    @abstractmethod
    def _hidden(self) -> Array:
        """Returns what observations do not show, `[B, *H]`."""

    def full_observation(self) -> dict[str, Array]:
        """Returns the current observations and the hidden variables, for privileged readers."""
        return {"observation": self._observe(), "hidden": self._hidden()}

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts every episode; options are ignored."""
        super().reset(seed=seed)
        self._restart(self._rows)
        return self.current_observations(), {}

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Steps every episode or, where it has ended, starts the next one."""
        was_reset = np.flatnonzero(self._ended)
        self._ages += 1
        rewards, terminated = self._advance(np.asarray(actions))
        truncated = np.zeros(self.num_envs, np.bool_)
        if self.limit is not None:
            truncated = (self._ages >= self.limit) & ~terminated
        if len(was_reset):
            rewards[was_reset] = 0.0
            terminated[was_reset] = truncated[was_reset] = False
        self._ended = terminated | truncated
        if len(was_reset):
            self._restart(was_reset)
        return self.current_observations(), rewards, terminated, truncated, {}

    def _restart(self, which: Array) -> None:
        self._ages[which] = 0
        self._ended[which] = False
        self._begin(which)

    def current_observations(self) -> Any:
        """Returns the latest observations."""
        seen = self._observe()
        if self._shares is None:
            return seen
        return self._shares(actor=seen, critic=self.full_observation())

    def snapshot(self) -> dict[str, Any]:
        """Returns the whole state as JSON values."""
        owned = vars(self).items()
        arrays = {name: encoded(each) for name, each in owned if isinstance(each, np.ndarray)}
        return {"random": self.np_random.bit_generator.state, "arrays": arrays}

    def restore(self, snapshot: Mapping[str, Any]) -> list[bool]:
        """Restores a snapshot; returns that every environment is restored exactly."""
        self.np_random.bit_generator.state = snapshot["random"]
        vars(self).update({name: decoded(each) for name, each in snapshot["arrays"].items()})
        return [True] * self.num_envs


class SingleTask(gymnasium.Env[Any, Any]):
    """One episode of a task at a time; Gymnasium's wrapper limits its steps."""

    def __init__(self, *, task: str, **kwargs: Any) -> None:
        self._task = made = make_vector(1, task=task, **kwargs)
        self.optima = made.optima
        self.observation_space = made.single_observation_space
        self.action_space = made.single_action_space
        self.full_observation_space = made.full_observation_space

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts an episode; options are ignored."""
        super().reset(seed=seed)
        self._task.np_random = self.np_random
        return self._task.reset()[0][0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Steps the episode."""
        observations, rewards, terminated, truncated, _ = self._task.step(np.array([action]))
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def full_observation(self) -> dict[str, Any]:
        """Returns the current observation and the hidden variables, for privileged readers."""
        return {name: part[0] for name, part in self._task.full_observation().items()}


def make_vector(
    num_envs: int, *, task: str, max_episode_steps: int | None = None, **kwargs: Any
) -> VectorTask:
    """Makes the native vector environment of `task`, a class as `module:Name`."""
    module, _, name = task.partition(":")
    made: VectorTask = getattr(importlib.import_module(module), name)(num_envs, **kwargs)
    made.limit = max_episode_steps
    return made


def check_sizes(least: int, **sizes: int) -> None:
    """Refuses a task's sizes that are too small."""
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"{name}={size}: expected at least {least}")
