"""A slot of a vector environment: one environment that resets itself.

The same code runs in the training process and in worker processes.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
import json
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import Space

from envs.interface import Environment, full_space
from envs.seeding import environment_seeds
from envs.spaces import parts_of
from envs.vector.batch import LARGEST, ObservationBatch, array_kind, as_number, not_finite, shown
from envs.vector.snapshot import Memories, decoded, encoded, layers
from envs.wrappers.action_mask import ACTION_MASK, sample_action
from envs.wrappers.adapters import RawEpisodeStatistics

Make = Callable[..., Environment]
"""Makes an environment; `changes` are a curriculum's, of its arguments, if there are any."""
Outcome = tuple[float, bool, bool, dict[str, Any]]  # reward, terminated, truncated, info
Snapshot = dict[str, Any]

MAX_RECORDED_STEPS = 100_000
"""Actions kept for replaying; a longer episode cannot be restored."""

_MIN_RECORDED_STEPS = 200
"""Steps after a recorded reset in which further ones are not recorded: recording takes time."""

_LEAST = -LARGEST

_API = (
    "expected (observation, info) from reset(seed=..., options=...) and (observation, reward, "
    "terminated, truncated, info) from step, as in Gymnasium; gym before 0.26 had other ones"
)

# Limits of the test whether an environment can be restored.
_TRIAL_SECONDS = 2.0  # apart from the minimum of steps
_EPISODE_STEPS = 500  # of an episode that does not end
_COMPARED_STEPS = 25  # before and after a reset


@dataclasses.dataclass(frozen=True)
class Description:
    """What all environments of a vector environment have in common."""

    observation_space: Space[Any]
    action_space: Space[Any]
    full_observation_space: Space[Any] | None
    metadata: dict[str, Any]
    render_mode: str | None
    has_raw_statistics: bool


def check_same_spaces(expected: Description, found: Description, who: str, before: str) -> None:
    """Raises RuntimeError if the spaces differ: `WHO has the action space A, BEFORE B`."""
    for name in ("observation_space", "action_space"):
        space, own = getattr(expected, name), getattr(found, name)
        if own != space:
            raise RuntimeError(f"{who} has the {name.replace('_', ' ')} {own}, {before} {space}")


