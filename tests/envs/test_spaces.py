"""Nested spaces are taken apart in the space's own order; what reads alike is told."""

import numpy as np
import pytest
from gymnasium import spaces

from envs.spaces import flat_space, flatten_observation, is_nested, reads_alike

BOX, CODE = spaces.Box(-1, 1, (2,)), spaces.Discrete(3, start=1)
NESTED = spaces.Dict(
    [
        ("z", CODE),
        ("goal", spaces.Dict([("y", BOX), ("pair", spaces.Tuple([CODE, spaces.Dict(x=BOX)]))])),
        ("a", spaces.MultiBinary(2)),
    ]
)
NAMES = ["z", "goal/y", "goal/pair/0", "goal/pair/1/x", "a"]


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (BOX, False),
        (CODE, False),
        (spaces.Dict(a=BOX, b=CODE), False),
        (spaces.Dict(a=BOX, b=spaces.Dict(c=CODE)), True),
        (spaces.Dict(a=spaces.Tuple([BOX])), True),
        (spaces.Tuple([BOX]), True),
    ],
)
def test_what_is_nested(space, expected: bool) -> None:
    assert is_nested(space) is expected


def test_parts_are_named_by_paths_in_the_order_of_the_space() -> None:
    flat = flat_space(NESTED)
    assert list(flat.spaces) == NAMES
    assert flat["goal/pair/0"] == CODE
    assert flat["goal/pair/1/x"] == flat["goal/y"] == BOX
    assert list(flat_space(spaces.Tuple([BOX] * 11)).spaces) == [str(i) for i in range(11)]
    assert not is_nested(flat)


def test_an_observation_is_taken_apart_whatever_its_own_order() -> None:
    x, y = np.float32([1, 2]), np.float32([3, 4])
    observation = {"a": np.int8([0, 1]), "goal": {"pair": (2, {"x": x}), "y": y}, "z": 3}
    flat = flatten_observation(observation, NAMES)
    assert list(flat) == NAMES
    assert (flat["z"], flat["goal/pair/0"]) == (3, 2)
    assert flat["goal/pair/1/x"] is x
    assert flat["goal/y"] is y
    assert flatten_observation(flat, NAMES) == flat  # flat already
    assert flatten_observation({**observation, "more": 1}, NAMES).keys() == flat.keys()


def test_samples_come_out_in_the_flat_space() -> None:
    flat = flat_space(NESTED)
    assert all(flat.contains(flatten_observation(NESTED.sample(), flat.spaces)) for _ in range(20))


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        ({"z": 1, "goal": {"y": 1}, "a": 1}, "got one with z, goal, a"),
        ({}, "got one with none"),
        (3, "got a int"),
        (np.zeros(3), "got a ndarray"),
        ((1, 2), "got a tuple"),
        (None, "got a NoneType"),
    ],
)
def test_what_lacks_a_part_is_refused(observation, words: str) -> None:
    with pytest.raises(ValueError, match=rf"with the parts z, goal/y, .*, {words}"):
        flatten_observation(observation, NAMES)


@pytest.mark.parametrize(
    ("space", "other", "expected"),
    [
        (BOX, spaces.Box(-np.inf, np.inf, (2,), np.float64), True),  # read as numbers anyway
        (BOX, spaces.Box(-1, 1, (3,)), False),
        (BOX, spaces.Box(-1, 1, (2, 1)), False),
        (BOX, spaces.MultiBinary(2), False),
        (spaces.Box(0, 255, (2,)), BOX, False),  # divided by 255, and not
        (spaces.Box(0, 255, (2,)), spaces.Box(0, 255, (2,), np.uint8), True),
        (CODE, spaces.Discrete(3), False),
        (CODE, spaces.Discrete(3, start=1), True),
        (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([3, 2]), False),
        (spaces.Dict(a=BOX, b=CODE), spaces.Dict([("b", CODE), ("a", BOX)]), True),
        (spaces.Dict(a=BOX), spaces.Dict(a=BOX, b=CODE), False),
        (spaces.Dict(a=BOX), spaces.Dict(a=CODE), False),
        (spaces.Dict(a=BOX), BOX, False),
    ],
)
def test_what_reads_alike(space, other, expected: bool) -> None:
    assert reads_alike(space, other) is expected
    assert reads_alike(other, space) is expected
