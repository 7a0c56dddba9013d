"""Supported observation and action spaces, and flattening of nested observations.

Encoding is left to the networks.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

MAX_ONE_HOT = 10_000
"""Largest one-hot size of identifiers."""
MAX_OPTIONS = 1_000_000
"""Most options of a discrete action's choice."""
MAX_GRID = 1_000_000
"""Largest encoded size of a grid of identifiers."""
ARRAYS = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
"""Spaces of arrays or numbers."""
MAX_DIMENSIONS = 4
"""Most dimensions of a Box: those of a stack of images, frames first."""

_PARTS = (
    f"Box of at most {MAX_DIMENSIONS} dimensions (a vector, an image, a stack of either), "
    "Discrete, MultiDiscrete, MultiBinary"
)
_OBSERVATIONS = f"{_PARTS}, or a Dict or Tuple of them, nested or not"
_ACTIONS = "Discrete, MultiDiscrete, MultiBinary or Box with a floating dtype"


def check_spaces(observation_space: Space[Any], action_space: Space[Any]) -> None:
    """Refuses unsupported spaces before networks are built.

    Args:
        observation_space: of one environment, not batched and not nested.
        action_space: likewise.

    Raises:
        ValueError: names the space, the supported ones and the fix.
    """
    if is_nested(observation_space):
        raise ValueError(
            f"the observation space {one_line(observation_space)} is nested, and only single "
            "environments can be taken apart; use env.vectorization=sync"
        )
    for key in _keys(observation_space):
        _check_key(key, forbidden=".")  # names may be paths
    for name, part in leaves(observation_space):
        _check_part(name, part)
    if not _is_supported_action(action_space):
        raise ValueError(
            f"the action space {one_line(action_space)} is not supported; "
            f"expected a non-empty {_ACTIONS}. A wrapper in env.wrappers can convert it"
        )
    choices = getattr(action_space, "nvec", 0)
    most = action_space.n if isinstance(action_space, spaces.Discrete) else np.max(choices)
    if most > MAX_OPTIONS:
        raise ValueError(
            f"the action space {one_line(action_space)} is not supported: networks weigh at most "
            f"{MAX_OPTIONS:,} actions of a choice. A wrapper in env.wrappers can convert it"
        )


def is_nested(space: Space[Any]) -> bool:
    """Whether a space is a Tuple, or a Dict that contains a Dict or Tuple."""
    return any(isinstance(part, spaces.Dict | spaces.Tuple) for part in parts_of(space).values())


def is_grid(space: Space[Any]) -> bool:
    """Whether identifiers form an image: equal numbers of values at every position, per channel.

    `(H, W)` has one channel, `(H, W, C)` several, `(frames, H, W, C)` is a frame stack.
    """
    if not isinstance(space, spaces.MultiDiscrete) or not 2 <= len(space.shape) <= MAX_DIMENSIONS:
        return False
    if 0 in space.shape:
        return False
    return all(bool((each == _channels(each)).all()) for each in (space.nvec, space.start))


def is_intensity(space: Space[Any]) -> bool:
    """Whether all bounds are 0 and 255, as those of pixels and bytes."""
    if not isinstance(space, spaces.Box):
        return False
    return bool((space.low == 0).all() and (space.high == 255).all())


def flat_space(space: Space[Any]) -> spaces.Dict:
    """Flatten a nested space: names become paths, `goal/position`, and Tuple items are numbered.

    The parts keep their order.

    Raises:
        ValueError: a Dict's key is not a string or looks like a path, or a Dict or Tuple is empty.
    """
    for key in _keys(space):
        _check_key(key, forbidden="/.")
    parts = dict(leaves(space))
    for name, part in parts.items():
        if isinstance(part, spaces.Dict | spaces.Tuple):  # empty
            _check_part(name, part)
    return spaces.Dict(list(parts.items()))


def flatten_observation(observation: Any, names: Collection[str]) -> dict[str, Any]:
    """Flatten a nested observation of one environment or of a batch.

    Args:
        observation: mappings and sequences as in the nested space; flat ones are allowed.
        names: of the parts, as in `flat_space`; "" is the whole observation.

    Raises:
        ValueError: a part is missing.
    """
    try:
        return {name: _part(observation, name) for name in names}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        expected = ", ".join(names)
        raise ValueError(
            f"expected an observation with the parts {expected}, got {_outline(observation)}"
        ) from error


def reads_alike(space: Space[Any], other: Space[Any]) -> bool:
    """Whether a network for observations of one space can read those of the other.

    Bounds of numbers may differ, shapes may not. Bounds of intensities may not differ.
    """
    mine, others = (dict(leaves(each)) for each in (space, other))
    return mine.keys() == others.keys() and all(
        (part.shape, is_intensity(part)) == (others[name].shape, is_intensity(others[name]))
        if isinstance(part, spaces.Box) and isinstance(others[name], spaces.Box)
        else part == others[name]
        for name, part in mine.items()
    )


