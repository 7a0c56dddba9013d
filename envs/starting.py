"""Starts environments from the seeds that `envs.seeding` derives."""

from collections.abc import Sequence
from typing import Any, cast

from gymnasium.vector import SyncVectorEnv, VectorEnv

from envs.vector import SlotVectorEnv

Started = tuple[Any, dict[str, Any]]  # observations and infos


def reset_with_seeds(environments: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> Started:
    """Starts every environment anew from its seed.

    Spaces are seeded too, as environments and wrappers may sample from them. A native vector
    environment has one random generator for all its environments and takes the first seed, unless
    it says that it `takes_seeds`.
    """
    unwrapped = environments.unwrapped
    environments.action_space.seed(seeds[0])
    if isinstance(unwrapped, SyncVectorEnv):  # somebody's own
        for environment, seed in zip(unwrapped.envs, seeds, strict=True):
            environment.action_space.seed(seed)
    takes_seeds = getattr(unwrapped, "takes_seeds", False)
    if takes_seeds or isinstance(unwrapped, SlotVectorEnv | SyncVectorEnv):
        reset_all: Any = environments.reset  # typed for one seed, takes one for each too
        return cast("Started", reset_all(seed=list(seeds)))
    return environments.reset(seed=seeds[0])
