"""Tests whether replaying an episode restores an environment.

It does not if anything that is not recorded persists across episodes: a generator inside a
simulator, a counter, global random state.
"""

import copy
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from envs.vector.batch import ObservationBatch, observation_bytes
from envs.vector.slot import Make, Slot
from envs.vector.snapshot import RECORDED_STEPS, Clock

_SECONDS = 2.0  # time limit of a trial, apart from the minimum of steps
_EPISODE_STEPS = 500  # limit of an episode that does not end
_COMPARED_STEPS = 25  # before and after a reset


def can_be_restored(make: Make) -> bool:
    """Whether an episode that is replayed in a new environment continues identically.

    Makes two environments. One plays two episodes and the start of a third one, which the other
    replays. From there both continue, across a reset, and must agree bit for bit.
    """
    trials: list[_Trial] = []
    try:
        trials += [_Trial(make)]
        trials += [_Trial(make)]
        one, other = trials
        if one.slot.environment.unwrapped is other.slot.environment.unwrapped:
            return False  # always the same object, which cannot be made again
        return _agree(one, other)
    except (Exception, SystemExit):  # any error means that it cannot be restored
        return False
    finally:
        for trial in trials:
            trial.slot.close()


class _Trial:
    """An environment to test, with its own observation buffer."""

    def __init__(self, make: Make) -> None:
        self.clock = Clock()
        self.slot = Slot(make)
        space = self.slot.environment.observation_space
        self._batch = ObservationBatch(space, 1, np.zeros(observation_bytes(space, 1), np.uint8))
        self.slot.join(self._batch, 0, self.clock)

    def step(self, action: Any) -> tuple[Any, ...]:
        """Steps; returns everything comparable (infos may contain times)."""
        self.clock.steps += 1
        # Copied, because an environment may modify the action.
        outcome = self.slot.step(copy.deepcopy(action))[:3]
        return (*outcome, *(row.tobytes() for row in self._batch.row(0)))

    def play(self, chance: Callable[[], Any], steps: int, until: float) -> list[Any]:
        """Takes at least one step, at most to the end of the episode; returns the actions."""
        played: list[Any] = []
        while not played or (len(played) < steps and time.monotonic() < until):
            played.append(chance())
            self.step(played[-1])
            if self.slot.is_over:
                break
        return played

    def goes_on_like(self, other: "_Trial", chance: Callable[[], Any], until: float) -> bool:
        """Whether both behave identically from here on, across ends and a reset."""
        for _ in range(_COMPARED_STEPS):
            action = chance()
            if self.step(action) != other.step(action):
                return False
            if time.monotonic() > until:
                break
        self.slot.abandon()
        other.slot.abandon()
        return True


def _agree(one: _Trial, other: _Trial) -> bool:
    begun = time.monotonic()
    actions = copy.deepcopy(one.slot.environment.action_space)
    actions.seed(0)
    one.slot.begin(1)
    other.slot.begin(2)
    for _ in range(2):
        one.play(actions.sample, _EPISODE_STEPS, begun + 0.4 * _SECONDS)
        one.slot.abandon()
    one.clock.steps += RECORDED_STEPS  # so that the reset is recorded
    one.step(actions.sample())  # resets
    played = one.play(actions.sample, _COMPARED_STEPS, begun + 0.6 * _SECONDS)
    snapshot = json.loads(json.dumps(one.slot.snapshot()))  # as read from a file
    return (
        other.slot.restore(snapshot, copy.deepcopy(played))
        and one.goes_on_like(other, actions.sample, begun + 0.8 * _SECONDS)
        and one.goes_on_like(other, actions.sample, begun + _SECONDS)
        and one.slot.snapshot()["memories"] == other.slot.snapshot()["memories"]
    )
