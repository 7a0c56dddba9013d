"""Makes the environments of a run from the configuration's groups `env` and `pomdp`.

Neither seeds nor steps them: who asks for them resets them (`envs.seeding`) and must call
`close()`, which Gymnasium leaves to the owner.
"""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics

from envs.registration import (
    accepted_keywords,
    check_keywords,
    find_specification,
    import_packages,
    install_hint,
    one_line,
)
from envs.spaces import check_spaces
from envs.vector import SequentialVectorEnv
from envs.wrappers import FrameStack, PreviousInputs, RawEpisodeStatistics, adapted

Environment = gymnasium.Env[Any, Any]
Environments = VectorEnv[Any, Any, Any]
Wrap = Callable[[Environment], Environment]

_ADAPTING: tuple[str, Wrap] = ("env", adapted)
"""The layer that nobody asked for: does nothing where spaces are as agents have them."""


def make_environments(
    *,
    id: str,
    kwargs: Mapping[str, object],
    packages: Sequence[str],
    num_envs: int,
    vectorization: Literal["sync", "native"],
    time_limit: int | None,
    frame_stack: int,
    previous_action: bool,
    previous_reward: bool,
    wrappers: Sequence[Wrap],
    pomdp: Sequence[Wrap],
) -> Environments:
    """Makes environments that step together and restart in the step after an end (`NEXT_STEP`).

    From the inside out: the environment with its time limit, statistics of raw returns (only below
    `wrappers`, which may change rewards), `wrappers`, `pomdp`, the flattening of nested
    observations, the frame stack, previous action and reward. The observations of `sync`
    environments are one buffer that the next step overwrites: copy what you keep.

    Args:
        id: a name in Gymnasium's registry.
        kwargs: what the environment's constructor takes.
        packages: modules to import first, because they register ids.
        num_envs: how many step together.
        vectorization: 'sync' steps one after another; 'native' is the environment's own vector
            version, which admits nothing that wraps single environments.
        time_limit: steps after which an episode is truncated; None leaves the environment's own.
        frame_stack: how many of the last observations are shown; 1 adds nothing.
        previous_action: whether the last action is appended to the observation.
        previous_reward: whether the last reward is.
        wrappers: the user's own, each called with an environment.
        pomdp: likewise, those that hide something.

    Raises:
        ValueError: one line that names the key of the configuration and the remedy.
    """
    if vectorization not in ("sync", "native"):
        raise ValueError(f"env.vectorization={vectorization}: expected sync or native")
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
        _refuse_layers(layers)
        environments = _make_native(specification, kwargs, num_envs, time_limit)
    else:
        make = functools.partial(_make_registered, specification, kwargs, time_limit)
        environments = _make_sync(make, num_envs, layers, name=f"env.id={id}")
    _check_spaces(environments, name=f"env.id={id}")
    return environments


