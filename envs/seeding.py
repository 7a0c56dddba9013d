"""Derives the seeds of environments from the seed of a run, and resets environments with them."""

import itertools
import random
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from gymnasium.vector import VectorEnv

_draws = itertools.count(1)
"""Counts the resets in which global generators moved."""
# Simulators in C take signed 32-bit seeds.
_SEED_BITS = 31
_MASK = 2**64 - 1

_OF_ONE_GENERATOR = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


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
        `num_envs` numbers in `[0, 2**31)`; equal ones are as rare as chance has it.
    """
    # crc32, because hash() of a string differs between processes.
    purpose_key = zlib.crc32(purpose.encode())
    seeds = []
    for environment in range(num_envs):
        sequence = np.random.SeedSequence(seed, spawn_key=(purpose_key, index, environment))
        seeds.append(int(sequence.generate_state(1)[0]) >> (32 - _SEED_BITS))
    return seeds


def episode_seed(seed: int, episode: int) -> int:
    """Returns the seed of an environment's episode.

    It depends only on the environment's seed and the episode's number, so that an episode can be
    played again without those before it. A few integer operations cost less than a `SeedSequence`,
    which short episodes would notice.

    Args:
        seed: of the environment, at least 0.
        episode: number of the episode. The first one, 0, has the environment's own seed.

    Returns:
        A number in `[0, 2**31)`, but for the first episode; equal ones are as rare as chance has
        it.

    Source: Steele et al. (2014), "Fast splittable pseudorandom number generators", SplitMix64.
    """
    if episode == 0:
        return seed
    return _mixed(_mixed(seed & _MASK) + episode * 0x9E3779B97F4A7C15 & _MASK) >> (64 - _SEED_BITS)


def seed_spaces(those: Iterable[Space[Any]], seed: int) -> None:
    """Seeds spaces for an episode, each with a stream of its own.

    Setting the state of a generator takes a quarter of the time of `Space.seed`, which makes a new
    one: that is noticed where episodes are short.
    """
    for index, space in enumerate(those):
        if not isinstance(space, _OF_ONE_GENERATOR):
            space.seed(seed)
            continue
        bits = _mixed(seed + (index << 32) & _MASK)
        space.np_random.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": bits << 64 | _mixed(bits), "inc": 1},
            "has_uint32": 0,
            "uinteger": 0,
        }


def _mixed(bits: int) -> int:
    """Maps 64 bits to 64 bits one to one; each one influences all."""
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & _MASK
    return bits ^ bits >> 31


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


def seed_global_generators(seed: int) -> None:
    """Seeds the global generators of a process, for environments that draw from them."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


@contextmanager
def telling_global_draws() -> Iterator[None]:
    """Warns, once, if environments of this process draw from its global generators."""
    before = _global_generators()
    yield
    # Another thread may draw once by chance; an environment does it in every reset.
    if _global_generators() != before and next(_draws) == 2:
        warnings.warn(
            "environments draw from the global generator of random or numpy.random, which no seed "
            "of theirs reaches; draw from self.np_random, or use env.vectorization=async",
            RuntimeWarning,
            stacklevel=4,
        )


def _global_generators() -> tuple[Any, ...]:
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    numbers = state["state"]
    return random.getstate(), bytes(numbers["key"]), numbers["pos"]
