"""Derives the seeds of environments from the seed of a run, never from global random state."""

import zlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv

# Simulators written in C take a signed 32-bit seed.
_SEED_BITS = 31

Started = tuple[Any, dict[str, Any]]  # observations and infos


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


def reset_with_seeds(environments: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> Started:
    """Starts every environment anew from its seed.

    Spaces are seeded too, as environments and wrappers may sample from them. A native vector
    environment has one random generator for all its environments and takes the first seed.
    """
    from envs.vector import SlotVectorEnv  # which derives seeds with this module

    unwrapped = environments.unwrapped
    environments.action_space.seed(seeds[0])
    if isinstance(unwrapped, SyncVectorEnv):  # somebody's own
        for environment, seed in zip(unwrapped.envs, seeds, strict=True):
            environment.action_space.seed(seed)
    if isinstance(unwrapped, SlotVectorEnv | SyncVectorEnv):
        reset_all: Any = environments.reset  # typed for one seed, takes one for each too
        return cast("Started", reset_all(seed=list(seeds)))
    return environments.reset(seed=seeds[0])
