"""What snapshots of environments consist of: JSON values, and the states of layers."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from envs.interface import Array, Environment, layers

States = dict[str, Any]  # by name of the layer


@runtime_checkable
class Restorable(Protocol):
    """A vector environment that resumes in the middle of its episodes."""

    def snapshot(self) -> Any:
        """Returns the state as JSON values."""

    def restore(self, snapshot: Any, /) -> list[bool]:
        """Restores a state; returns which environments are restored exactly."""

    def current_observations(self) -> Any:
        """Returns the latest observations."""


class LayerStates:
    """What layers (wrappers and the environment) remember across episodes, as they tell it.

    A layer with such a state has `state_dict()` and `load_state_dict(state)`, with JSON values.
    """

    def __init__(self, environment: Environment) -> None:
        # Looked up in the class: a wrapper passes on attributes of what it wraps.
        self._layers: dict[str, Any] = {
            f"{depth}:{type(layer).__name__}": layer
            for depth, layer in enumerate(layers(environment))
            if hasattr(type(layer), "state_dict") and hasattr(type(layer), "load_state_dict")
        }

    def read(self) -> States:
        """Copies all states; None stands for one that is not JSON."""
        return {name: _copied(layer.state_dict()) for name, layer in self._layers.items()}

    def write(self, states: Mapping[str, Any]) -> None:
        """Restores the states of `read`."""
        for name, layer in self._layers.items():
            if states.get(name) is not None:
                layer.load_state_dict(states[name])


def _copied(state: Any) -> Any:
    try:
        return json.loads(json.dumps(state))
    except (TypeError, ValueError):
        return None


def encoded(array: Array) -> dict[str, Any]:
    """Converts an array to JSON values, exactly."""
    data = base64.b64encode(array.tobytes()).decode()  # bytes do not depend on strides
    return {"bytes": data, "dtype": array.dtype.str, "shape": list(array.shape)}


def decoded(values: Mapping[str, Any]) -> Array:
    """Inverse of `encoded`."""
    flat = np.frombuffer(base64.b64decode(values["bytes"]), np.dtype(values["dtype"]))
    return flat.reshape(values["shape"]).copy()
