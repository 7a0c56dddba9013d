"""Derives the seeds of environments from the seed of a run."""

import zlib

import numpy as np

# Simulators in C take signed 32-bit seeds.
_SEED_BITS = 31


def environment_seeds(seed: int, num_envs: int, purpose: str, index: int = 0) -> list[int]:
    """Returns one seed per environment.

    The seed of environment `i` depends only on `(seed, purpose, index, i)`: not on the machine, the
    process or the number of environments.

    Args:
        seed: of the run, at least 0.
        num_envs: number of seeds.
        purpose: use of the environments, such as 'train' or 'evaluation', with separate seeds.
        index: distinguishes repeated uses of one purpose.

    Returns:
        `num_envs` different numbers in `[0, 2**31)`.
    """
    # crc32, because hash() of a string differs between processes.
    purpose_key = zlib.crc32(purpose.encode())
    seeds: list[int] = []
    for environment in range(num_envs):
        sequence = np.random.SeedSequence(seed, spawn_key=(purpose_key, index, environment))
        words = 1
        while (candidate := _last_word(sequence, words)) in seeds:
            words += 1
        seeds.append(candidate)
    return seeds


def _last_word(sequence: np.random.SeedSequence, words: int) -> int:
    return int(sequence.generate_state(words, np.uint32)[-1]) >> (32 - _SEED_BITS)
