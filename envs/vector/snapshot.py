"""Finds and saves an environment's random generators, for replaying an episode.

An environment's state cannot be saved in general, but its random generators can. Their states
before the last reset, and the actions since, reproduce the episode.
"""

import base64
import functools
import gc
import json
import random
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np

from envs.interface import Environment

States = dict[str, Any]  # by path from the outermost wrapper

_MAX_OBJECTS = 20_000  # limit of the search for random generators
_MAX_LENGTH = 256  # longer lists and dictionaries are not searched: they hold data
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
_LEAVES = (str, bytes, int, float, complex, np.ndarray, np.generic, type, types.ModuleType)


def layers(environment: Environment) -> Iterator[Environment]:
    """Yields the wrappers and the environment, outermost first."""
    while isinstance(environment, gymnasium.Wrapper):
        yield environment
        environment = environment.env
    yield environment


@runtime_checkable
class Restorable(Protocol):
    """A vector environment that resumes in the middle of its episodes."""

    def snapshot(self) -> Any:
        """Returns the state as JSON values."""

    def restore(self, snapshot: Any, /) -> list[bool]:
        """Restores a state; returns which environments are restored exactly."""

    def current_observations(self) -> Any:
        """Returns the latest observations."""


class Memories:
    """State that persists across episodes: random generators, and `state_dict()` of layers.

    Generators are found in the attributes of the environment, its wrappers and all objects they
    refer to. A layer (environment or wrapper) with further state across episodes can have
    `state_dict()` and `load_state_dict(state)`, with JSON values.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._layers = [
            (f"{depth}:{type(layer).__name__}", layer)
            for depth, layer in enumerate(layers(environment))
            if hasattr(type(layer), "state_dict") and hasattr(type(layer), "load_state_dict")
        ]
        self.find()

    def find(self) -> None:
        """Searches for generators again: some are created by the first reset."""
        self._holders = list(_generators_in(self._environment))

    def read(self) -> States:
        """Copies all states."""
        states = {path: _state(holder, key) for path, holder, key in self._holders}
        for name, layer in self._layers:
            states[name] = _plain(layer.state_dict())  # type: ignore[attr-defined]
        return states

    def write(self, states: Mapping[str, Any]) -> None:
        """Restores the states of `read`, as far as they exist."""
        for path, holder, key in self._holders:
            if states.get(path) is not None:
                _set_state(holder[key], states[path])
        for name, layer in self._layers:
            if states.get(name) is not None:
                layer.load_state_dict(states[name])  # type: ignore[attr-defined]


def _plain(state: Any) -> Any:
    """Copies a JSON state; None if it is not JSON."""
    try:
        return json.loads(json.dumps(state))
    except (TypeError, ValueError):
        return None


def _generators_in(root: object) -> Iterator[tuple[str, Any, Any]]:
    """Yields each generator once, nearest first: its path, its container and its key."""
    seen = {id(root)}
    waiting = deque([("", root)])
    budget = _MAX_OBJECTS
    while waiting and budget > 0:
        path, owner = waiting.popleft()
        for name, container, key in _contents(owner):
            budget -= 1
            value = container[key]
            if value is None or isinstance(value, _LEAVES) or id(value) in seen:
                continue
            seen.add(id(value))
            here = f"{path}.{name}" if path else name
            if isinstance(value, _GENERATORS):
                yield here, container, key
            else:
                waiting.append((here, value))


def _contents(owner: Any) -> list[tuple[str, Any, Any]]:
    """Lists an object's references: a name, the container and the key."""
    held: Any = owner
    if isinstance(owner, types.FunctionType):
        held = gc.get_referents(*owner.__closure__ or ())
    elif isinstance(owner, types.MethodType | functools.partial):
        held = gc.get_referents(owner)
    elif not isinstance(owner, dict | list | tuple | deque):
        attributes = getattr(owner, "__dict__", None)
        held = attributes if isinstance(attributes, dict) else {}
    if len(held) > _MAX_LENGTH:
        return []
    keys = list(held) if isinstance(held, dict) else range(len(held))
    return [(str(key), held, key) for key in keys]


def _state(holder: Any, key: Any) -> Any:
    try:
        generator = holder[key]
    except LookupError:
        return None
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.getstate() if isinstance(generator, random.Random) else None


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        version, internal, gauss = state
        generator.setstate((version, tuple(internal), gauss))


def encoded(value: Any) -> Any:
    """Converts states and arrays to JSON values, exactly."""
    if isinstance(value, np.ndarray):
        data = base64.b64encode(value.tobytes()).decode()  # bytes do not depend on strides
        return {"__array__": data, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return {str(key): encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def decoded(value: Any) -> Any:
    """Inverse of `encoded`; tuples become lists."""
    if isinstance(value, dict) and "__array__" in value:
        flat = np.frombuffer(base64.b64decode(value["__array__"]), np.dtype(value["dtype"]))
        return flat.reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {key: decoded(item) for key, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value
