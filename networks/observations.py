"""Observations: one tensor, or a flat dictionary of tensors by name.

`envs` flattens nested observation spaces, so that names may be paths such as `goal/position`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from networks.mirror import Array, mirror_of

Observations = Tensor | dict[str, Tensor]
Arrays = Array | dict[str, Array]
"""Observations for acting, which is on arrays."""
Shape = tuple[int, ...]
Shapes = Shape | dict[str, Shape]
"""Shape of one observation, or of its parts by name."""
PartsFunction = Callable[[dict[str, Array]], dict[str, Array]]
T = TypeVar("T")
U = TypeVar("U")

ACTION_MASK = "action_mask."
"""Name of the part that tells legal actions, where the environment has masks."""


def map_observations(
    function: Callable[[T], U], observations: T | dict[str, T]
) -> U | dict[str, U]:
    """Apply a function to the tensor (or array), or to each one in the dictionary."""
    if isinstance(observations, dict):
        return {name: function(part) for name, part in observations.items()}
    return function(observations)


def parts_of(observations: T | dict[str, T]) -> list[T]:
    """List the tensors."""
    return list(observations.values()) if isinstance(observations, dict) else [observations]


def any_part(observations: T | dict[str, T]) -> T:
    """Return the tensor, or any one in the dictionary, for properties that all parts share."""
    return parts_of(observations)[0]


def share_of(observations: T | dict[str, T], reader: str) -> T | dict[str, T]:
    """Select what `actor` or `critic` reads; everything if the observations have no shares.

    Names in a share begin with its reader and a dot, which no environment's own name has. `actor.`
    alone is an observation without parts. A critic without a share reads the actor's.
    """
    if not isinstance(observations, dict):
        return observations
    for start in (f"{reader}.", "actor."):
        own = {n.removeprefix(start): p for n, p in observations.items() if n.startswith(start)}
        if own:
            return own.get("", own)
    return observations


def mask_of(observations: T | dict[str, T] | None) -> T | None:
    """Return the mask of legal actions; None if all are legal."""
    return observations.get(ACTION_MASK) if isinstance(observations, dict) else None


def with_mask(observations: T | dict[str, T], mask: T) -> dict[str, T]:
    """Add a mask of legal actions to what the actor reads."""
    parts = observations if isinstance(observations, dict) else {"": observations}
    return {**{f"actor.{name}": part for name, part in parts.items()}, ACTION_MASK: mask}


class Parts(nn.Module):
    """One module per part of an observation, in fixed order.

    Attributes:
        names: of the parts.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        # With a slash, because a bare name may be an attribute of every module: `type`, `training`.
        self.by_path = nn.ModuleDict({f"/{name}": module for name, module in modules.items()})
        self.names = tuple(modules)

    def __getitem__(self, name: str) -> Any:
        return self.by_path[f"/{name}"]

    def forward(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply each module to its part."""
        return {name: self[name](parts[name]) for name in self.names}

    def mirror(self) -> PartsFunction | None:
        """Numpy form of `forward`; None if a module has none."""
        functions: dict[str, Any] = {name: mirror_of(self[name]) for name in self.names}
        if None in functions.values():
            return None
        return lambda parts: {name: apply(parts[name]) for name, apply in functions.items()}
