"""A slot of a vector environment: one environment, whose episode can be played again.

The same code runs in the training process and in worker processes.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
import itertools
import json
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import Space

from envs.interface import Environment, full_space, layers
from envs.seeding import environment_seeds, seed_spaces
from envs.spaces import leaves, parts_of
from envs.vector.batch import LARGEST, ObservationBatch, array_kind, as_number, not_finite, shown
from envs.vector.snapshot import LayerStates, decoded, encoded
from envs.wrappers.action_mask import ACTION_MASK, sample_action
from envs.wrappers.adapters import RawEpisodeStatistics

Make = Callable[..., Environment]
"""Makes an environment; `changes` are a curriculum's, of its arguments, if there are any."""
Outcome = tuple[float, bool, bool, dict[str, Any]]  # reward, terminated, truncated, info
Snapshot = dict[str, Any]

MAX_RECORDED_STEPS = 100_000
"""Actions kept for replaying; a longer episode cannot be restored."""

_OUTCOME = ("steps", "is_over", "return", "observation", "states")
"""What a replay must come to."""

_LEAST = -LARGEST

_API = (
    "expected (observation, info) from reset(seed=..., options=...) and (observation, reward, "
    "terminated, truncated, info) from step, as in Gymnasium; gym before 0.26 had other ones"
)

_NO_FLAGS = Sequence, Mapping
"""An info in the wrong place, a word or a list would be true."""

# Limits of the test whether an environment can be restored.
_EPISODE_SECONDS = 0.4  # apart from the minimum of steps
_EPISODE_STEPS = 200  # of an episode that does not end
_ABANDONED_STEPS = 5


@dataclasses.dataclass(frozen=True)
class Description:
    """What all environments of a vector environment have in common."""

    observation_space: Space[Any]
    action_space: Space[Any]
    full_observation_space: Space[Any] | None
    metadata: dict[str, Any]
    render_mode: str | None
    has_raw_statistics: bool
    seeds_episodes: bool


def check_same_spaces(expected: Description, found: Description, who: str, before: str) -> None:
    """Raises RuntimeError if the spaces differ: `WHO has the action space A, BEFORE B`."""
    for name in ("observation_space", "action_space"):
        space, own = getattr(expected, name), getattr(found, name)
        if own != space:
            raise RuntimeError(f"{who} has the {name.replace('_', ' ')} {own}, {before} {space}")


class Slot:
    """Plays episodes of one environment, checks what it returns, and can make it again.

    An episode is a function of its seed and its actions, which are recorded.

    Attributes:
        environment: the environment with its wrappers.
        is_over: whether the episode has ended.
        row: its part of the batch of observations.
        states: what its layers remember across episodes.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        # Closed with this one: closing may end what they share, as `pygame.quit()` does.
        self._tried: list[Environment] = []
        self._changes: Mapping[str, Any] = {}  # of arguments, with which it was made
        self._last_seed = 0
        self._take(self._make_changed())
        self._described = self.describe()

    def _make_changed(self) -> Environment:
        return self._make(changes=self._changes) if self._changes else self._make()

    def _take(self, environment: Environment) -> None:
        self.environment = environment
        _own_spaces(environment)
        around = list(layers(environment))
        self._raw_statistics = [each for each in around if isinstance(each, RawEpisodeStatistics)]
        wholes = [whole for each in around for whole in (each.action_space, each.observation_space)]
        parts = [part for whole in wholes for _, part in leaves(whole)]
        self._spaces = {id(part): part for part in parts}.values()  # layers share most of them
        self.states = LayerStates(environment)
        self._states_as_made = self.states.read()
        self._action_shape, self._action_dtype = array_kind(environment.action_space)
        self._actions: deque[Any] = deque(maxlen=MAX_RECORDED_STEPS + 1)
        self.is_over = False

    def join(self, batch: ObservationBatch, index: int) -> None:
        """Sets the batch row for observations."""
        self.row, self._write = batch.row(index), batch.writer(index)

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
            seeds_episodes=_seeds_episodes(environment),
        )

    def remake(self, changes: Mapping[str, Any]) -> None:
        """Makes the environment again, with some other arguments."""
        self.close()
        self._changes = changes
        self._take(self._make_changed())
        check_same_spaces(self._described, self.describe(), "the environment", "it had")

    def begin(
        self, seed: int | None, rewinds: bool = False, changes: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Starts an episode; writes the observation into its row, and returns the info.

        Args:
            seed: of the episode, and of the spaces, as environments and wrappers may sample from
                them; with None, the generators of the environment go on.
            rewinds: whether layers first get the states in which they were made.
            changes: of arguments; where others were given, the environment is made again. None: as
                it was made.
        """
        if changes is not None and changes != self._changes:
            if seed is None:  # the generators of the old environment end with it
                (seed,) = environment_seeds(self._last_seed, 1, purpose="curriculum")
            self.remake(changes)
        if rewinds:
            self.states.write(self._states_as_made)
        self._seed, self._states_before = seed, self.states.read()
        self._last_seed = self._last_seed if seed is None else seed
        self._actions.clear()
        self._return = 0.0
        self.is_over = False
        if seed is not None:
            seed_spaces(self._spaces, seed)
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
        """Steps; writes the observation into its row."""
        self._actions.append(action.tobytes())  # an environment may modify the array
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
            if isinstance(terminated, _NO_FLAGS) or isinstance(truncated, _NO_FLAGS):
                raise TypeError(f"step returned {shown(outcome)}, {_API}")
            self.is_over = True
            return reward, bool(terminated), bool(truncated), info
        return reward, False, False, info

    def snapshot(self) -> Snapshot:
        """Returns JSON values: the episode's seed and actions, and what they have come to."""
        observation = 0
        for row in self.row:
            observation = zlib.crc32(row.tobytes(), observation)
        actions = np.frombuffer(b"".join(self._actions), self._action_dtype)
        actions = actions.reshape(-1, *self._action_shape)
        is_complete = len(actions) <= MAX_RECORDED_STEPS
        return {
            "changes": dict(self._changes),
            "seed": self._seed,
            "states_before": self._states_before,
            "actions": encoded(actions) if is_complete else None,
            "steps": len(actions),
            "is_over": self.is_over,
            "return": self._return,
            "observation": observation,
            "states": self.states.read(),
        }

    def restore(self, snapshot: Snapshot) -> bool:
        """Replays the episode of a snapshot; returns whether the outcome is as expected."""
        if snapshot["seed"] is None or snapshot["actions"] is None:
            return False
        if snapshot["changes"] != self._changes:
            self.remake(snapshot["changes"])
        self.states.write(snapshot["states_before"])
        self.begin(snapshot["seed"])
        for action in decoded(snapshot["actions"]):
            self.step(action)
        again = self.snapshot()
        return all(again[name] == snapshot[name] for name in _OUTCOME)

    def can_be_restored(self) -> bool:
        """Whether environments such as this one can be restored."""
        return can_be_restored(self._make_changed, self._tried, type(self))

    def raw_episode(self) -> tuple[float, int]:
        """Returns raw return and length of the unfinished episode, recorded below the wrappers."""
        (statistics,) = self._raw_statistics
        return float(statistics.episode_returns), int(statistics.episode_lengths)

    def full_observation(self) -> Any:
        """Returns what the fully observed twin would show now."""
        return self.environment.get_wrapper_attr("full_observation")()

    def close(self) -> None:
        """Closes the environment, ignoring its errors."""
        for environment in (*self._tried, self.environment):
            with contextlib.suppress(Exception, SystemExit):
                environment.close()
        self._tried.clear()


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


