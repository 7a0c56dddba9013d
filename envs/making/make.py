"""Makes the environments of a run from the configuration's groups `env` and `pomdp`.

It neither seeds nor steps them: the caller resets them (`envs.seeding`) and must call `close()`.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from conf.schema.run import EnvironmentOptions
from envs.making.native import make_native
from envs.making.registration import check_keywords, find_specification, import_packages
from envs.making.single import Layer, Make, Wrap, checked, make_layered, make_registered
from envs.spaces import one_line
from envs.vector.base import SlotVectorEnv
from envs.wrappers.action_mask import ActionMask, mask_apart
from envs.wrappers.adapters import PreviousInputs, RawEpisodeStatistics, adapted
from envs.wrappers.frame_stack import FrameStack
from envs.wrappers.privileged import PrivilegedObservation

_copies = itertools.count()
"""Numbers the environments that this process makes, for `env.copy_argument`."""


def make_environments(
    env: EnvironmentOptions,
    *,
    num_envs: int,
    wrappers: Sequence[Wrap],
    pomdp: Sequence[Wrap],
    is_privileged: bool = False,
    make: Make | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Makes a vector environment that resets in the step after an episode's end (`NEXT_STEP`).

    Layers, innermost first: the environment with its time limit, statistics of raw returns (only
    with `wrappers`, which may change rewards), `wrappers`, the flattening of nested observations,
    what takes a mask out of them, `pomdp`, the frame stack, previous action and reward, the twin's
    share, the action mask. The next step overwrites observations: copy them to keep them.

    Args:
        num_envs: number of environments, instead of the configured one.
        wrappers: the user's wrappers, each called with an environment.
        pomdp: likewise, wrappers that hide part of the observation.
        is_privileged: also show what only a critic reads, the fully observed twin.
        make: makes the caller's environment, instead of a registered one: for each slot, and again
            after a failure. There is no native vector version of it.

    Raises:
        ValueError: one line that names the configuration key and the fix.
    """
    if make is not None:
        name, makes = "env", [make] * num_envs
    else:
        import_packages(env.packages)
        specification = find_specification(env.id)
        is_native = env.vectorization == "native"
        keywords = {f"env.kwargs.{key}": key for key in env.kwargs}
        if env.copy_argument is not None:
            keywords["env.copy_argument"] = env.copy_argument
        check_keywords(specification, keywords, is_native=is_native)
        if is_native:
            return make_native(specification, env, num_envs, is_privileged=is_privileged)
        name, makes = f"env.id={env.id}", _registered(env, specification, num_envs)
    layers = _layers(env, wrappers, pomdp)
    layers.append((name, functools.partial(checked, name)))
    # These have names of parts that only networks know.
    layers += [("critic.observation", PrivilegedObservation)] if is_privileged else []
    layers += [("env.action_mask", ActionMask)] if env.action_mask else []
    makes = [functools.partial(make_layered, make, layers) for make in makes]
    try:
        return SlotVectorEnv(
            makes,
            on_failure=env.on_failure,
            in_workers=env.vectorization == "async",
            step_timeout=env.step_timeout,
        )
    except RuntimeError as error:  # different spaces, or processes that cannot start
        raise ValueError(f"{name}: {one_line(error)}") from error


def _registered(env: EnvironmentOptions, specification: EnvSpec, num_envs: int) -> list[Make]:
    """Lists what makes each copy of a registered environment."""
    if specification.entry_point is None:
        raise ValueError(
            f"env.id={env.id}: it has a vector form alone; use env.vectorization=native, without "
            "pomdp, env.wrappers and videos"
        )
    registered = functools.partial(
        make_registered, tuple(env.packages), specification, max_episode_steps=env.time_limit
    )
    return [
        # Checks cost time in every step: only the first environment's returns are checked.
        functools.partial(registered, _keywords(env), disable_env_checker=index > 0 or None)
        for index in range(num_envs)
    ]


def _keywords(env: EnvironmentOptions) -> dict[str, Any]:
    return env.kwargs | ({} if env.copy_argument is None else {env.copy_argument: next(_copies)})


def _layers(
    env: EnvironmentOptions, wrappers: Sequence[Wrap], pomdp: Sequence[Wrap]
) -> list[Layer]:
    """Lists the layers around each environment, innermost first, with their configuration keys."""
    layers: list[Layer] = [("env.wrappers", RawEpisodeStatistics)] if wrappers else []
    layers += [(f"env.wrappers[{index}]", wrap) for index, wrap in enumerate(wrappers)]
    layers.append(("env", adapted))
    layers += [("env.action_mask", mask_apart)] if env.action_mask else []
    layers += [(f"pomdp[{index}]", wrap) for index, wrap in enumerate(pomdp)]
    if pomdp:  # a user's own wrapper may return anything
        layers.append(("env", adapted))
    if env.frame_stack > 1:
        layers.append(("env.frame_stack", functools.partial(FrameStack, size=env.frame_stack)))
    if env.previous_action or env.previous_reward:
        key = "env.previous_action" if env.previous_action else "env.previous_reward"
        given: dict[str, Any] = {"action": env.previous_action, "reward": env.previous_reward}
        layers.append((key, functools.partial(PreviousInputs, **given)))
    return layers
