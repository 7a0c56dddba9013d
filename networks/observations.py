"""Observations are one tensor, or a flat dictionary of tensors by name; this is all that differs.

Nested spaces are flattened by the environment (`envs`), so that a name such as `goal/position` is a
key like any other here.
"""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

Observations = Tensor | dict[str, Tensor]
T = TypeVar("T")
U = TypeVar("U")


def map_observations(
    function: Callable[[T], U], observations: T | dict[str, T]
) -> U | dict[str, U]:
    """Apply a function to the tensor (or array), or to each one of the dictionary."""
    if isinstance(observations, dict):
        return {name: function(part) for name, part in observations.items()}
    return function(observations)


def any_part(observations: T | dict[str, T]) -> T:
    """Return the tensor, or one of the dictionary: what holds of all can be read off any."""
    if isinstance(observations, dict):
        return next(iter(observations.values()))
    return observations