def _seeds_episodes(environment: Environment) -> bool:
    """Whether every reset is seeded, and not the first one alone.

    The environment or a wrapper says so by `seeds_episodes`. ale-py loads the game again for every
    seed, which takes about as long as hundreds of steps.
    """
    if environment.has_wrapper_attr("seeds_episodes"):
        return bool(environment.get_wrapper_attr("seeds_episodes"))
    return type(environment.unwrapped).__module__.partition(".")[0] != "ale_py"


def can_be_restored(make: Make, tried: list[Environment], kind: type[Slot] = Slot) -> bool:
    """Whether an episode is the same again in another environment, and the next one, too.

    It is not if something outlives an episode that no seed reaches: a generator inside a simulator,
    a counter, global random state. Two environments are made. After three episodes of one, and in
    the middle of the first one of the other, both play two more, which must agree bit for bit.

    Args:
        tried: takes those that were made, which the caller closes.
        kind: of slots; one in a worker seeds the global generators, too.
    """
    try:
        one, other = _on_trial(kind(make), tried), _on_trial(kind(make), tried)
        # Always the same object cannot be made again.
        is_same = one.environment.unwrapped is other.environment.unwrapped
        return not is_same and one.describe().seeds_episodes and _agree(one, other)
    except (Exception, SystemExit):  # any error means that it cannot be restored
        return False


def _on_trial(slot: Slot, tried: list[Environment]) -> Slot:
    """Gives a slot an observation buffer of its own; its environment stays open."""
    tried.append(slot.environment)
    slot.join(ObservationBatch(slot.environment.observation_space, 1), 0)
    return slot


def _agree(one: Slot, other: Slot) -> bool:
    for seed in range(3):
        _outcomes(one, seed, _random_actions(one))
    _outcomes(other, 3, itertools.islice(_random_actions(other), _ABANDONED_STEPS))
    for seed in (4, 5):
        expected = _outcomes(one, seed, _random_actions(one))
        snapshot = json.loads(json.dumps(one.snapshot()))  # as read from a file
        if seed == 4:
            other.states.write(snapshot["states_before"])
        found = _outcomes(other, seed, decoded(snapshot["actions"]))
        if found != expected or other.snapshot()["states"] != snapshot["states"]:
            return False
    return True


def _random_actions(slot: Slot) -> Iterator[Any]:
    """Draws legal actions until the episode has ended, always the same ones, for a short time."""
    space = slot.environment.observation_space
    mask = dict(zip(parts_of(space), slot.row, strict=True)).get(ACTION_MASK)
    chance = copy.deepcopy(slot.environment.action_space)
    chance.seed(0)
    until = time.monotonic() + _EPISODE_SECONDS
    for _ in range(_EPISODE_STEPS):
        yield sample_action(chance, mask)
        if slot.is_over or time.monotonic() > until:
            return


def _outcomes(slot: Slot, seed: int, actions: Iterable[Any]) -> list[Any]:
    """Plays an episode; returns everything comparable (infos may hold times)."""
    slot.begin(seed)
    outcomes: list[Any] = [[row.tobytes() for row in slot.row]]
    for action in actions:
        told = slot.step(copy.deepcopy(action))  # an environment may modify the action
        outcomes += [told[:3], [row.tobytes() for row in slot.row]]
    return outcomes
