"""Makes the environments of a run from the configuration's groups `env` and `pomdp`.

It neither seeds nor steps them: the caller resets them (`envs.seeding`) and must call `close()`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import gymnasium
from gymnasium.vector import VectorEnv

from envs.making.native import make_native
from envs.making.registration import check_keywords, find_specification, import_packages
from envs.making.single import Layer, Wrap, make_layered, make_own, make_registered
from envs.spaces import one_line
from envs.vector.base import OnFailure, SlotVectorEnv
from envs.vector.sequential import SequentialVectorEnv
from envs.vector.workers import WorkerVectorEnv
from envs.wrappers.adapters import PreviousInputs, RawEpisodeStatistics, adapted
from envs.wrappers.frame_stack import FrameStack

Environment = gymnasium.Env[Any, Any]
Environments = VectorEnv[Any, Any, Any]
Vectorization = Literal["sync", "async", "native"]

_ADAPTING: Layer = ("env", adapted)
"""A layer that is always added; does nothing if the spaces are supported as they are."""


def make_environments(
    *,
    id: str,
    kwargs: Mapping[str, object],
    packages: Sequence[str],
    num_envs: int,
    vectorization: Vectorization,
    on_failure: OnFailure,
    step_timeout: float | None,
    time_limit: int | None,
    frame_stack: int,
    previous_action: bool,
    previous_reward: bool,
    wrappers: Sequence[Wrap],
    pomdp: Sequence[Wrap],
) -> Environments:
    """Makes a vector environment that resets in the step after an episode's end (`NEXT_STEP`).

    Layers, innermost first: the environment with its time limit, statistics of raw returns (only
    with `wrappers`, which may change rewards), `wrappers`, `pomdp`, the flattening of nested
    observations, the frame stack, previous action and reward. The next step overwrites
    observations: copy them to keep them.

    Args:
        id: an id in Gymnasium's registry.
        kwargs: keyword arguments of the environment.
        packages: modules to import first, because they register ids.
        num_envs: number of environments.
        vectorization: 'sync' steps them one after another in this process, 'async' each in its own
            process; 'native' is the environment's own vector version, which cannot have wrappers of
            single environments.
        on_failure: what to do when an environment fails; see `envs.vector.base.SlotVectorEnv`.
        step_timeout: seconds after which a process ('async') counts as lost; None for never.
        time_limit: steps after which an episode is truncated; None keeps the environment's own.
        frame_stack: number of stacked observations; 1 does not stack. A native version must stack
            them itself.
        previous_action: whether to append the previous action to the observation.
        previous_reward: whether to append the previous reward.
        wrappers: the user's wrappers, each called with an environment.
        pomdp: likewise, wrappers that hide part of the observation.

    Raises:
        ValueError: one line that names the configuration key and the fix.
    """
    if vectorization not in get_args(Vectorization):
        expected = ", ".join(get_args(Vectorization))
        raise ValueError(f"env.vectorization={vectorization}: expected one of {expected}")
    import_packages(packages)
    specification = find_specification(id)
    check_keywords(specification, kwargs, is_native=vectorization == "native")
    layers = _layers(
        wrappers=wrappers,
        pomdp=pomdp,
        frame_stack=frame_stack,
        previous_action=previous_action,
        previous_reward=previous_reward,
    )
    if vectorization == "native":
        _refuse_layers([layer for layer in layers if layer[0] != "env.frame_stack"])
        _refuse_restarts(on_failure)
        return make_native(specification, kwargs, num_envs, time_limit, frame_stack)
    return _make_vector(
        functools.partial(make_registered, tuple(packages), specification, kwargs, time_limit),
        layers,
        name=f"env.id={id}",
        num_envs=num_envs,
        vectorization=vectorization,
        on_failure=on_failure,
        step_timeout=step_timeout,
    )


def _layers(
    *,
    wrappers: Sequence[Wrap],
    pomdp: Sequence[Wrap],
    frame_stack: int,
    previous_action: bool,
    previous_reward: bool,
) -> list[Layer]:
    """Lists the layers around each environment, innermost first, with their configuration keys."""
    layers: list[Layer] = []
    if wrappers:
        layers.append(("env.wrappers", RawEpisodeStatistics))
    layers += [(f"env.wrappers[{index}]", wrap) for index, wrap in enumerate(wrappers)]
    layers += [(f"pomdp[{index}]", wrap) for index, wrap in enumerate(pomdp)]
    layers.append(_ADAPTING)
    if frame_stack > 1:
        layers.append(("env.frame_stack", functools.partial(FrameStack, size=frame_stack)))
    if previous_action or previous_reward:
        key = "env.previous_action" if previous_action else "env.previous_reward"
        wrap = functools.partial(PreviousInputs, action=previous_action, reward=previous_reward)
        layers.append((key, wrap))
    return layers


def vectorize(
    make: Callable[[], Environment],
    *,
    num_envs: int,
    vectorization: Vectorization,
    on_failure: OnFailure,
    step_timeout: float | None,
    frame_stack: int,
    previous_action: bool,
    previous_reward: bool,
    wrappers: Sequence[Wrap],
    pomdp: Sequence[Wrap],
) -> SlotVectorEnv:
    """Makes a vector environment from `make`, with the layers of `make_environments`.

    Args:
        make: called for each environment, and again after a failure; importable for 'async'.
        vectorization: 'native' means 'sync' here, as there is no native vector version.

    Raises:
        ValueError: as `make_environments`.
    """
    layers = _layers(
        wrappers=wrappers,
        pomdp=pomdp,
        frame_stack=frame_stack,
        previous_action=previous_action,
        previous_reward=previous_reward,
    )
    return _make_vector(
        functools.partial(make_own, make),
        layers,
        name="env",
        num_envs=num_envs,
        vectorization="async" if vectorization == "async" else "sync",
        on_failure=on_failure,
        step_timeout=step_timeout,
    )


def _make_vector(
    make: Callable[[int], Environment],
    layers: Sequence[Layer],
    *,
    name: str,
    num_envs: int,
    vectorization: Vectorization,
    on_failure: OnFailure,
    step_timeout: float | None,
) -> SlotVectorEnv:
    makers = [
        functools.partial(make_layered, make, layers, name, index) for index in range(num_envs)
    ]
    try:
        if vectorization == "sync":
            return SequentialVectorEnv(makers, on_failure=on_failure)
        return WorkerVectorEnv(makers, on_failure=on_failure, step_timeout=step_timeout)
    except RuntimeError as error:  # different spaces, or processes that cannot start
        raise ValueError(f"{name}: {one_line(error)}") from error


def _refuse_layers(layers: Sequence[Layer]) -> None:
    asked_for = [layer for layer in layers if layer is not _ADAPTING]
    if asked_for:
        keys = ", ".join(dict.fromkeys(key.partition("[")[0] for key, _ in asked_for))
        raise ValueError(
            f"env.vectorization=native: cannot be combined with {keys}, which wrap "
            "single environments; use env.vectorization=sync"
        )


def _refuse_restarts(on_failure: OnFailure) -> None:
    if on_failure == "restart":
        raise ValueError(
            "env.vectorization=native: cannot be combined with env.on_failure=restart, which makes "
            "single environments anew; use env.vectorization=sync"
        )
