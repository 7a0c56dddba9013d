"""Base class of vector environments in this process and in worker processes.

Subclasses are in `envs.vector.sequential` and `envs.vector.workers`. Native vector environments,
which do not consist of single ones, are used as they are.
"""

import copy
import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.seeding import environment_seeds
from envs.vector.batch import (
    Array,
    ObservationBatch,
    Observations,
    array_kind,
    shown,
)
from envs.vector.slot import Description, Snapshot, in_one_line
from envs.vector.snapshot import Journal, decoded, encoded

OnFailure = Literal["stop", "restart"]
Stepped = tuple[Any, Any, Any, Any, dict[str, Any]]
Failures = dict[int, BaseException]
Episode = tuple[Snapshot, Array]  # and its actions

_MAX_FAILURES = 3
"""Consecutive failures of one environment, without a good step in between, that end the run."""

_log = logging.getLogger(__name__)


class EnvironmentFailure(RuntimeError):
    """An environment raised, died, hung or returned data that does not fit its spaces."""


@dataclasses.dataclass
class _History:
    """Seeds of one environment: the first one, the current one, and the number of new seeds."""

    first_seed: int = 0
    seed: int = 0
    new_seeds: int = 0
    restarts: int = 0


class SlotVectorEnv(VectorEnv[Any, Any, Any], ABC):
    """Steps environments together; resets each in the step after its end (`NEXT_STEP`).

    The next step overwrites observations (an array, or a dictionary of arrays for a Dict space):
    copy them to keep them.

    If an environment fails, the run ends with `EnvironmentFailure` (`on_failure='stop'`), or the
    environment is made again with a new seed (`'restart'`). The failed step then becomes the reset
    step of the next episode: reward 0, both flags False, the first observation.
    `infos["restarted"]` is the mask of restarted environments, present in such steps only.

    Attributes:
        has_raw_statistics: whether raw episode statistics are recorded below the user's wrappers.
    """

    def __init__(
        self, description: Description, num_envs: int, *, buffer: Any, on_failure: OnFailure
    ) -> None:
        """Places observations in a buffer of `observation_bytes`."""
        self.num_envs = num_envs
        self.metadata = {**description.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = description.render_mode
        # Copies, because sampling from them must not advance the environments' generators.
        self.single_observation_space, self.single_action_space = copy.deepcopy(description.spaces)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.has_raw_statistics = description.has_raw_statistics
        self._batch = ObservationBatch(self.single_observation_space, num_envs, buffer)
        action_shape, self._action_dtype = array_kind(self.single_action_space)
        self._action_shape = (num_envs, *action_shape)
        self._journal = Journal(num_envs, action_shape, self._action_dtype)
        self._nobody = np.zeros(num_envs, np.bool_)
        self._nobody.flags.writeable = False
        self._ended = self._nobody  # environments that reset in the next step
        self._is_begun = False
        self._is_restarting = on_failure == "restart"
        self._failing: dict[int, int] = {}  # failures since the last good step
        self._histories = [_History() for _ in range(num_envs)]

    @abstractmethod
    def _begin(self, seeds: Sequence[int | None], infos: dict[str, Any]) -> Failures:
        """Resets every environment."""

    @abstractmethod
    def _step_slots(
        self, actions: Array, rewards: Array, infos: dict[str, Any]
    ) -> tuple[Array, Array, Failures]:
        """Steps every environment; writes rewards, returns flags (or `_nobody`) and failures."""

    @abstractmethod
    def _remake(self, index: int, seed: int) -> BaseException | None:
        """Makes an environment again and resets it; returns the error, if any."""

    @abstractmethod
    def _snapshots(self) -> list[Snapshot | None]:
        """Returns every slot's snapshot; None for a lost worker, which its next step reports."""

    @abstractmethod
    def _can_replay(self) -> bool:
        """Whether replaying an episode restores these environments."""

    @abstractmethod
    def _replay(self, episodes: Mapping[int, Episode]) -> set[int]:
        """Replays episodes; returns the environments that were restored exactly."""

    @abstractmethod
    def raw_episodes(self, indices: Iterable[int]) -> dict[int, tuple[float, int]]:
        """Returns raw returns and lengths of unfinished episodes, recorded below the wrappers.

        A dead worker is left out; its next step reports it.
        """

    @property
    def restarts(self) -> int:
        """Number of restarts after failures."""
        return sum(history.restarts for history in self._histories)

    def current_observations(self) -> Observations:
        """Returns the buffers with the latest observations."""
        return self._batch.observations

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts an episode in every environment.

        Args:
            seed: one per environment; a single number means `seed`, `seed + 1`, ...; with None, an
                environment keeps its random generators (at first: unseeded).
            options: ignored.
        """
        if options:
            raise ValueError(f"reset: expected no options, got {options}")
        seeds = self._seeds_from(seed)
        self._is_begun = True
        self._journal.restart(slice(None))
        self._ended = self._nobody
        self._failing = {}
        infos: dict[str, Any] = {}
        failures = self._begin(seeds, infos)
        for index, cause in {**self._violations(), **failures}.items():
            self._restart(index, cause, "reset")
        return self._batch.observations, infos

    def _seeds_from(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if isinstance(seed, int):
            seed = range(seed, seed + self.num_envs)
        elif seed is None:
            drawn = np.random.SeedSequence().generate_state(self.num_envs) >> 1
            seed = [None] * self.num_envs if self._is_begun else drawn.tolist()
        if len(seed) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, got {len(seed)}")
        for index, each in enumerate(seed):
            if each is not None:
                restarts = self._histories[index].restarts
                self._histories[index] = _History(each, each, restarts=restarts)
        return seed

    def step(self, actions: Any) -> Stepped:
        """Steps every environment; where the episode has ended, resets it and ignores the action.

        Raises:
            EnvironmentFailure: names the environment, its seed, step and action.
        """
        own = np.array(actions)  # a copy, as environments may modify their actions
        if own.shape != self._action_shape or own.dtype != self._action_dtype:
            own = self._converted(own)
        self._journal.add(own)
        was_reset = self._ended
        if was_reset is not self._nobody:
            self._journal.restart(was_reset)
        rewards = np.zeros(self.num_envs)
        infos: dict[str, Any] = {}
        terminated, truncated, failures = self._step_slots(own, rewards, infos)
        if failures or self._failing or not self._batch.is_sound():
            self._mend(failures, own, (rewards, terminated, truncated), infos)
        nobody = self._nobody
        self._ended = nobody if terminated is truncated is nobody else terminated | truncated
        return self._batch.observations, rewards, terminated, truncated, infos

    def _converted(self, actions: Array) -> Array:
        dtype = self._action_dtype
        if actions.shape == self._action_shape and np.can_cast(actions.dtype, dtype, "same_kind"):
            return actions.astype(dtype)
        raise ValueError(
            f"expected actions of dtype {dtype} and shape {self._action_shape}, "
            f"got {actions.dtype} and {actions.shape}"
        )

    def _mend(
        self,
        failures: Failures,
        actions: Array,
        outcomes: tuple[Array, Array, Array],
        infos: dict[str, Any],
    ) -> None:
        """Handles failures of a step and removes the step's outcomes."""
        failures = {**self._violations(), **failures}
        was_reset = self._ended
        for index in set(self._failing) - failures.keys():
            if not was_reset[index]:
                del self._failing[index]
        for index, cause in sorted(failures.items()):
            action = shown(actions[index].tolist())
            doing = "reset" if was_reset[index] else f"step with action {action}"
            self._restart(index, cause, doing)
            for outcome in outcomes:
                if outcome is not self._nobody:
                    outcome[index] = 0
            _withdraw(infos, index)
        if failures:
            infos["restarted"] = np.zeros(self.num_envs, np.bool_)
            infos["restarted"][list(failures)] = True

    def _violations(self) -> Failures:
        if self._batch.is_sound():
            return {}
        return {index: ValueError(text) for index, text in self._batch.violations().items()}

    def _restart(self, index: int, cause: BaseException | None, doing: str) -> None:
        """Restarts an environment until that succeeds, or raises."""
        history = self._histories[index]
        while cause is not None:
            where = f"seed {history.seed}"
            if doing != "reset":
                where += f", step {self._journal.episode_steps(index)} of its episode"
            message = f"environment {index} ({where}) failed in {doing}: {in_one_line(cause)}"
            count = self._failing[index] = self._failing.get(index, 0) + 1
            if not self._is_restarting:
                raise EnvironmentFailure(message) from cause
            if count >= _MAX_FAILURES:
                raise EnvironmentFailure(f"{message}; {count} failures in a row") from cause
            _log.warning("%s; it starts anew", message)
            history.restarts += 1
            cause = self._begin_anew(index)
            doing = "reset"

    def _begin_anew(self, index: int) -> BaseException | None:
        """Makes an environment again with a new seed; returns the error, if any."""
        history = self._histories[index]
        history.new_seeds += 1
        (history.seed,) = environment_seeds(
            history.first_seed, 1, "restart", index=history.new_seeds
        )
        self._journal.restart(index)
        return self._remake(index, history.seed) or self._violations().get(index)

    def snapshot(self) -> list[dict[str, Any]]:
        """Returns JSON values for each environment, from which its episode can be replayed.

        A dead worker is reported by the next step.
        """
        return [
            {
                **dataclasses.asdict(self._histories[index]),
                "failing": self._failing.get(index, 0),
                "episode_steps": self._journal.episode_steps(index),
                "actions": slot and encoded(self._journal.latest(index, slot["steps"])),
                "slot": slot,
            }
            for index, slot in enumerate(self._snapshots())
        ]

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Restores every environment by replaying its episode.

        Returns:
            Whether each was restored exactly. The others start a new episode, with a seed that
            depends only on the snapshot.
        """
        if len(snapshots) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} snapshots, got {len(snapshots)}")
        names = [field.name for field in dataclasses.fields(_History)]
        self._histories = [_History(**{name: s[name] for name in names}) for s in snapshots]
        episodes: dict[int, Episode] = {
            index: (snapshot["slot"], decoded(snapshot["actions"]))
            for index, snapshot in enumerate(snapshots)
            if snapshot["actions"] is not None
        }
        exact = self._replay(episodes) if episodes and self._can_replay() else set()
        self._journal.replace(
            {index: episodes[index][1] for index in exact}, [s["episode_steps"] for s in snapshots]
        )
        ended = [i in exact and s["slot"]["is_over"] for i, s in enumerate(snapshots)]
        self._ended = np.array(ended)
        self._failing = {index: snapshots[index]["failing"] for index in exact}
        self._failing = {index: count for index, count in self._failing.items() if count}
        self._is_begun = True
        for index in set(range(self.num_envs)) - exact:
            self._restart(index, self._begin_anew(index), "reset")
        return [index in exact for index in range(self.num_envs)]

    def _add(self, infos: dict[str, Any], info: Any, index: int) -> None:
        """Adds one environment's info to the infos, as far as possible."""
        if not isinstance(info, dict):
            return
        if "restarted" in info:  # reserved key
            info = {key: value for key, value in info.items() if key != "restarted"}
        try:
            self._add_info(infos, info, index)
        except Exception:  # type or shape differs from that of another environment
            for key, value in info.items():
                try:
                    self._add_info(infos, {key: value}, index)
                except Exception:
                    _log.debug("environment %d: left out its info %r", index, key)


def _withdraw(infos: dict[str, Any], index: int) -> None:
    """Marks all infos of one environment as missing."""
    for key, value in infos.items():
        if isinstance(value, dict):
            _withdraw(value, index)
        elif str(key).startswith("_"):
            value[index] = False


Started = tuple[Any, dict[str, Any]]  # observations and infos


def reset_with_seeds(environments: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> Started:
    """Resets every environment with its seed.

    Spaces are seeded too, as environments and wrappers may sample from them. A native vector
    environment has one random generator and takes the first seed, unless it has `takes_seeds`.
    """
    unwrapped = environments.unwrapped
    environments.action_space.seed(seeds[0])
    if isinstance(unwrapped, SyncVectorEnv):  # not from this project
        for environment, seed in zip(unwrapped.envs, seeds, strict=True):
            environment.action_space.seed(seed)
    takes_seeds = getattr(unwrapped, "takes_seeds", False)
    if takes_seeds or isinstance(unwrapped, SlotVectorEnv | SyncVectorEnv):
        reset_all: Any = environments.reset  # typed for one seed, but takes one per environment
        return cast("Started", reset_all(seed=list(seeds)))
    return environments.reset(seed=seeds[0])
