"""What may be written into a batch, and what is seen when it is looked at as a whole."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from envs.vector.batch import ObservationBatch, as_number, observation_bytes

MOST = float(np.finfo(np.float32).max)


def batch_of(space: spaces.Space[Any], num_envs: int = 3) -> ObservationBatch:
    return ObservationBatch(space, num_envs)


FLOATS = spaces.Box(-1, 1, (2,))
DOUBLES = spaces.Box(-1, 1, (2,), np.float64)
LONGS = spaces.Box(-9, 9, (2,), np.int64)
BYTES = spaces.Box(0, 255, (2,), np.uint8)
BITS = spaces.Box(0, 1, (2,), np.bool_)
NUMBER = spaces.Box(-1, 1, ())
CODE = spaces.Discrete(5, start=-1)


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (FLOATS, np.array([1, 2], np.float32), [1, 2]),
        (FLOATS, np.array([1, 2], np.float64), [1, 2]),
        (FLOATS, np.array([1, 2], np.float16), [1, 2]),
        (FLOATS, np.array([1, 2], ">f4"), [1, 2]),
        (FLOATS, np.array([[1, 2], [3, 4]], np.float32)[:, 1], [2, 4]),
        (FLOATS, np.array([1, 0], np.bool_), [1, 0]),
        (FLOATS, [1, 2.5], [1, 2.5]),
        (FLOATS, (np.float64(1), 2), [1, 2]),
        (DOUBLES, np.array([1, 2], np.float32), [1, 2]),
        (LONGS, np.array([1, -2], np.int8), [1, -2]),
        (LONGS, np.array([1, 2], ">i8"), [1, 2]),
        (LONGS, [True, 2], [1, 2]),
        (BYTES, np.array([0, 255], np.int64), [0, 255]),
        (BITS, [True, False], [True, False]),
        (NUMBER, 0.5, 0.5),
        (NUMBER, np.float64(0.5), 0.5),
        (CODE, 3, 3),
        (CODE, np.int32(-1), -1),
        (CODE, np.array(2), 2),
    ],
)
def test_what_means_the_same_is_converted(space, value, expected) -> None:
    batch = batch_of(space)
    batch.writer(1)(value)
    assert batch.observations[1].tolist() == expected
    assert batch.observations.dtype == space.dtype
    assert not batch.observations[[0, 2]].any()


@pytest.mark.parametrize(
    ("space", "value", "got", "expected"),
    [
        (FLOATS, np.zeros(3, np.float32), "float32 of shape (3,)", "float32 of shape (2,)"),
        (FLOATS, np.zeros((2, 1), np.float32), "shape (2, 1)", "shape (2,)"),
        (FLOATS, 1.0, "shape ()", "shape (2,)"),
        (FLOATS, np.zeros(2, np.complex128), "complex128", "float32"),
        (FLOATS, ["1", "2"], "<U1", "float32"),
        (FLOATS, [None, 1.0], "an object ([None, 1.0])", "float32"),
        (FLOATS, {"x": 1.0}, "an object", "float32"),
        (LONGS, np.array([1.0, 2.0]), "float64", "int64"),
        (LONGS, np.array([2**63, 0], np.uint64), "uint64", "int64"),
        (BYTES, np.array([0, 256]), "int64", "uint8"),
        (BYTES, np.array([-1, 0]), "int64", "uint8"),
        (BITS, np.array([0, 1]), "int64", "bool"),
        (CODE, 1.0, "float64", "int64"),
        (CODE, np.array([1]), "shape (1,)", "shape ()"),
    ],
)
def test_anything_else_is_refused(space, value, got: str, expected: str) -> None:
    batch = batch_of(space)
    with pytest.raises(ValueError) as caught:
        batch.writer(0)(value)
    message = str(caught.value)
    assert message.startswith("the observation is ")
    assert got in message
    assert f"expected {expected}" in message or f"of {expected}" in message
    assert not batch.observations.any()


PARTS = spaces.Dict([("z", spaces.Discrete(3)), ("a", FLOATS)])


def test_parts_are_written_by_name() -> None:
    batch = batch_of(PARTS)
    batch.writer(2)({"a": [1, 2], "z": 1})
    assert list(batch.observations) == list(PARTS.spaces)
    assert batch.observations["z"].tolist() == [0, 0, 1]
    assert batch.observations["a"].tolist() == [[0, 0], [0, 0], [1, 2]]
    assert [part.tolist() for part in batch.row(2)] == [1, [1, 2]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"z": 1}, "keys ['z'], expected ['z', 'a']"),
        ({"z": 1, "a": [0, 0], "b": 1}, "keys ['z', 'a', 'b'], expected"),
        ([1, [0, 0]], "keys [1, [0, 0]], expected"),
        ({"z": 1, "a": [0]}, "the observation's 'a' is"),
    ],
)
def test_parts_must_be_those_of_the_space(value, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        batch_of(PARTS).writer(0)(value)
    assert words in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_seen(dtype, number: float) -> None:
    batch = batch_of(spaces.Box(-1, 1, (2, 2), dtype))
    assert batch.is_sound()
    batch.observations[1, 0, 1] = number
    assert not batch.is_sound()
    text = f"the observation has a number that is not finite ({number})"
    assert batch.violations() == {1: text}
    batch.observations[2, 1, 1] = number
    assert list(batch.violations()) == [1, 2]


@pytest.mark.parametrize(
    ("number", "is_held"), [(MOST, True), (MOST * 1.01, False), (1e308, False)]
)
def test_doubles_beyond_single_precision_are_seen(number: float, is_held: bool) -> None:
    batch = batch_of(DOUBLES)
    batch.observations[0] = -number  # whose sum of squares may be too large for doubles, too
    assert bool(batch.violations()) is not is_held
    if not is_held:
        assert not batch.is_sound()
        assert "not finite in float32" in batch.violations()[0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_large_numbers_are_no_violation(dtype) -> None:
    batch = batch_of(spaces.Box(-1, 1, (2,), dtype))
    batch.observations[:] = np.finfo(dtype).max
    assert batch.violations() == {}


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (spaces.Discrete(3), [0, 2], [-1, 3, 2**40, -(2**63)]),
        (spaces.Discrete(3, start=-2), [-2, 0], [-3, 1]),
        (spaces.Discrete(1, start=7), [7], [6, 8, 0]),
        (spaces.MultiDiscrete([2, 300]), [[0, 0], [1, 299]], [[2, 0], [0, 300], [-1, 0]]),
        (spaces.MultiDiscrete([2, 3], start=[5, -1]), [[6, 1]], [[5, 2], [4, 0], [7, 0]]),
        (spaces.MultiBinary(2), [[0, 1]], [[0, 2], [-1, 0]]),
    ],
)
def test_codes_beyond_their_range_are_seen(space, good, bad) -> None:
    batch = batch_of(space)
    for each in good:
        batch.observations[:] = each
        assert batch.is_sound()
        assert batch.violations() == {}
    for each in bad:
        batch.observations[:] = good[0]
        batch.observations[2] = each
        assert not batch.is_sound()
        (text,) = batch.violations().values()
        assert "out of its space's range" in text


def test_several_parts_are_watched() -> None:
    batch = batch_of(PARTS)
    assert batch.is_sound()
    batch.observations["a"][1, 1] = np.nan
    batch.observations["z"][0] = 9
    assert not batch.is_sound()
    assert batch.violations() == {
        0: "the observation's 'z' has the code 9, out of its space's range",
        1: "the observation's 'a' has a number that is not finite (nan)",
    }


def test_batches_share_the_memory_they_are_given() -> None:
    space = spaces.Dict({"a": spaces.MultiBinary(3), "b": DOUBLES, "c": CODE})
    sizes = observation_bytes(space, 3)
    assert sizes == {"a": 9, "b": 48, "c": 24}
    buffers = {name: np.zeros(size, np.uint8) for name, size in sizes.items()}
    one, other = (ObservationBatch(space, 3, buffers) for _ in range(2))
    one.writer(1)({"a": [0, 1, 1], "b": [0.5, 2.0], "c": 3})
    for name, part in other.observations.items():
        np.testing.assert_array_equal(part, one.observations[name])
        assert part[1].any()
        assert not part[[0, 2]].any()


@pytest.mark.parametrize(
    "reward",
    [1.5, np.float64(1.5), np.float32(1.5), np.array(1.5), np.array([1.5]), np.array([[1.5]])],
)
def test_rewards(reward) -> None:
    assert as_number(reward) == 1.5
    assert type(as_number(reward)) is float


def test_whole_rewards() -> None:
    assert [as_number(each) for each in (2, True, np.int8(-3), np.bool_(True))] == [2, 1, -3, 1]
