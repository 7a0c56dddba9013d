"""Observation buffers of vector environments, and their checks.

Shape and dtype of a row are checked when it is written. Values (not finite, codes out of range) are
checked once per step for the whole batch. Observations therefore always fit their space.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces

from envs.interface import Array
from envs.spaces import ARRAYS, parts_of

Observations = Array | dict[str, Array]
Write = Callable[[Any], None]

# Networks compute in float32, where larger numbers are infinite.
LARGEST = float(np.finfo(np.float32).max)
# A sum of squares below the bound proves that no number is beyond it. (Those of float16 overflow,
# and every number is looked at.)
_BOUNDS = {8: np.float64(LARGEST) ** 2}  # by bytes of the dtype


class ObservationBatch:
    """Observations of all environments: an array, or one for each part of a Dict.

    Attributes:
        observations: the array `[B, *O]`, or a dictionary of arrays by name.
        is_sound: fast check: True if all values are valid; if False, `violations` decides.
    """

    def __init__(
        self, space: Space[Any], num_envs: int, buffers: Mapping[str, Any] | None = None
    ) -> None:
        """Places the arrays in `buffers` of `observation_bytes`; without them, in new memory."""
        self._is_dict = isinstance(space, spaces.Dict)
        parts = parts_of(space)
        self._arrays: dict[str, Array] = {}
        for name, part in parts.items():
            shape, dtype = array_kind(part)
            buffer = np.zeros((num_envs, *shape), dtype) if buffers is None else buffers[name]
            self._arrays[name] = np.frombuffer(buffer, dtype).reshape(num_envs, *shape)
        self.observations: Observations = self._arrays if self._is_dict else self._arrays[""]
        checks = {name: _check(part, self._arrays[name]) for name, part in parts.items()}
        self._checks = {name: check for name, check in checks.items() if check is not None}
        quick = [check.is_sound for check in self._checks.values()]
        self.is_sound = quick[0] if len(quick) == 1 else lambda: all(check() for check in quick)

    def row(self, index: int) -> list[Array]:
        """Returns one environment's row of every array."""
        return [array[index, ...] for array in self._arrays.values()]

    def writer(self, index: int) -> Write:
        """Returns the function that checks one environment's observation and writes its row."""
        if not self._is_dict:
            return _array_writer(self._arrays[""][index, ...], name=_label(""))
        writers = {
            name: _array_writer(array[index, ...], name=_label(name))
            for name, array in self._arrays.items()
        }

        def write(observation: Any) -> None:
            if not isinstance(observation, Mapping) or observation.keys() != writers.keys():
                got = list(observation) if isinstance(observation, Mapping) else shown(observation)
                raise ValueError(f"the observation has the keys {got}, expected {list(writers)}")
            for name, write_part in writers.items():
                write_part(observation[name])

        return write

    def violations(self) -> dict[int, str]:
        """Returns error messages by environment; empty if all observations are valid."""
        wrong: dict[int, str] = {}
        for name, check in self._checks.items():
            rows = self._arrays[name].reshape(len(self._arrays[name]), -1)
            masks = check.wrong().reshape(rows.shape)
            for index in np.flatnonzero(masks.any(axis=1)).tolist():
                text = check.text(rows[index][masks[index]][0])
                wrong.setdefault(index, f"{_label(name)} has {text}")
        return wrong


def observation_bytes(space: Space[Any], num_envs: int) -> dict[str, int]:
    """Returns the size of every part of a batch of observations."""
    kinds = {name: array_kind(part) for name, part in parts_of(space).items()}
    return {
        name: num_envs * math.prod(shape) * dtype.itemsize for name, (shape, dtype) in kinds.items()
    }


def _label(name: str) -> str:
    return f"the observation's {name!r}" if name else "the observation"


