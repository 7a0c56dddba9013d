"""Vector environment in this process, faster than Gymnasium's `SyncVectorEnv`."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from envs.vector.base import Episode, Failures, OnFailure, SlotVectorEnv
from envs.vector.batch import Array, observation_bytes
from envs.vector.inspection import can_be_restored
from envs.vector.slot import (
    FAILURES,
    Environment,
    Make,
    Slot,
    Snapshot,
    check_same_spaces,
    describe,
    spaces_of,
)


class SequentialVectorEnv(SlotVectorEnv):
    """Steps environments one after another in this process."""

    def __init__(self, makers: Sequence[Make], *, on_failure: OnFailure) -> None:
        """Makes the environments.

        Raises:
            RuntimeError: the environments' spaces differ.
        """
        self._makers = makers
        self._slots: list[Slot] = []
        try:
            for make in makers:
                self._slots.append(Slot(make))
            description = describe(self.envs[0])
            for index, environment in enumerate(self.envs):
                check_same_spaces(description.spaces, spaces_of(environment), index)
            size = observation_bytes(description.spaces[0], len(makers))
            buffer = np.zeros(size, np.uint8)
            super().__init__(description, len(makers), buffer=buffer, on_failure=on_failure)
        except BaseException:
            self.close_extras()
            raise
        for index, slot in enumerate(self._slots):
            slot.join(self._batch, index, self._journal.clock)

    @property
    def envs(self) -> list[Environment]:
        """The environments with their wrappers."""
        return [slot.environment for slot in self._slots]

    def _begin(self, seeds: Sequence[int | None], infos: dict[str, Any]) -> Failures:
        failures: Failures = {}
        for index, (slot, seed) in enumerate(zip(self._slots, seeds, strict=True)):
            try:
                self._add(infos, slot.begin(seed), index)
            except FAILURES as error:
                failures[index] = error
        return failures

    def _step_slots(
        self, actions: Array, rewards: Array, infos: dict[str, Any]
    ) -> tuple[Array, Array, Failures]:
        nobody = terminated = truncated = self._nobody
        failures: Failures = {}
        for index, (slot, action) in enumerate(zip(self._slots, actions, strict=True)):
            try:
                rewards[index], ends, cuts, info = slot.step(action)
            except FAILURES as error:
                failures[index] = error
                continue
            if ends or cuts:
                if terminated is nobody:
                    terminated, truncated = nobody.copy(), nobody.copy()
                terminated[index], truncated[index] = ends, cuts
            if info:
                self._add(infos, info, index)
        return terminated, truncated, failures

    def _remake(self, index: int, seed: int) -> BaseException | None:
        try:
            self._slots[index].remake()
            self._slots[index].begin(seed)
        except FAILURES as error:
            return error
        return None

    def _snapshots(self) -> list[Snapshot | None]:
        return [slot.snapshot() for slot in self._slots]

    def raw_episodes(self, indices: Iterable[int]) -> dict[int, tuple[float, int]]:
        """Returns raw returns and lengths of unfinished episodes."""
        return {index: self._slots[index].raw_episode() for index in indices}

    def _can_replay(self) -> bool:
        return can_be_restored(self._makers[-1])

    def _replay(self, episodes: Mapping[int, Episode]) -> set[int]:
        exact = set()
        for index, (snapshot, actions) in episodes.items():
            with contextlib.suppress(*FAILURES):  # then it was not restored
                if self._slots[index].restore(snapshot, actions):
                    exact.add(index)
        return exact

    def render(self) -> tuple[Any, ...]:
        """Renders every environment, in its render mode."""
        return tuple(environment.render() for environment in self.envs)

    def close_extras(self) -> None:
        """Closes every environment, even if one raises."""
        for slot in self._slots:
            slot.close()
