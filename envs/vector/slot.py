"""A slot of a vector environment: one environment that resets itself.

The same code runs in the training process and in worker processes.
"""

import contextlib
import copy
import dataclasses
import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import Space

from envs.vector.batch import LARGEST, Array, ObservationBatch, as_number, not_finite
from envs.vector.snapshot import RECORDED_STEPS, Clock, Memories, decoded, encoded, layers
from envs.wrappers.adapters import raw_statistics

Environment = gymnasium.Env[Any, Any]
Make = Callable[[], Environment]
Outcome = tuple[float, bool, bool, dict[str, Any]]  # reward, terminated, truncated, info
Snapshot = dict[str, Any]
Spaces = tuple[Space[Any], Space[Any]]  # of observations and of actions


FAILURES = (Exception, SystemExit)
"""Exceptions of an environment that are handled as its failure."""


class RemoteTraceback(Exception):
    """Traceback of another process, as text."""


class RemoteFailure(Exception):
    """Exception of another process, with the text of `in_one_line`."""


_LEAST = -LARGEST


@dataclasses.dataclass(frozen=True)
class Description:
    """What all environments of a vector environment have in common."""

    spaces: Spaces
    metadata: dict[str, Any]
    render_mode: str | None
    has_raw_statistics: bool


class Slot:
    """Steps one environment, resets it in the step after an episode's end, and can make it again.

    Attributes:
        environment: the environment with its wrappers.
        is_over: whether the episode has ended, so that the next step resets.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._take(make())

    def _take(self, environment: Environment) -> None:
        self.environment = environment
        _own_spaces(environment)
        self._memories = Memories(environment)
        self._as_made = self._memories.read()
        self._is_untouched = True
        self._seed: int | None = None
        self._return = 0.0
        self.is_over = False
        # The recorded reset: memories before it, whether it was seeded, and its step.
        self._found: dict[str, Any] = {}
        self._was_seeded = False
        self._recorded_at = 0

    def join(self, batch: ObservationBatch, index: int, clock: Clock) -> None:
        """Sets the batch row for observations, and the step counter."""
        self._row, self._write = batch.row(index), batch.writer(index)
        self._clock = clock

    def remake(self) -> None:
        """Makes the environment again, unless it is new."""
        if self._is_untouched:
            return
        self.close()
        self._take(self._make())

    def begin(self, seed: int | None, found: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Resets with a seed (None: with the current generators); returns the info.

        Spaces are seeded too, as environments and wrappers may sample from them.

        Args:
            found: memories to restore first, from before the reset of a snapshot.
        """
        if seed is not None:
            self._seed = seed
            for layer in layers(self.environment):
                layer.action_space.seed(seed)
                layer.observation_space.seed(seed)
        self._memories.find()
        if found is None and seed is not None:
            found = self._as_made  # for generators that are not seeded, such as a wrapper's
        if found is not None:
            self._memories.write(found)
        self._record(was_seeded=seed is not None)
        info = self._reset(seed)
        self._memories.find()
        return info

    def _record(self, *, was_seeded: bool) -> None:
        self._found = self._memories.read()
        self._was_seeded = was_seeded
        self._recorded_at = self._clock.steps

    def _reset(self, seed: int | None) -> dict[str, Any]:
        self._is_untouched = False
        self._return = 0.0
        self.is_over = False
        observation, info = self.environment.reset(seed=seed)
        self._write(observation)
        return info

    def step(self, action: Any) -> Outcome:
        """Steps or, after an episode's end, resets; writes the observation into its row."""
        if self.is_over:
            if self._clock.steps - self._recorded_at >= RECORDED_STEPS:
                self._record(was_seeded=False)
            return 0.0, False, False, self._reset(None)
        observation, reward, terminated, truncated, info = self.environment.step(action)
        self._write(observation)
        if type(reward) is not float:
            reward = as_number(reward)
        total = self._return + reward
        if not _LEAST <= total <= LARGEST:  # also checks that the reward is finite
            raise ValueError(f"the reward is {not_finite(reward)}")
        self._return = total
        if terminated or truncated:
            self.is_over = True
            return reward, bool(terminated), bool(truncated), info
        return reward, False, False, info

    def snapshot(self) -> Snapshot:
        """Returns JSON values: the recorded reset, and the expected result of a replay.

        The steps since the recorded reset are to be replayed; the journal has their actions.
        """
        self._memories.find()
        observation = 0
        for row in self._row:
            observation = zlib.crc32(row.tobytes(), observation)
        return {
            "seed": self._seed,
            "was_seeded": self._was_seeded,
            "found": encoded(self._found),
            "steps": self._clock.steps - self._recorded_at,
            "is_over": self.is_over,
            "return": self._return,
            "observation": observation,
            "memories": encoded(self._memories.read()),
        }

    def restore(self, snapshot: Snapshot, actions: Sequence[Any] | Array) -> bool:
        """Replays the steps of a snapshot; returns whether the result is as expected."""
        self.remake()
        found = decoded(snapshot["found"])
        if snapshot["was_seeded"]:
            self.begin(snapshot["seed"], found)
        else:
            self.begin(snapshot["seed"])
            self.begin(None, found)
        for action in actions:
            self.step(action)
        self._recorded_at -= len(actions)  # the clock did not advance in the replay
        outcome = ("steps", "is_over", "return", "observation", "memories")
        again = self.snapshot()
        return all(again[name] == snapshot[name] for name in outcome)

    def raw_episode(self) -> tuple[float, int]:
        """Returns raw return and length of the unfinished episode, recorded below the wrappers."""
        statistics = raw_statistics(self.environment)
        assert statistics is not None
        return float(statistics.episode_returns), int(statistics.episode_lengths)

    def abandon(self) -> None:
        """Ends the episode: the next step resets."""
        self.is_over = True

    def close(self) -> None:
        """Closes the environment, ignoring its errors."""
        with contextlib.suppress(*FAILURES):
            self.environment.close()


def _own_spaces(environment: Environment) -> None:
    """Copies the spaces: those of a class or a module are shared, with their random state."""
    bare = environment.unwrapped
    for name in ("action_space", "observation_space"):
        space = inspect.getattr_static(bare, name, None)
        if isinstance(space, Space):
            own = copy.deepcopy(space)
            aliases = [alias for alias, value in vars(bare).items() if value is space]
            for alias in (name, *aliases):
                setattr(bare, alias, own)


def in_one_line(error: BaseException) -> str:
    """Formats an exception in one line."""
    if isinstance(error, RemoteFailure):
        return str(error)
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def check_same_spaces(expected: Spaces, found: Spaces, index: int) -> None:
    """Refuses an environment whose spaces differ from the others'.

    Raises:
        RuntimeError: names what differs.
    """
    for name, one, other in zip(("observation", "action"), expected, found, strict=True):
        if one != other:
            raise RuntimeError(
                f"environment {index} has the {name} space {other}, the first one has {one}"
            )


def describe(environment: Environment) -> Description:
    """Returns the description of an environment."""
    return Description(
        spaces=spaces_of(environment),
        metadata=dict(environment.metadata),
        render_mode=environment.render_mode,
        has_raw_statistics=raw_statistics(environment) is not None,
    )


def spaces_of(environment: Environment) -> Spaces:
    """Returns the spaces of an environment."""
    return environment.observation_space, environment.action_space