def parts_of(space: Space[Any]) -> Mapping[str, Space[Any]]:
    """Returns a Dict's parts by key; any other space has the key ""."""
    return space.spaces if isinstance(space, spaces.Dict) else {"": space}


def map_parts(function: Callable[[str, Any], Any], whole: Any) -> Any:
    """Applies a function of key and part to an observation, or to its space."""
    if isinstance(whole, np.ndarray):  # most often, and told faster than a mapping
        return function("", whole)
    if isinstance(whole, spaces.Dict):
        return spaces.Dict([(key, function(key, part)) for key, part in whole.spaces.items()])
    if isinstance(whole, Mapping):
        return {key: function(key, part) for key, part in whole.items()}
    return function("", whole)


def one_line(value: object) -> str:
    """Format a space or a message in one line: bounds of large boxes print as many lines."""
    return " ".join(str(value).split())


def _children(space: Space[Any]) -> Mapping[Any, Space[Any]]:
    if isinstance(space, spaces.Dict):
        return space.spaces
    if isinstance(space, spaces.Tuple):
        return {str(index): item for index, item in enumerate(space.spaces)}
    return {}


def leaves(space: Space[Any], name: str = "") -> Iterator[tuple[str, Space[Any]]]:
    """Yield every leaf with its path, "" for a space without parts."""
    children = _children(space)
    if not children:
        yield name, space
    for key, child in children.items():
        yield from leaves(child, f"{name}/{key}" if name else str(key))


def _keys(space: Space[Any]) -> Iterator[object]:
    """Yield the keys of every part, those of nested ones too."""
    for key, child in _children(space).items():
        yield key
        yield from _keys(child)


def _check_key(key: object, *, forbidden: str) -> None:
    if not isinstance(key, str) or not key or any(mark in key for mark in forbidden):
        raise ValueError(
            f"the observation space has the key {key!r}; expected text without '/' and '.', which "
            "separate the names of nested parts. A wrapper in env.wrappers can rename it"
        )


def _check_part(name: str, space: Space[Any]) -> None:
    what = f"the observation's part {name!r} is {one_line(space)}, which"
    if not name:
        what = f"the observation space {one_line(space)}"
    width, positions = _one_hot_size(space)
    if width > MAX_ONE_HOT or positions * width > MAX_GRID:
        most = MAX_ONE_HOT if width > MAX_ONE_HOT else MAX_GRID
        raise ValueError(
            f"{what} is not supported: {max(width, positions * width):,} values are too many to be "
            f"encoded one-hot (at most {most:,}). A wrapper in env.wrappers can make numbers of "
            "them, a Box"
        )
    shape = space.shape or ()
    is_box = isinstance(space, spaces.Box) and len(shape) <= MAX_DIMENSIONS and 0 not in shape
    if not (is_box or width or isinstance(space, spaces.MultiBinary)):
        raise ValueError(
            f"{what} is not supported; expected a non-empty {_OBSERVATIONS}. A wrapper of your own "
            "in env.wrappers can make a Box of it, such as a padded array for a Sequence"
        )


def _one_hot_size(space: Space[Any]) -> tuple[int, int]:
    """Columns per position of identifiers, and positions; 0 columns for other spaces."""
    if isinstance(space, spaces.Discrete):
        return int(space.n), 1
    if not isinstance(space, spaces.MultiDiscrete):
        return 0, 1
    if not is_grid(space):
        return int(space.nvec.sum()), 1
    channels = _channels(space.nvec)
    return int(channels.sum()), space.nvec.size // channels.size


def _channels(sizes: Any) -> Any:
    """Values of a grid's first position, by channel."""
    return sizes.reshape(-1)[:1] if sizes.ndim == 2 else sizes.reshape(-1, sizes.shape[-1])[0]


def _is_supported_action(space: Space[Any]) -> bool:
    if isinstance(space, spaces.Box) and not np.issubdtype(space.dtype, np.floating):
        return False
    return isinstance(space, ARRAYS) and math.prod(space.shape or ()) > 0


def _part(observation: Any, name: str) -> Any:
    if isinstance(observation, Mapping) and name in observation:
        return observation[name]
    part = observation
    for key in filter(None, name.split("/")):  # "" names the whole
        part = part[key] if isinstance(part, Mapping) else part[int(key)]
    return part


def _outline(observation: Any) -> str:
    if isinstance(observation, Mapping):
        return f"one with {', '.join(map(str, observation)) or 'none'}"
    return f"a {type(observation).__name__}"
