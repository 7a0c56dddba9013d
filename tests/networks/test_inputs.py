"""Observations to network inputs: what each space's rows become, in torch and in numpy alike."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs import spaces as env_spaces
from networks import inputs
from networks.inputs import BoxInput, DictInput, OneHotInput, make_input
from networks.observations import map_observations


def both(module: Any, rows: Any) -> list[Any]:
    """What torch and numpy make of rows, as arrays; the rows must stay as they are."""
    kept = map_observations(np.copy, rows)
    encoded = module(map_observations(torch.from_numpy, rows))
    found = [map_observations(lambda part: part.numpy(), encoded), module.mirror()(rows)]
    np.testing.assert_equal(rows, kept)
    return found


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.uint16, np.int8]
)
def test_boxes_are_cast_and_otherwise_untouched(dtype) -> None:
    module = make_input(spaces.Box(0, 100, (2, 3), dtype))
    rows = np.arange(12).reshape(2, 2, 3).astype(dtype)
    assert isinstance(module, BoxInput)
    assert module.kind == "numbers"
    for found in both(module, rows):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rows)


def test_boxes_of_truth_values() -> None:
    for found in both(make_input(spaces.Box(0, 1, (2,), np.bool_)), np.array([[True, False]])):
        assert found.dtype == np.float32
        assert found.tolist() == [[1, 0]]


def test_a_number_becomes_a_vector_of_one() -> None:
    module = make_input(spaces.Box(0, 100, ()))
    assert module.shape == (1,)
    assert module.observation_shape == ()
    for found in both(module, np.float32([3, 4])):
        assert found.tolist() == [[3], [4]]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 2)], ids=str)
def test_bits_are_numbers_that_are_not_normalised(shape) -> None:
    module = make_input(spaces.MultiBinary(shape))
    rows = np.random.default_rng(0).integers(0, 2, (5, *shape), np.int8)
    assert isinstance(module, BoxInput)
    assert module.kind == "booleans"
    for found in both(module, rows):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rows.reshape(5, *module.shape))


@pytest.mark.parametrize("start", [0, 4, -2])
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_identifiers_become_one_hot(start: int, dtype) -> None:
    module = make_input(spaces.Discrete(3, start=start))
    assert isinstance(module, OneHotInput)
    assert module.observation_shape == ()
    for found in both(module, (np.array([0, 2, 1]) + start).astype(dtype)):
        assert found.dtype == np.float32
        assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_several_identifiers_become_one_hot_side_by_side() -> None:
    space = spaces.MultiDiscrete([2, 3, 1], start=[0, -1, 5])
    module = make_input(space)
    assert isinstance(module, OneHotInput)
    assert module.shape == (6,)
    for found in both(module, np.array([[0, -1, 5], [1, 1, 5], [1, 0, 5]])):
        assert found.dtype == np.float32
        assert found.tolist() == [[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1]]


def test_identifiers_of_any_shape_equal_gymnasiums_one_hot_rows() -> None:
    nvec = np.array([[2, 3, 4], [5, 2, 3]])
    space = spaces.MultiDiscrete(nvec, start=nvec - 4)
    space.seed(0)
    rows = np.stack([space.sample() for _ in range(20)])
    for found in both(make_input(space), rows):
        expected = [spaces.flatten(space, row) for row in rows]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wrong", [-1, 3, 4])
def test_an_identifier_outside_of_its_space_is_refused_where_it_is_acted_on(wrong: int) -> None:
    mirror = make_input(spaces.MultiDiscrete([3, 3])).mirror()
    with pytest.raises(ValueError, match=rf"\[2, {wrong}\] is not in the space MultiDiscrete"):
        mirror(np.array([[0, 0], [2, wrong]]))


INTENSITIES = [
    spaces.Box(0, 255, (5, 6, 3), np.uint8),
    spaces.Box(0, 255, (3, 5, 6), np.float32),
    spaces.Box(0, 255, (2, 5, 6, 3), np.uint8),
    spaces.Box(0, 255, (128,), np.uint8),
    spaces.Box(0, 255, (5, 6), np.int64),
]


@pytest.mark.parametrize("space", INTENSITIES, ids=str)
def test_intensities_are_divided_by_255_once(space) -> None:
    module = make_input(space)
    assert module.kind == "intensities"
    assert module.shape == module.observation_shape == space.shape
    space.seed(0)
    rows = np.stack([space.sample() for _ in range(3)])
    rows[0], rows[1] = 255, 0
    for found in both(module, rows):
        assert found.dtype == np.float32
        assert found[0].min() == found[0].max() == 1.0
        assert found[1].min() == found[1].max() == 0.0
        np.testing.assert_array_equal(found, rows.astype(np.float32) / np.float32(255))


def test_every_intensity_is_the_same_number_in_torch_and_numpy() -> None:
    module = make_input(spaces.Box(0, 255, (256,), np.uint8))
    in_torch, in_numpy = both(module, np.arange(256, dtype=np.uint8)[None])
    np.testing.assert_array_equal(in_torch, in_numpy)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (5, 6, 3)),
        spaces.Box(0, 254, (5, 6, 3), np.uint8),
        spaces.Box(1, 255, (2,), np.uint8),
        spaces.Box(np.float32([0, -1]), np.float32([255, 255])),
        spaces.Box(-np.inf, np.inf, (4,)),
    ],
    ids=str,
)
def test_other_bounds_are_those_of_numbers(space) -> None:
    module = make_input(space)
    assert module.kind == "numbers"
    rows = np.ones((2, *space.shape), space.dtype)
    for found in both(module, rows):
        np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize(
    "space", [spaces.Box(0, 1, (5, 6, 4), np.bool_), spaces.MultiBinary((5, 6, 4))], ids=str
)
def test_images_of_truth_values_keep_their_shape(space) -> None:
    module = make_input(space)
    assert module.kind == "booleans"
    assert module.shape == (5, 6, 4)
    rows = np.random.default_rng(0).integers(0, 2, (3, 5, 6, 4)).astype(space.dtype)
    for found in both(module, rows):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rows)


def brute_force_one_hot(rows, counts, starts) -> np.ndarray:
    """Each position's codes one after another, `[N, ..., C] -> [N, ..., K]`."""
    positions = rows.reshape(-1, len(counts))
    made = [
        [float(code == start + k) for code, n, start in zip(each, counts, starts, strict=True)
         for k in range(n)]
        for each in positions.tolist()
    ]  # fmt: skip
    return np.float32(made).reshape(*rows.shape[:-1], sum(counts))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
