"""Vector environment over slots, in this process or in worker processes.

Native vector environments, which do not consist of single ones, are used as they are.
"""

import copy
import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.util import Finalize
from typing import Any, Literal

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from envs.interface import Array, Environment, Info, Opening
from envs.seeding import episode_seed, telling_global_draws
from envs.vector.batch import ObservationBatch, Observations, array_kind, converted, shown
from envs.vector.failures import EnvironmentFailure, in_one_line, own_failure
from envs.vector.remote import RemoteSlot, kill
from envs.vector.slot import Make, Slot, Snapshot
from envs.vector.starting import make_slots, start_workers

OnFailure = Literal["stop", "restart"]
Failures = dict[int, BaseException]
Seeds = int | Sequence[int | None] | None

_MAX_FAILURES = 3
"""Consecutive failures of one environment, without a good step in between, that end the run."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class _History:
    """What a resumed run must know of one environment besides its episode."""

    seed: int
    episode: int = -1
    """Number of the episode since the environment got its seed."""
    restarts: int = 0


class SlotVectorEnv(VectorEnv[Any, Any, Any]):
    """Steps environments together; resets each in the step after its end (`NEXT_STEP`).

    Every reset is seeded: an environment's first one with its seed, the others with seeds that
    follow from it and the number of the episode (`envs.seeding.episode_seed`).

    The next step overwrites observations (an array, or a dictionary of arrays for a Dict space):
    copy them to keep them.

    If an environment fails, the run ends with `EnvironmentFailure` (`on_failure='stop'`), or the
    environment is made again with a new seed (`'restart'`). The failed step then becomes the reset
    step of the next episode: reward 0, both flags False, the first observation.
    `infos["restarted"]` is the mask of restarted environments, present in such steps only.

    Attributes:
        full_observation_space: of what one environment's twin shows; None where nothing is hidden.
        has_raw_statistics: whether raw episode statistics are recorded below the user's wrappers.
        takes_seeds: each environment has its own seed.
    """

    takes_seeds = True

    def __init__(
        self,
        makers: Sequence[Make],
        *,
        on_failure: OnFailure,
        in_workers: bool = False,
        step_timeout: float | None = None,
    ) -> None:
        """Makes the environments.

        Args:
            makers: one per environment; importable in a process, if `in_workers`.
            in_workers: each environment steps in a process of its own, instead of one after another
                in this one. That is faster for environments that take more than about 0.2 ms per
                step, if there are enough cores.
            step_timeout: most seconds of a worker's step or reset; None for no limit.

        Raises:
            ValueError: a maker cannot be sent to another process.
            RuntimeError: a worker cannot make its environment, or the environments' spaces differ.
        """
        self.num_envs = len(makers)
        self._slots: list[Slot | RemoteSlot] = []
        # Otherwise this process would wait for hanging workers at its end.
        self._finalizer = Finalize(self, kill, (self._slots,), exitpriority=100)
        try:
            buffers = start_workers(makers, step_timeout, self._slots) if in_workers else None
            description = make_slots(makers, self._slots)
        except BaseException:
            self.close_extras()
            raise
        self.metadata = {**description.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = description.render_mode
        self.has_raw_statistics = description.has_raw_statistics
        self._seeds_episodes = description.seeds_episodes
        self.full_observation_space = description.full_observation_space
        # Copies, because sampling from them must not advance the environments' generators.
        self.single_observation_space = copy.deepcopy(description.observation_space)
        self.single_action_space = copy.deepcopy(description.action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._batch = ObservationBatch(self.single_observation_space, self.num_envs, buffers)
        self._workers = [slot for slot in self._slots if isinstance(slot, RemoteSlot)]
        for index, slot in enumerate(self._slots):
            if isinstance(slot, Slot):
                slot.join(self._batch, index)
        action_shape, self._action_dtype = array_kind(self.single_action_space)
        self._action_shape = (self.num_envs, *action_shape)
        self._steps = 0  # of each environment, reset steps included
        self._starts = [0] * self.num_envs  # `_steps` at the episode's start
        self._over: set[int] = set()  # environments that reset in the next step
        self._failing: dict[int, int] = {}  # failures since the last good step, if there are any
        self._is_restarting = on_failure == "restart"
        seeds = np.random.SeedSequence().generate_state(self.num_envs) >> 1
        self._histories = [_History(seed) for seed in seeds.tolist()]
        self._changes: Mapping[str, Any] = {}

    @property
    def envs(self) -> list[Environment]:
        """The environments of this process, with their wrappers."""
        return [slot.environment for slot in self._slots if isinstance(slot, Slot)]

    def _call(
        self, method: str, arguments: Mapping[int, tuple[Any, ...]]
    ) -> tuple[dict[int, Any], Failures]:
        """Calls a method of some slots, in workers at the same time."""
        for index, given in arguments.items():
            self._slots[index].send(method, *given)
        results: dict[int, Any] = {}
        failures: Failures = {}
        for index in arguments:
            try:
                results[index] = self._slots[index].receive()
            except BaseException as error:
                failures[index] = own_failure(error)
        return results, failures

    def raw_episodes(self, indices: Iterable[int]) -> dict[int, tuple[float, int]]:
        """Returns raw returns and lengths of unfinished episodes, recorded below the wrappers.

        A dead worker is left out; its next step reports it.
        """
        return self._call("raw_episode", dict.fromkeys(indices, ()))[0]

    def full_observation(self) -> Any:
        """Returns a batch of what the fully observed twins show now, if they hide anything."""
        told, _ = self._call("full_observation", dict.fromkeys(range(self.num_envs), ()))
        space: Any = self.full_observation_space
        batch: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, list(told.values()), batch)

    def try_changes(self, changes: Mapping[str, Any]) -> None:
        """Makes the first environment with some other arguments; ValueError if that fails."""
        if failures := self._call("remake", {0: (changes,)})[1]:
            raise ValueError(in_one_line(failures[0])) from failures[0]

    def change(self, changes: Mapping[str, Any]) -> None:
        """Has each environment made again at its next reset, with some other arguments."""
        self._changes = changes

    @property
    def restarts(self) -> int:
        """Number of restarts after failures."""
        return sum(history.restarts for history in self._histories)

    def current_observations(self) -> Observations:
        """Returns the buffers with the latest observations."""
        return self._batch.observations

    def reset(self, *, seed: Seeds = None, options: Info | None = None) -> Opening:
        """Starts an episode in every environment.

        Args:
            seed: one per environment; a single number means `seed`, `seed + 1`, ...; with None, the
                next episode of the same seed (at first: of a random one).
            options: ignored.
        """
        if options:
            raise ValueError(f"reset: expected no options, got {options}")
        self._next_episodes(seed)
        self._starts = [self._steps] * self.num_envs
        self._over, self._failing = set(), {}
        given = {
            index: (self._seed_of_episode(index), history.episode == 0, self._changes)
            for index, history in enumerate(self._histories)
        }
        with telling_global_draws():
            told, failures = self._call("begin", given)
        for index, cause in {**self._violations(), **failures}.items():
            self._restart(index, cause, "reset")
        return self._batch.observations, self._merged(told)

    def _next_episodes(self, seed: Seeds) -> None:
        if isinstance(seed, int):
            seed = range(seed, seed + self.num_envs)
        seeds = [None] * self.num_envs if seed is None else seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, got {len(seeds)}")
        for history, each in zip(self._histories, seeds, strict=True):
            history.episode += 1
            if each is not None:
                history.seed, history.episode = each, 0

    def _seed_of_episode(self, index: int) -> int | None:
        """Returns the seed of an environment's episode; None if only its first one gets a seed."""
        history = self._histories[index]
        if history.episode and not self._seeds_episodes:
            return None
        return episode_seed(history.seed, history.episode)

    def step(self, actions: Any) -> tuple[Observations, Array, Array, Array, dict[str, Any]]:
        """Steps every environment; where the episode has ended, resets it and ignores the action.

        Raises:
            EnvironmentFailure: names the environment, the episode's seed, the step and the action.
        """
        own = np.array(actions)  # a copy, as environments may modify their actions
        if own.shape != self._action_shape or own.dtype != self._action_dtype:
            own = converted(own, self._action_shape, self._action_dtype)
        self._steps += 1
        rewards, flags = np.zeros(self.num_envs), np.zeros((2, self.num_envs), np.bool_)
        told: dict[int, Any] = {}
        over, failures = self._step_slots(own, rewards, flags, told)
        restarted: list[int] = []
        if failures or self._failing or not self._batch.is_sound():
            restarted = self._mend(failures, own)
            rewards[restarted] = flags[:, restarted] = 0
        self._over = over - set(restarted)
        infos = self._merged(told, restarted) if told or restarted else {}
        return self._batch.observations, rewards, *flags, infos

    def _step_slots(
        self, actions: Array, rewards: Array, flags: Array, told: dict[int, Any]
    ) -> tuple[set[int], Failures]:
        """Steps or resets every slot; writes rewards, flags of ends `[2, B]` and infos.

        Returns:
            The environments whose episodes have ended, and failures.
        """
        over: set[int] = set()
        failures: Failures = {}
        was_over = self._over
        self._send(actions)
        for index, (slot, action) in enumerate(zip(self._slots, actions, strict=True)):
            try:
                if index in was_over:
                    info = slot.receive()
                else:
                    rewards[index], ends, cuts, info = slot.step(action)
                    if ends or cuts:
                        flags[:, index] = ends, cuts
                        over.add(index)
            except BaseException as error:
                failures[index] = own_failure(error)
                continue
            if info:
                told[index] = info
        return over, failures

    def _send(self, actions: Array) -> None:
        """Sends resets to slots, and actions to workers, which step at the same time."""
        for index in self._over:
            self._starts[index] = self._steps
            self._histories[index].episode += 1
            self._slots[index].send("begin", self._seed_of_episode(index), False, self._changes)
        for index, worker in enumerate(self._workers):
            if index not in self._over:
                worker.send_step(actions[index])

    def _mend(self, failures: Failures, actions: Array) -> list[int]:
        """Handles failures of a step; returns the environments that were restarted."""
        failures = {**self._violations(), **failures}
        for index in self._failing.keys() - failures.keys() - self._over:
            del self._failing[index]
        for index, cause in sorted(failures.items()):
            step = f"step with action {shown(actions[index].tolist())}"
            self._restart(index, cause, "reset" if index in self._over else step)
        return list(failures)

    def _violations(self) -> Failures:
        return {index: ValueError(text) for index, text in self._batch.violations().items()}

    def _restart(self, index: int, cause: BaseException | None, doing: str) -> None:
        """Restarts an environment until that succeeds, or raises."""
        history = self._histories[index]
        while cause is not None:
            seed = self._seed_of_episode(index)
            where = f"reset(seed={history.seed if seed is None else seed})"
            if seed is None:
                where += f" and {history.episode} more resets"
            if doing != "reset":
                where += f", step {self._steps - self._starts[index]} of its episode"
            message = f"environment {index} ({where}) failed in {doing}: {in_one_line(cause)}"
            self._failing[index] = count = self._failing.get(index, 0) + 1
            if not self._is_restarting:
                raise EnvironmentFailure(message) from cause
            if count >= _MAX_FAILURES:
                raise EnvironmentFailure(f"{message}; {count} failures in a row") from cause
            _log.warning("%s; it starts anew", message)
            history.restarts += 1
            cause = self._begin_anew(index)
            doing = "reset"

    def _begin_anew(self, index: int) -> BaseException | None:
        """Makes an environment again, with the next episode's seed; returns the error, if any."""
        history = self._histories[index]
        history.seed, history.episode = episode_seed(history.seed, history.episode + 1), 0
        self._starts[index] = self._steps
        try:
            self._slots[index].remake(self._changes)
        except BaseException as error:
            return own_failure(error)
        _, failures = self._call("begin", {index: (history.seed, False, self._changes)})
        return failures.get(index) or self._violations().get(index)

    def snapshot(self) -> list[dict[str, Any]]:
        """Returns JSON values for each environment, from which its episode can be replayed.

        A dead worker's slot is None; its next step reports it.
        """
        slots, _ = self._call("snapshot", dict.fromkeys(range(self.num_envs), ()))
        return [
            {**vars(history), "failing": self._failing.get(index, 0), "slot": slots.get(index)}
            for index, history in enumerate(self._histories)
        ]

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Restores every environment by replaying its episode.

        Returns:
            Whether each was restored exactly. The others start a new episode, with a seed that
            depends only on the snapshot.
        """
        if len(snapshots) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} snapshots, got {len(snapshots)}")
        slots = {index: s["slot"] for index, s in enumerate(snapshots) if s["slot"] is not None}
        self._histories = [_History(s["seed"], s["episode"], s["restarts"]) for s in snapshots]
        self._changes = next((slot["changes"] for slot in slots.values()), {})
        exact = self._replay(slots) if slots else set()
        for index in exact:
            self._starts[index] = self._steps - slots[index]["steps"]
        self._over = {index for index in exact if slots[index]["is_over"]}
        failing = {index: snapshots[index]["failing"] for index in exact}
        self._failing = {index: count for index, count in failing.items() if count}
        for index in set(range(self.num_envs)) - exact:
            self._restart(index, self._begin_anew(index), "reset")
        return [index in exact for index in range(self.num_envs)]

    def _replay(self, slots: Mapping[int, Snapshot]) -> set[int]:
        """Replays episodes; returns the environments that were restored exactly."""
        last = self.num_envs - 1
        can_be_restored, _ = self._call("can_be_restored", {last: ()})
        if not can_be_restored.get(last):
            return set()
        is_exact, _ = self._call("restore", {index: (slot,) for index, slot in slots.items()})
        return {index for index in is_exact if is_exact[index]}

    def close_extras(self) -> None:
        """Closes every environment, even if one raises; kills its process after a few seconds."""
        for slot in self._slots:
            slot.send("close")  # to workers at the same time
        for slot in self._slots:
            slot.close()

    def _merged(self, told: Mapping[int, Any], restarted: Sequence[int] = ()) -> dict[str, Any]:
        """Merges the infos of environments, as far as possible; drops those of failed steps."""
        infos: dict[str, Any] = {}
        for index, info in told.items():
            if index in restarted or not isinstance(info, dict):
                continue
            for key, value in info.items():
                try:
                    self._add_info(infos, {key: value}, index)
                except Exception:  # type or shape differs from that of another environment
                    _log.debug("environment %d: left out its info %r", index, key)
        for reserved in ("restarted", "_restarted"):
            infos.pop(reserved, None)
        if restarted:
            infos["restarted"] = np.zeros(self.num_envs, np.bool_)
            infos["restarted"][list(restarted)] = True
        return infos
