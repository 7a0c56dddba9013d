"""Seeds: different for all, the same everywhere, independent of how many there are."""

import os
import subprocess
import sys

import numpy as np

from envs.seeding import environment_seeds, episode_seed


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
    assert [episode_seed(7, episode) for episode in range(3)] == [7, 1126024335, 648838633]


def test_episodes_have_seeds_of_their_own() -> None:
    """Within an environment, between environments, and between neighbouring seeds."""
    seeds = [*environment_seeds(0, 8, "train"), *range(8), 2**31 - 1, 2**40]
    episodes = {
        (seed, episode): episode_seed(seed, episode) for seed in seeds for episode in range(1000)
    }
    assert len(set(episodes.values())) == len(episodes) == 18_000
    assert all(0 <= episodes[seed, 1] < 2**31 for seed in seeds)
    assert [episodes[seed, 0] for seed in seeds] == seeds


def test_seeds_of_episodes_are_spread_evenly() -> None:
    """Every bit is set in half of them, and changes from each to the next in half of them."""
    seeds = np.array(
        [[episode_seed(seed, episode) for episode in range(1, 2001)] for seed in (0, 1)]
    )
    for bits in (seeds, seeds[:, 1:] ^ seeds[:, :-1], seeds[:1] ^ seeds[1:]):
        set_bits = bits[..., None] >> np.arange(31) & 1
        assert np.abs(set_bits.mean(axis=(0, 1)) - 0.5).max() < 0.05


def test_no_global_random_state_is_touched() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (what is to be left alone)
    environment_seeds(0, 4, "train")
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