def converted(actions: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Casts actions to the action space's dtype; ValueError if kind or shape differ."""
    if actions.shape == shape and np.can_cast(actions.dtype, dtype, "same_kind"):
        return actions.astype(dtype)
    raise ValueError(
        f"expected actions of dtype {dtype} and shape {shape}, "
        f"got {actions.dtype} and {actions.shape}"
    )


def array_kind(space: Space[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Returns shape and dtype of a space of arrays or numbers.

    Raises:
        ValueError: the space is of another kind.
    """
    if not isinstance(space, ARRAYS):
        raise ValueError(f"{space} is not a space of arrays")
    return space.shape or (), np.dtype(space.dtype.str)  # the dtype that numpy compares fastest


def _array_writer(row: Array, *, name: str) -> Write:
    dtype, shape = row.dtype, row.shape
    if not shape and dtype.kind in "iu":
        number_types = (int, dtype.type)

        def write_number(value: Any) -> None:
            row[...] = value if type(value) in number_types else _fitted(value, row, name)

        return write_number

    array_type = np.ndarray  # local variable, as this runs in every step of every environment

    def write(value: Any) -> None:
        if type(value) is array_type and value.dtype == dtype and value.shape == shape:
            row[...] = value
        else:
            row[...] = _fitted(value, row, name)

    return write


def _fitted(value: Any, row: Array, name: str) -> Array:
    """Converts a value to the row's dtype if lossless in meaning; never a float to an integer."""
    array = _array_of(value)
    sources = {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}[row.dtype.kind]
    if array.shape == row.shape and array.dtype.kind in sources:
        with np.errstate(over="ignore"):  # overflow to infinity is refused below
            fitted = array.astype(row.dtype)
        if row.dtype.kind == "f" or np.array_equal(fitted, array):
            return fitted
    raise ValueError(f"{name} is {_kind(value, array)}, expected {row.dtype} of shape {row.shape}")


def _array_of(value: Any) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError):  # such as lists of different lengths
        return np.empty((), np.object_)


def _kind(value: Any, array: Array) -> str:
    what = "an object" if array.dtype.kind == "O" else f"{array.dtype} of shape {array.shape}"
    return f"{what} ({shown(value)})"


def shown(value: Any) -> str:
    """Formats a value in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_number(reward: Any) -> float:
    """Converts a reward to a float.

    Raises:
        ValueError: it is not a single number.
    """
    if not isinstance(reward, float | int):
        array = _array_of(reward)
        if array.size != 1 or array.dtype.kind not in "fiub":
            raise ValueError(f"the reward is {shown(reward)}, expected one number")
        reward = array.item()
    try:
        return float(reward)
    except OverflowError:
        raise ValueError("the reward is an integer that no float can hold") from None


def not_finite(number: float) -> str:
    """Describes a number that is not finite, or too large for float32."""
    return f"not finite{' in float32' if math.isfinite(number) else ''} ({number})"


class _Check(NamedTuple):
    """A fast check of an array as a whole, the mask of its wrong values, and what to say of one."""

    is_sound: Callable[[], bool]
    wrong: Callable[[], Array]
    text: Callable[[Any], str]


def _check(space: Space[Any], array: Array) -> _Check | None:
    if isinstance(space, spaces.Box):
        return _finite_check(array) if array.dtype.kind == "f" else None
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        count = space.n if isinstance(space, spaces.Discrete) else space.nvec
        return _code_check(array, space.start, count)
    return _code_check(array, 0, 2)


def _finite_check(array: Array) -> _Check:
    flat, dot = array.reshape(-1), np.vdot  # does not warn of overflow
    bound: Any = _BOUNDS.get(array.dtype.itemsize, np.float32(np.inf))
    return _Check(
        lambda: bool(dot(flat, flat) < bound),
        lambda: np.asarray(~(np.abs(array.astype(np.float64)) <= LARGEST)),
        lambda number: f"a number that is {not_finite(float(number))}",
    )


def _code_check(array: Array, start: Any, count: Any) -> _Check:
    """Checks `start <= code < start + count` elementwise."""
    unsigned = np.dtype(f"u{array.dtype.itemsize}")
    first = np.asarray(start).astype(array.dtype)
    largest = (np.asarray(count) - 1).astype(unsigned)
    shifted = np.empty_like(array)
    # Negative numbers become huge unsigned ones: one comparison checks both bounds.
    seen = shifted.view(unsigned)

    def wrong() -> Array:
        np.subtract(array, first, out=shifted)
        return np.asarray(seen > largest)

    return _Check(
        lambda: not np.count_nonzero(wrong()),
        wrong,
        lambda code: f"the code {code}, out of its space's range",
    )