def _layers(
    *,
    wrappers: Sequence[Wrap],
    pomdp: Sequence[Wrap],
    frame_stack: int,
    previous_action: bool,
    previous_reward: bool,
) -> list[tuple[str, Wrap]]:
    """Lists what goes around each environment, inside out, with the key that asked for it."""
    layers: list[tuple[str, Wrap]] = []
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
    frame_stack: int,
    previous_action: bool,
    previous_reward: bool,
    wrappers: Sequence[Wrap],
    pomdp: Sequence[Wrap],
) -> Environments:
    """Step the caller's environments side by side, wrapped as `make_environments` wraps its own.

    Args:
        make: called `num_envs` times.

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
    environments = _make_sync(lambda index: make(), num_envs, layers, name="env")
    _check_spaces(environments, name="env")
    return environments


def _check_spaces(environments: Environments, *, name: str) -> None:
    try:
        check_spaces(environments.single_observation_space, environments.single_action_space)
    except ValueError as error:
        environments.close()
        raise ValueError(f"{name}: {error}") from error


def _make_sync(
    make: Callable[[int], Environment],
    num_envs: int,
    layers: Sequence[tuple[str, Wrap]],
    *,
    name: str,
) -> Environments:
    made: list[Environment] = []

    def make_one() -> Environment:
        environment = make(len(made))
        made.append(environment)
        for key, wrap in layers:
            environment = made[-1] = _wrapped(environment, key, wrap)
        return environment

    try:
        # copy=False: who collects copies into its own storage anyway.
        return SequentialVectorEnv([make_one] * num_envs, copy=False)
    except BaseException as error:
        for environment in made:
            environment.close()
        if isinstance(error, RuntimeError):  # Gymnasium's word for spaces that differ
            raise ValueError(f"{name}: {one_line(error)}") from error
        raise


def _make_registered(
    specification: EnvSpec, kwargs: Mapping[str, object], time_limit: int | None, index: int
) -> Environment:
    # Gymnasium's checker of what an environment returns costs time in every step: only the first
    # one has it.
    environment: Environment = _create(
        specification,
        kwargs,
        lambda own: gymnasium.make(
            specification,
            max_episode_steps=time_limit,
            disable_env_checker=True if index else None,
            **own,
        ),
    )
    return environment


def _make_native(
    specification: EnvSpec,
    kwargs: Mapping[str, object],
    num_envs: int,
    time_limit: int | None,
) -> Environments:
    """Makes the environment's own vector version or nothing: `make_vec` alone chooses itself."""
    if specification.vector_entry_point is None:
        raise ValueError(
            f"env.vectorization=native: {specification.id} has no vector version of its own; "
            "use env.vectorization=sync"
        )
    limit: dict[str, Any] = {}
    if time_limit is not None:
        if "max_episode_steps" not in (accepted_keywords(specification, is_native=True) or ()):
            raise ValueError(
                f"env.time_limit={time_limit}: the vector version of {specification.id} has none; "
                "use env.time_limit=null or env.vectorization=sync"
            )
        limit = {"max_episode_steps": time_limit}
    environments: Environments = _create(
        specification,
        kwargs,
        lambda own: gymnasium.make_vec(
            specification,
            num_envs=num_envs,
            vectorization_mode="vector_entry_point",
            **limit,
            **own,
        ),
    )
    mode = environments.metadata.get("autoreset_mode")
    is_native = not isinstance(environments.unwrapped, SyncVectorEnv | AsyncVectorEnv)
    if mode is not AutoresetMode.NEXT_STEP or not is_native:
        environments.close()
        raise ValueError(
            f"env.vectorization=native: the vector version of {specification.id} is a "
            f"{type(environments.unwrapped).__name__} with autoreset mode {mode}, expected one of "
            f"its own with {AutoresetMode.NEXT_STEP}; use env.vectorization=sync"
        )
    return environments


def _refuse_layers(layers: Sequence[tuple[str, Wrap]]) -> None:
    asked_for = [layer for layer in layers if layer is not _ADAPTING]
    if asked_for:
        keys = ", ".join(dict.fromkeys(key.partition("[")[0] for key, _ in asked_for))
        raise ValueError(
            f"env.vectorization=native: cannot be combined with {keys}, which wrap "
            "single environments; use env.vectorization=sync"
        )


def _create(
    specification: EnvSpec,
    kwargs: Mapping[str, object],
    create: Callable[[dict[str, Any]], Any],
) -> Any:
    """Calls `create` with a copy of the arguments and turns whatever it raises into a refusal."""
    try:
        return create(copy.deepcopy(dict(kwargs)))
    except Exception as error:
        is_about_kwargs = isinstance(error, TypeError)
        # Gymnasium raises TypeErrors anew, with more words; the cause is what the author wrote.
        cause = (error.__cause__ if is_about_kwargs else None) or error
        given = f" with env.kwargs={dict(kwargs)}" if kwargs or is_about_kwargs else ""
        raise ValueError(
            f"env.id={specification.id}{given} cannot be made: "
            f"{type(cause).__name__}: {one_line(cause)}{install_hint(cause)}"
        ) from error


def _wrapped(environment: Environment, key: str, wrap: Wrap) -> Environment:
    try:
        wrapped = wrap(environment)
        if type(wrapped) is RecordEpisodeStatistics:
            raise ValueError(
                f"{key}: episodes are recorded already; leave RecordEpisodeStatistics out"
            )
        return wrapped
    except Exception as error:
        message = one_line(error)
        # Our own wrappers name their key themselves.
        if isinstance(error, ValueError) and message.startswith(("env.", "env:", "pomdp.")):
            raise
        raise ValueError(
            f"{key}: cannot wrap {environment}: {type(error).__name__}: {message}"
        ) from error
