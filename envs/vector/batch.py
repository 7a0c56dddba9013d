"""The arrays that environments write a step into, and what may be written there.

A row is checked when it is written (shape and dtype), the batch as a whole once per step (numbers
that are not finite, codes out of range): what reaches an agent fits its space.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Space, spaces

Array = npt.NDArray[Any]
Observations = Array | dict[str, Array]
Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]  # shape and dtype of arrays, by name
Write = Callable[[Any], None]

_ALIGNMENT = 64  # bytes: a cache line
_NUMBERS = (float, int)
# Networks compute in float32: a number beyond it is as good as infinite.
LARGEST = float(np.finfo(np.float32).max)
# A sum of squares below the bound proves, without a look at each, that no number is.
_BOUNDS = {4: np.float32(np.inf), 8: np.float64(LARGEST) ** 2}  # by bytes of the dtype


class ObservationBatch:
    """The observations of all environments: an array, or one for each part of a Dict.

    Attributes:
        observations: the array `[B, *O]`, or a dictionary of them by name.
        is_sound: tells, quickly, that all is well; False where only `violations` can say.
    """

    def __init__(self, space: Space[Any], num_envs: int, buffer: Any) -> None:
        """Lay the arrays into `buffer`, of at least `observation_bytes`."""
        self._space = space
        self._arrays = arrays_in(buffer, _layout(space, num_envs))
        is_dict = isinstance(space, spaces.Dict)
        self.observations: Observations = self._arrays if is_dict else self._arrays[""]
        parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        checks = {name: _check(part, self._arrays[name]) for name, part in parts.items()}
        quick = [check[0] for check in checks.values() if check is not None]
        self._exact = {name: check[1] for name, check in checks.items() if check is not None}
        self.is_sound = quick[0] if len(quick) == 1 else lambda: all(check() for check in quick)

    def row(self, index: int) -> list[Array]:
        """Returns one environment's part of every array."""
        return [array[index, ...] for array in self._arrays.values()]

    def writer(self, index: int) -> Write:
        """Makes the function that checks one environment's observation and writes its row."""
        if not isinstance(self._space, spaces.Dict):
            return _array_writer(self._arrays[""][index, ...], name="the observation")
        writers = {
            name: _array_writer(array[index, ...], name=f"the observation's {name!r}")
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
        """Says by environment what is wrong with an observation; empty when nothing is."""
        wrong: dict[int, str] = {}
        for name, exact in self._exact.items():
            label = f"the observation's {name!r}" if name else "the observation"
            for index, text in exact().items():
                wrong.setdefault(index, f"{label} has {text}")
        return wrong


def observation_bytes(space: Space[Any], num_envs: int) -> int:
    """Counts the bytes of a batch of observations."""
    return layout_bytes(_layout(space, num_envs))


def _layout(space: Space[Any], num_envs: int) -> Layout:
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    layout: Layout = {}
    for name, part in parts.items():
        shape, dtype = array_kind(part)
        layout[name] = ((num_envs, *shape), dtype)
    return layout


def array_kind(space: Space[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Returns shape and dtype of a space whose elements are arrays or numbers.

    Raises:
        ValueError: they are not.
    """
    kinds = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    if not isinstance(space, kinds):
        raise ValueError(f"{space} is not a space of arrays")
    return space.shape or (), np.dtype(space.dtype.str)  # the one numpy compares at once


def layout_bytes(layout: Layout) -> int:
    """Counts the bytes of a buffer that holds all the arrays."""
    return sum(_padded_bytes(shape, dtype) for shape, dtype in layout.values())


def arrays_in(buffer: Any, layout: Layout) -> dict[str, Array]:
    """Finds the arrays in a buffer, one after another."""
    arrays: dict[str, Array] = {}
    offset = 0
    for name, (shape, dtype) in layout.items():
        arrays[name] = np.frombuffer(buffer, dtype, math.prod(shape), offset).reshape(shape)
        offset += _padded_bytes(shape, dtype)
    return arrays


def _padded_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    size = math.prod(shape) * dtype.itemsize
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _array_writer(row: Array, *, name: str) -> Write:
    dtype, shape = row.dtype, row.shape
    if not shape and dtype.kind in "iu":
        number_types = (int, dtype.type)

        def write_number(value: Any) -> None:
            row[...] = value if type(value) in number_types else _fitted(value, row, name)

        return write_number

    array_type = np.ndarray  # local names: this runs in every step of every environment

    def write(value: Any) -> None:
        if type(value) is array_type and value.dtype == dtype and value.shape == shape:
            row[...] = value
        else:
            row[...] = _fitted(value, row, name)

    return write


def _fitted(value: Any, row: Array, name: str) -> Array:
    """Converts what means the same in the row's dtype; a float is never cut to an integer."""
    array = _array_of(value)
    sources = {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}[row.dtype.kind]
    if array.shape == row.shape and array.dtype.kind in sources:
        with np.errstate(over="ignore"):  # too large for the dtype: infinite, refused below
            fitted = array.astype(row.dtype)
        if row.dtype.kind == "f" or np.array_equal(fitted, array):
            return fitted
    raise ValueError(f"{name} is {_kind(value, array)}, expected {row.dtype} of shape {row.shape}")


def _array_of(value: Any) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError):  # lists of different lengths, and worse
        return np.empty((), np.object_)


def _kind(value: Any, array: Array) -> str:
    what = "an object" if array.dtype.kind == "O" else f"{array.dtype} of shape {array.shape}"
    return f"{what} ({shown(value)})"


def shown(value: Any) -> str:
    """Writes a value in a line, shortened."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_number(reward: Any) -> float:
    """Reads a reward.

    Raises:
        ValueError: it is not one number, in whatever form.
    """
    array = reward if isinstance(reward, _NUMBERS) else _array_of(reward)
    if isinstance(array, np.ndarray):
        if array.size != 1 or array.dtype.kind not in "fiub":
            raise ValueError(f"the reward is {shown(reward)}, expected one number")
        array = array.item()
    try:
        return float(array)
    except OverflowError:  # of an integer
        raise ValueError("the reward is an integer that no float can hold") from None


def not_finite(number: float) -> str:
    """Says how a number is not finite, in float32 too."""
    return f"not finite{' in float32' if math.isfinite(number) else ''} ({number})"


_Check = tuple[Callable[[], bool], Callable[[], dict[int, str]]]


def _check(space: Space[Any], array: Array) -> _Check | None:
    if isinstance(space, spaces.Box):
        return _finite_check(array) if array.dtype.kind == "f" else None
    if isinstance(space, spaces.Discrete):
        return _code_check(array, space.start, space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return _code_check(array, space.start, space.nvec)
    return _code_check(array, 0, 2)


def _finite_check(array: Array) -> _Check:
    flat = array.reshape(-1)
    bound: Any = _BOUNDS.get(array.dtype.itemsize)
    dot = np.vdot  # it warns of no overflow

    def quick() -> bool:
        return bool(dot(flat, flat) < bound)

    def is_finite() -> bool:  # float16 overflows too soon for sums of squares
        return bool(np.isfinite(flat).all())

    def exact() -> dict[int, str]:
        rows = array.reshape(len(array), -1)
        wrong = _not_finite(rows)
        numbers = {int(i): rows[i][wrong[i]][0] for i in np.flatnonzero(wrong.any(axis=1))}
        return {
            index: f"a number that is {not_finite(float(number))}"
            for index, number in numbers.items()
        }

    return (is_finite if bound is None else quick), exact


def _not_finite(array: Array) -> npt.NDArray[np.bool_]:
    wrong = ~np.isfinite(array)
    if array.dtype.itemsize > 4:
        wrong |= np.abs(array) > LARGEST
    return np.asarray(wrong)


def _code_check(array: Array, start: Any, count: Any) -> _Check:
    """Codes are `start <= code < start + count`, each entry by its own."""
    unsigned = np.dtype(f"u{array.dtype.itemsize}")
    first = np.asarray(start).astype(array.dtype)
    largest = (np.asarray(count) - 1).astype(unsigned)
    shifted = np.empty_like(array)
    # Negative numbers become huge ones: one comparison sees both ends.
    seen = shifted.view(unsigned)

    def quick() -> bool:
        np.subtract(array, first, out=shifted)
        return not np.count_nonzero(seen > largest)

    def exact() -> dict[int, str]:
        np.subtract(array, first, out=shifted)
        wrong = (seen > largest).reshape(len(array), -1)
        rows = array.reshape(len(array), -1)
        return {
            int(index): f"the code {rows[index][wrong[index]][0]}, out of its space's range"
            for index in np.flatnonzero(wrong.any(axis=1))
        }

    return quick, exact
