"""Environments that step together: what is the same in this process and in worker processes.

`envs.vector.sequential` and `envs.vector.workers` have the difference. Vector environments that are
not made of single ones (Gymnasium's native forms) are used as they are.
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
"""Failures of one environment in a row, without a good step in between, that end the run."""

_log = logging.getLogger(__name__)


class EnvironmentFailure(RuntimeError):
    """An environment raised, died, hung or sent what does not fit its spaces."""


@dataclasses.dataclass
class _History:
    """The seeds of one environment: the first, the present, and how many it had in between."""

    first_seed: int = 0
    seed: int = 0
    new_seeds: int = 0
    restarts: int = 0


class SlotVectorEnv(VectorEnv[Any, Any, Any], ABC):
    """Steps environments together; resets each in the step after its end (`NEXT_STEP`).

    Observations are buffers (an array, or a dictionary of arrays for a Dict space) that the next
    step overwrites: copy what you keep.

    An environment that fails ends the run with `EnvironmentFailure` (`on_failure='stop'`), or is
    made anew with a seed that it never had (`'restart'`). The step that failed is then the reset
    step of its next episode: reward 0, both flags False, the first observation;
    `infos["restarted"]` is the mask of such environments, and is there in no other step.

    Attributes:
        has_raw_statistics: whether episodes are counted below the user's wrappers.
    """

    def __init__(
        self, description: Description, num_envs: int, *, buffer: Any, on_failure: OnFailure
    ) -> None:
        """Lays the observations into a buffer, of `observation_bytes`."""
        self.num_envs = num_envs
        self.metadata = {**description.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = description.render_mode
        # Copies: who samples from them must not touch the environments' own generators.
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
        self._ended = self._nobody  # those that reset in the next step
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
        """Makes an environment anew and resets it; returns what went wrong."""

    @abstractmethod
    def _snapshots(self) -> list[Snapshot | None]:
        """Asks every slot for its snapshot; None of a lost one, as its next step will tell."""

    @abstractmethod
    def _can_replay(self) -> bool:
        """Tells whether playing an episode again restores environments of this kind."""

    @abstractmethod
    def _replay(self, episodes: Mapping[int, Episode]) -> set[int]:
        """Plays episodes again; returns where they came out as they were."""

    @abstractmethod
    def raw_episodes(self, indices: Iterable[int]) -> dict[int, tuple[float, int]]:
        """Returns raw returns and lengths so far, of environments counted below the wrappers.

        A worker that is found dead is left out, as its next step will tell.
        """

    @property
    def restarts(self) -> int:
        """How often environments were made anew because they failed."""
        return sum(history.restarts for history in self._histories)

    def current_observations(self) -> Observations:
        """Returns the buffers: what the environments showed last."""
        return self._batch.observations

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts an episode everywhere.

        Args:
            seed: one for each; a single number stands for `seed`, `seed + 1`, ...; where it is
                None, an environment goes on with the random numbers it has (at first: with any).
            options: there are none.
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
        """Steps every environment or, where an episode ended, resets it: the action is ignored.

        Raises:
            EnvironmentFailure: names the environment, its seed, step and action.
        """
        own = np.array(actions)  # a copy: environments may write into what they get
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
        """Deals with what failed in a step, and sees to it that nothing of the step is left."""
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
        """Makes an environment anew, until that works; or says what happened and stops."""
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
        """Makes an environment anew with a seed that it never had; returns what went wrong."""
        history = self._histories[index]
        history.new_seeds += 1
        (history.seed,) = environment_seeds(
            history.first_seed, 1, "restart", index=history.new_seeds
        )
        self._journal.restart(index)
        return self._remake(index, history.seed) or self._violations().get(index)

    def snapshot(self) -> list[dict[str, Any]]:
        """Says, for each environment and as JSON can hold it, how to play its episode again.

        A worker that is found dead is left to the next step to report.
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
        """Brings every environment to where it was, by playing its episode again.

        Returns:
            Whether each is exactly as it was. One that is not has started a new episode, with a
            seed that depends on the snapshot alone.
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
        """Takes what one environment told besides into the infos of all, as far as that goes."""
        if not isinstance(info, dict):
            return
        if "restarted" in info:  # a word of ours
            info = {key: value for key, value in info.items() if key != "restarted"}
        try:
            self._add_info(infos, info, index)
        except Exception:  # of another kind or shape than what another environment told
            for key, value in info.items():
                try:
                    self._add_info(infos, {key: value}, index)
                except Exception:
                    _log.debug("environment %d: left out its info %r", index, key)


def _withdraw(infos: dict[str, Any], index: int) -> None:
    """Marks everything that one environment told as not there."""
    for key, value in infos.items():
        if isinstance(value, dict):
            _withdraw(value, index)
        elif str(key).startswith("_"):
            value[index] = False


Started = tuple[Any, dict[str, Any]]  # observations and infos


def reset_with_seeds(environments: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> Started:
    """Starts every environment anew from its seed.

    Spaces are seeded too, as environments and wrappers may sample from them. A native vector
    environment has one random generator for all its environments and takes the first seed, unless
    it says that it `takes_seeds`.
    """
    unwrapped = environments.unwrapped
    environments.action_space.seed(seeds[0])
    if isinstance(unwrapped, SyncVectorEnv):  # somebody's own
        for environment, seed in zip(unwrapped.envs, seeds, strict=True):
            environment.action_space.seed(seed)
    takes_seeds = getattr(unwrapped, "takes_seeds", False)
    if takes_seeds or isinstance(unwrapped, SlotVectorEnv | SyncVectorEnv):
        reset_all: Any = environments.reset  # typed for one seed, takes one for each too
        return cast("Started", reset_all(seed=list(seeds)))
    return environments.reset(seed=seeds[0])