@pytest.mark.parametrize("lead", [(4, 5), (2, 4, 5)], ids=str)
def test_a_grid_of_codes_keeps_its_positions(lead, dtype) -> None:
    counts, starts = [3, 2, 4], [0, 1, 2]
    space = spaces.MultiDiscrete(
        np.full((*lead, 3), counts), start=np.full((*lead, 3), starts), dtype=dtype
    )
    module = make_input(space)
    assert isinstance(module, OneHotInput)
    assert (module.kind, module.layout, module.groups) == ("identifiers", "hwc", (3, 2, 4))
    assert module.shape == (*lead, 9)
    assert module.observation_shape == (*lead, 3)
    space.seed(0)
    rows = np.stack([space.sample() for _ in range(3)])
    for found in both(module, rows):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, brute_force_one_hot(rows, counts, starts))


def test_a_grid_of_one_channel_needs_no_axis_for_it() -> None:
    module = make_input(spaces.MultiDiscrete(np.full((2, 3), 4)))
    assert module.shape == (2, 3, 4)
    for found in both(module, np.array([[[0, 1, 2], [3, 3, 3]]])):
        assert found[0, 0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
        assert found[0, 1].tolist() == [[0, 0, 0, 1]] * 3


def test_a_code_outside_of_a_grid_is_refused() -> None:
    mirror = make_input(spaces.MultiDiscrete(np.full((2, 2, 2), [3, 2]))).mirror()
    rows = np.zeros((1, 2, 2, 2), np.int64)
    rows[0, 1, 0] = [1, 2]
    with pytest.raises(ValueError, match=r"the observation \[1, 2\] is not in the space"):
        mirror(rows)


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([[2, 3], [4, 2]]),
        spaces.MultiDiscrete([[2, 2], [2, 2]], start=[[0, 0], [0, 1]]),
        spaces.MultiDiscrete([4, 4, 4]),
        spaces.MultiDiscrete(np.full((1, 1, 1, 1, 2), 3)),
    ],
    ids=str,
)
def test_identifiers_that_differ_from_place_to_place_are_no_grid(space) -> None:
    module = make_input(space)
    assert (module.layout, module.shape) == (None, (int(space.nvec.sum()),))
    assert module.groups == tuple(space.nvec.ravel().tolist())


