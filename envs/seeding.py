"""Derives the seeds of environments from the seed of a run, and resets environments with them."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

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


def reset_with_seeds(
    environments: VectorEnv[Any, Any, Any], seeds: Sequence[int]
) -> tuple[Any, dict[str, Any]]:
    """Resets every environment with its seed; returns observations and infos.

    The batched action space is seeded too, as who acts may sample from it. A native vector
    environment has one random generator and takes the first seed, unless it has `takes_seeds`.
    """
    environments.action_space.seed(seeds[0])
    takes_seeds = getattr(environments.unwrapped, "takes_seeds", False)
    given: Any = list(seeds) if takes_seeds else seeds[0]
    return environments.reset(seed=given)
