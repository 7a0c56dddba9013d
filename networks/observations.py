"""Observations are one tensor, or a flat dictionary of tensors by name; this is all that differs.

Nested spaces are flattened by the environment (`envs`), so that a name such as `goal/position` is a
key like any other here.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor, nn

from networks.mirror import Array, RowFunction, mirror_of

Observations = Tensor | dict[str, Tensor]
Shape = tuple[int, ...]
Shapes = Shape | dict[str, Shape]
"""Shape of one observation, or of each of its parts."""
PartsFunction = Callable[[dict[str, Array]], dict[str, Array]]
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


class Parts(nn.Module):
    """A module for each part of an observation, in an order that observations cannot change."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        """Take the modules by name."""
        super().__init__()
        # A bare name could be that of an attribute which every module has: `type`, `training`.
        self.by_path = nn.ModuleDict({f"/{name}": module for name, module in modules.items()})
        self._paths = {name: f"/{name}" for name in modules}

    def __getitem__(self, name: str) -> nn.Module:
        return self.by_path[self._paths[name]]

    def forward(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply each module to the part of its name."""
        return {name: self.by_path[path](parts[name]) for name, path in self._paths.items()}

    def mirror(self) -> PartsFunction | None:
        """Numpy form of `forward`; None when some module has none."""
        functions: dict[str, RowFunction] = {}
        for name in self._paths:
            function = mirror_of(self[name])
            if function is None:
                return None
            functions[name] = function
        return lambda parts: {name: apply(parts[name]) for name, apply in functions.items()}