class Slot:
    """Steps one environment, resets it in the step after an episode's end, and can make it again.

    Attributes:
        environment: the environment with its wrappers.
        is_over: whether the episode has ended, so that the next step resets.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        # Closed with this one: closing may end what they share, as `pygame.quit()` does.
        self._spare: list[Environment] = []
        self._changes: Mapping[str, Any] = {}  # of arguments, with which it was made
        self._next_changes: Mapping[str, Any] = {}
        self._take(self._make_changed())
        self._described = self.describe()

    def _make_changed(self) -> Environment:
        return self._make(changes=self._changes) if self._changes else self._make()

    def _take(self, environment: Environment) -> None:
        self.environment = environment
        _own_spaces(environment)
        around = layers(environment)
        self._raw_statistics = [each for each in around if isinstance(each, RawEpisodeStatistics)]
        self._memories = Memories(environment)
        self._action_shape, self._action_dtype = array_kind(environment.action_space)
        self._seed: int | None = None
        self._return = 0.0
        self.is_over = False
        self._record(was_seeded=False)
        self._as_made = self._found
        self._is_untouched = True

    def join(self, batch: ObservationBatch, index: int) -> None:
        """Sets the batch row for observations."""
        self._row, self._write = batch.row(index), batch.writer(index)

    def send(self, method: str, *arguments: Any) -> None:
        """Calls a method, whose result `receive` returns, as a slot in another process does."""
        self._called = functools.partial(getattr(self, method), *arguments)

    def receive(self) -> Any:
        """Returns the result of the method that was sent."""
        return self._called()

    def describe(self) -> Description:
        """Returns what all environments of a vector environment must have in common."""
        environment = self.environment
        return Description(
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            full_observation_space=full_space(environment),
            metadata=dict(environment.metadata),
            render_mode=environment.render_mode,
            has_raw_statistics=bool(self._raw_statistics),
        )

    def change(self, changes: Mapping[str, Any]) -> None:
        """Has the next reset make the environment again, with some other arguments."""
        self._next_changes = changes

    def remake(self) -> None:
        """Makes the environment again."""
        self.close()
        self._changes = self._next_changes
        self._take(self._make_changed())
        check_same_spaces(self._described, self.describe(), "the environment", "it had")

    def begin(self, seed: int | None, found: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Resets with a seed (None: with the current generators); returns the info.

        Spaces are seeded too, as environments and wrappers may sample from them.

        Args:
            found: memories to restore first, from before the reset of a snapshot.
        """
        if self._changes != self._next_changes:
            if seed is None:  # the generators of the old one end with it
                (seed,) = environment_seeds(self._seed or 0, 1, purpose="curriculum")
            self.remake()
        self._is_untouched = False
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
        """Records what a replay needs: memories before a reset, and from now on the actions."""
        self._found = self._memories.read()
        self._was_seeded = was_seeded
        self._actions: deque[Any] = deque(maxlen=MAX_RECORDED_STEPS + 1)
        keep = self._actions.append
        # An environment may modify an array. A number is kept as it is, which is faster.
        self._keep: Callable[[Any], None] = keep
        if self._action_shape:
            self._keep = lambda action: keep(action.tobytes())

    def _reset(self, seed: int | None) -> dict[str, Any]:
        self._return = 0.0
        self.is_over = False
        try:
            outcome = self.environment.reset(seed=seed)
        except TypeError as error:
            if "unexpected keyword argument 'seed'" in str(error):
                raise TypeError(f"{error}; {_API}") from error
            raise
        if not (isinstance(outcome, tuple) and len(outcome) == 2):
            raise TypeError(f"reset returned {shown(outcome)}, {_API}")
        observation, info = outcome
        self._write(observation)
        return info

    def step(self, action: Any) -> Outcome:
        """Steps or, after an episode's end, resets; writes the observation into its row."""
        self._keep(action)
        if self.is_over:
            if self._changes != self._next_changes:
                return 0.0, False, False, self.begin(None)
            if len(self._actions) >= _MIN_RECORDED_STEPS:
                self._record(was_seeded=False)
            return 0.0, False, False, self._reset(None)
        outcome = self.environment.step(action)
        try:
            observation, reward, terminated, truncated, info = outcome
        except (TypeError, ValueError):
            raise TypeError(f"step returned {shown(outcome)}, {_API}") from None
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
        """Returns JSON values: the recorded reset, actions since, and the expected outcome."""
        self._memories.find()
        observation = 0
        for row in self._row:
            observation = zlib.crc32(row.tobytes(), observation)
        actions = np.frombuffer(b"".join(self._actions), self._action_dtype)
        actions = actions.reshape(-1, *self._action_shape)
        is_complete = len(actions) <= MAX_RECORDED_STEPS
        return {
            "changes": dict(self._changes),
            "seed": self._seed,
            "was_seeded": self._was_seeded,
            "found": encoded(self._found),
            "steps": len(actions),
            "actions": encoded(actions) if is_complete else None,
            "is_over": self.is_over,
            "return": self._return,
            "observation": observation,
            "memories": encoded(self._memories.read()),
        }

    def restore(self, snapshot: Snapshot) -> bool:
        """Replays the steps of a snapshot; returns whether the outcome is as expected."""
        if snapshot["actions"] is None:
            return False
        self._next_changes = snapshot.get("changes", {})
        if not self._is_untouched or self._changes != self._next_changes:
            self._renew()
        found = decoded(snapshot["found"])
        if snapshot["was_seeded"]:
            self.begin(snapshot["seed"], found)
        else:
            self.begin(snapshot["seed"])
            self.begin(None, found)
        for action in decoded(snapshot["actions"]):
            self.step(action)
        outcome = ("steps", "is_over", "return", "observation", "memories")
        again = self.snapshot()
        return all(again[name] == snapshot[name] for name in outcome)

    def _renew(self) -> None:
        """Makes the environment anew beside the old one, or after it if only one can exist."""
        self._changes = self._next_changes
        try:
            environment = self._make_changed()
        except Exception:
            self.remake()
        else:
            self._spare.append(self.environment)
            self._take(environment)

    def can_be_restored(self) -> bool:
        """Whether environments such as this one can be restored."""
        return can_be_restored(self._make_changed, self._spare)

    def raw_episode(self) -> tuple[float, int]:
        """Returns raw return and length of the unfinished episode, recorded below the wrappers."""
        (statistics,) = self._raw_statistics
        return float(statistics.episode_returns), int(statistics.episode_lengths)

    def full_observation(self) -> Any:
        """Returns what the fully observed twin would show now."""
        return self.environment.get_wrapper_attr("full_observation")()

    def close(self) -> None:
        """Closes the environment, ignoring its errors."""
        for environment in (*self._spare, self.environment):
            with contextlib.suppress(Exception, SystemExit):
                environment.close()
        self._spare.clear()


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