def test_a_wide_grid_is_no_wide_row() -> None:
    space = spaces.MultiDiscrete(np.full((25, 25, 3), [11, 6, 3]))
    assert make_input(space).shape == (25, 25, 20)


DICT = spaces.Dict(
    [
        ("velocity", spaces.Box(-1, 1, (2,), np.float64)),
        ("goal/code", spaces.Discrete(3, start=1)),
        ("type", spaces.MultiBinary(2)),  # the name of an attribute of every module
        ("a", spaces.Box(-9, 9, ())),
        ("camera", spaces.Box(0, 255, (5, 5), np.uint8)),
        ("map", spaces.MultiDiscrete(np.full((5, 5), 2))),
    ]
)


def test_parts_are_encoded_each_by_its_meaning_in_the_order_of_the_space() -> None:
    module = make_input(DICT)
    assert isinstance(module, DictInput)
    assert module.shape == {
        "velocity": (2,),
        "goal/code": (3,),
        "type": (2,),
        "a": (1,),
        "camera": (5, 5),
        "map": (5, 5, 2),
    }
    assert module.observation_shape == {
        "velocity": (2,),
        "goal/code": (),
        "type": (2,),
        "a": (),
        "camera": (5, 5),
        "map": (5, 5),
    }
    assert module.layout == {**dict.fromkeys(module.shape), "map": "hwc"}
    numbers = [name for name, part in module.inputs.items() if part.kind == "numbers"]
    assert numbers == ["velocity", "a"]
    observations = {
        "type": np.int8([[1, 0], [0, 1]]),
        "a": np.float32([7, 8]),
        "goal/code": np.array([3, 1]),
        "velocity": np.array([[0.5, 1.0], [0.25, 0.0]]),
        "camera": np.full((2, 5, 5), 255, np.uint8),
        "map": np.ones((2, 5, 5), np.int64),
    }
    for found in both(module, observations):
        assert list(found) == ["velocity", "goal/code", "type", "a", "camera", "map"]
        assert (found["camera"] == 1).all()
        assert (found["map"] == [0, 1]).all()
        assert found["velocity"].tolist() == [[0.5, 1.0], [0.25, 0.0]]
        assert found["goal/code"].tolist() == [[0, 0, 1], [1, 0, 0]]
        assert found["type"].tolist() == [[1, 0], [0, 1]]
        assert found["a"].tolist() == [[7], [8]]
        assert {part.dtype for part in found.values()} == {np.dtype(np.float32)}


def test_grids_have_as_many_dimensions_as_environments_may_show() -> None:
    assert inputs.MAX_DIMENSIONS == env_spaces.MAX_DIMENSIONS
    assert make_input(spaces.Discrete(10_000)).shape == (10_000,)


def test_what_is_known_from_the_space_is_not_saved() -> None:
    assert not make_input(DICT).state_dict()
