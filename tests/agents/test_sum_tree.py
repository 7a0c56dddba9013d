"""The tree of sums against numpy's cumulative sum."""

import numpy as np
import pytest

from agents.replay.samplers import SumTree


def filled(leaves: np.ndarray) -> SumTree:
    tree = SumTree(len(leaves))
    tree.fill(slice(0, len(leaves)), leaves)
    return tree


@pytest.mark.parametrize("capacity", [1, 5, 32, 33, 1024, 1025, 5000])
def test_a_leaf_is_found_by_the_sum_of_those_before_it(capacity: int) -> None:
    generator = np.random.default_rng(capacity)
    leaves = generator.integers(1, 9, capacity).astype(np.float32)  # sums are exact
    leaves[generator.random(capacity) < 0.4] = 0
    leaves[capacity // 2] = 3
    tree = filled(leaves)
    assert tree.total == leaves.sum()
    fractions = np.append(generator.random(200), [0.0, np.nextafter(1.0, 0.0)])
    slots, values = tree.find(fractions)
    expected = np.searchsorted(leaves.cumsum(), fractions * tree.total, side="right")
    np.testing.assert_array_equal(slots, expected)
    np.testing.assert_array_equal(values, leaves[expected])


def test_leaves_of_nothing_are_never_found() -> None:
    generator = np.random.default_rng(0)
    leaves = np.zeros(3000, np.float32)
    some = generator.choice(3000, 40, replace=False)
    leaves[some] = generator.random(40).astype(np.float32) ** 8 + 1e-7
    ends = np.nextafter(1.0, 0.0) - generator.random(500) * 1e-15
    slots, values = filled(leaves).find(np.concatenate([ends, np.zeros(5), generator.random(5000)]))
    assert set(slots.tolist()) <= set(some.tolist())
    assert (values > 0).all()


def test_rounding_leads_to_no_empty_leaf() -> None:
    for seed in range(40):
        generator = np.random.default_rng(seed)
        leaves = (10.0 ** generator.uniform(-12, 3, 5000)).astype(np.float32)
        leaves[::32] = 0  # where one lands who finds no sum that is large enough
        tree = filled(leaves)
        ends = np.nextafter(leaves.reshape(-1, 8).sum(1, dtype=np.float64).cumsum(), 0.0)
        fractions = np.append(ends / tree.total, np.nextafter(1.0, 0.0))
        _, values = tree.find(np.minimum(fractions, np.nextafter(1.0, 0.0)))
        assert (values > 0).all()


def test_a_tree_depends_on_its_leaves_alone() -> None:
    generator = np.random.default_rng(1)
    tree = SumTree(2500)
    leaves = np.zeros(2500, np.float32)
    for _ in range(200):
        slots = generator.integers(0, 2500, 30)
        values = generator.random(30) * 10.0 ** generator.integers(-6, 6)
        tree.set(slots, values)
        leaves[slots] = values
        first = int(generator.integers(0, 2400))
        stretch = slice(first, first + int(generator.integers(1, 100)))
        tree.fill(stretch, 0.25)
        leaves[stretch] = 0.25
    np.testing.assert_array_equal(tree.leaves, leaves)
    anew = filled(leaves)
    for level, other in zip(tree._levels, anew._levels, strict=True):
        np.testing.assert_array_equal(level, other)
    assert tree.total == pytest.approx(leaves.sum(dtype=np.float64), rel=1e-12)


def test_the_last_of_several_values_for_a_leaf_counts() -> None:
    tree = SumTree(40)
    tree.set(np.array([7, 7, 3]), np.array([1.0, 2.0, 4.0]))
    assert tree.leaves[[3, 7]].tolist() == [4, 2]
    assert tree.total == 6