def can_be_restored(make: Make, tried: list[Environment]) -> bool:
    """Whether an episode that is replayed in a new environment continues identically.

    It does not if anything that is not recorded persists across episodes: a generator inside a
    simulator, a counter, global random state. Two environments are made. One plays two episodes and
    the start of a third one, which the other replays. From there both continue, across a reset, and
    must agree bit for bit.

    Args:
        tried: takes those that were made, which the caller closes.
    """
    try:
        one, other = _Trial(make, tried), _Trial(make, tried)
        if one.environment.unwrapped is other.environment.unwrapped:
            return False  # always the same object, which cannot be made again
        return _agree(one, other)
    except (Exception, SystemExit):  # any error means that it cannot be restored
        return False


class _Trial(Slot):
    """An environment to test, with its own observation buffer; it stays open."""

    def __init__(self, make: Make, made: list[Environment]) -> None:
        self._made = made
        super().__init__(make)
        self.join(ObservationBatch(self.environment.observation_space, 1), 0)
        self._chance = copy.deepcopy(self.environment.action_space)
        self._chance.seed(0)
        rows = dict(zip(parts_of(self.environment.observation_space), self._row, strict=True))
        self._mask = rows.get(ACTION_MASK)

    def _take(self, environment: Environment) -> None:
        self._made.append(environment)
        super()._take(environment)

    def close(self) -> None:
        """Leaves closing to who tries."""

    def outcome(self, action: Any) -> tuple[Any, ...]:
        """Steps; returns everything comparable (infos may contain times)."""
        # Copied, because an environment may modify the action.
        outcome = self.step(copy.deepcopy(action))[:3]
        return (*outcome, *(row.tobytes() for row in self._row))

    def play(self, steps: int, until: float, other: "_Trial | None" = None) -> bool:
        """Plays to the end of the episode; beside another one, across ends and while both agree.

        Returns:
            Whether they agree.
        """
        for _ in range(steps):
            action = sample_action(self._chance, self._mask)
            outcome = self.outcome(action)
            if other is not None and other.outcome(action) != outcome:
                return False
            if time.monotonic() > until or (self.is_over and other is None):
                break
        return True


def _agree(one: _Trial, other: _Trial) -> bool:
    begun = time.monotonic()
    one.begin(1)
    other.begin(2)
    for _ in range(2):
        one.play(_EPISODE_STEPS, begun + 0.4 * _TRIAL_SECONDS)
        one.is_over = True
    one.begin(None)
    one.play(_COMPARED_STEPS, begun + 0.6 * _TRIAL_SECONDS)
    if not other.restore(json.loads(json.dumps(one.snapshot()))):  # as read from a file
        return False
    for share in (0.8, 1.0):
        if not one.play(_COMPARED_STEPS, begun + share * _TRIAL_SECONDS, other):
            return False
        one.is_over = other.is_over = True
    return bool(one.snapshot()["memories"] == other.snapshot()["memories"])
