"""Makes native vector environments, which cannot have wrappers of single environments.

A time limit and a frame stack are keyword arguments of the native version, or not available.
"""

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from conf.schema.run import EnvironmentOptions
from envs.making.registration import accepted_keywords
from envs.making.single import create
from envs.spaces import check_spaces
from envs.tasks.vector import VectorTask
from envs.wrappers.action_mask import VectorActionMask
from envs.wrappers.privileged import NOTHING_HIDDEN


def make_native(
    specification: EnvSpec, env: EnvironmentOptions, num_envs: int, *, is_privileged: bool
) -> VectorEnv[Any, Any, Any]:
    """Makes the native vector version or raises, where `make_vec` would choose another version."""
    if specification.vector_entry_point is None:
        raise ValueError(
            f"env.vectorization=native: {specification.id} has no vector version of its own; "
            "use env.vectorization=sync"
        )
    environments: VectorEnv[Any, Any, Any] = create(
        gymnasium.make_vec,
        specification,
        env.kwargs,
        num_envs=num_envs,
        vectorization_mode="vector_entry_point",
        **_keywords_of_native(specification, env),
    )
    try:
        _check(environments, specification.id)
        if is_privileged:
            if not isinstance(environments, VectorTask):
                raise ValueError(NOTHING_HIDDEN)
            environments.show_twin()
        return VectorActionMask(environments) if env.action_mask else environments
    except ValueError:
        environments.close()
        raise


def _check(environments: VectorEnv[Any, Any, Any], id: str) -> None:
    mode = environments.metadata.get("autoreset_mode")
    is_native = not isinstance(environments.unwrapped, SyncVectorEnv | AsyncVectorEnv)
    if mode is not AutoresetMode.NEXT_STEP or not is_native:
        raise ValueError(
            f"env.vectorization=native: the vector version of {id} is a "
            f"{type(environments.unwrapped).__name__} with autoreset mode {mode}, expected one of "
            f"its own with {AutoresetMode.NEXT_STEP}; use env.vectorization=sync"
        )
    try:
        check_spaces(environments.single_observation_space, environments.single_action_space)
    except ValueError as error:
        raise ValueError(f"env.id={id}: {error}") from error


def _keywords_of_native(specification: EnvSpec, env: EnvironmentOptions) -> dict[str, Any]:
    """Returns time limit and frame stack as keyword arguments; refuses those not available.

    Clipped scores are refused too: ale-py's vector version clips rewards by default.
    """
    accepted = accepted_keywords(specification, is_native=True) or ()
    asked: dict[str, Any] = {}
    if env.time_limit is not None:
        if "max_episode_steps" not in accepted:
            raise ValueError(
                f"env.time_limit={env.time_limit}: the vector version of {specification.id} has "
                "none; use env.time_limit=null or env.vectorization=sync"
            )
        asked["max_episode_steps"] = env.time_limit
    if "frame_stack" in accepted:
        asked["frame_stack"] = env.frame_stack
    elif env.frame_stack > 1:
        raise ValueError(
            f"env.frame_stack={env.frame_stack}: the vector version of {specification.id} stacks "
            "no frames; use env.frame_stack=1 or env.vectorization=sync"
        )
    key = "reward_clipping"
    if key in accepted and env.kwargs.get(key, True):
        raise ValueError(
            f"env.vectorization=native: {specification.id} clips its rewards, so that scores would "
            f"be clipped; use env=atari, or +env.kwargs.{key}=false"
        )
    return asked
