"""Derives the seeds of environments from the seed of a run, never from global random state."""

import zlib

import numpy as np

# Simulators written in C take a signed 32-bit seed.
_SEED_BITS = 31


def environment_seeds(seed: int, num_envs: int, purpose: str, index: int = 0) -> list[int]:
    """Gives every environment a seed of its own.

    The seed of environment `i` depends on `(seed, purpose, index, i)` only: it is the same on every
    machine and in every process, and the number of environments does not change it.

    Args:
        seed: of the run, at least 0.
        num_envs: how many seeds.
        purpose: what the environments are for, as 'train' or 'evaluation'; each has a stream of its
            own.
        index: tells apart repeated uses of one purpose.

    Returns:
        `num_envs` different numbers in `[0, 2**31)`.
    """
    # crc32 because hash() of a string differs between processes.
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
