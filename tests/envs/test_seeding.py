"""Seeds: different for all, the same everywhere, independent of how many there are."""

import os
import subprocess
import sys

import numpy as np

from envs.seeding import environment_seeds


def test_all_differ_between_environments_purposes_uses_and_runs() -> None:
    every: list[int] = []
    for seed in (0, 1, 2**40):
        for purpose in ("train", "evaluation"):
            for index in range(3):
                every += environment_seeds(seed, 20, purpose, index)
    assert len(every) == len(set(every)) == 360
    assert all(0 <= seed < 2**31 for seed in every)


def test_the_number_of_environments_changes_no_seed() -> None:
    assert environment_seeds(3, 64, "train")[:8] == environment_seeds(3, 8, "train")


def test_hash_randomisation_changes_nothing() -> None:
    code = "from envs.seeding import environment_seeds as s; print(s(5, 3, 'evaluation', 2))"
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert printed[0] == printed[1] == f"{environment_seeds(5, 3, 'evaluation', 2)}\n"


def test_the_seeds_of_a_release_stay_the_seeds() -> None:
    assert environment_seeds(0, 3, "train") == [1547072430, 1265964957, 618931763]


def test_no_global_random_state_is_touched() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (what is to be left alone)
    environment_seeds(0, 4, "train")
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
