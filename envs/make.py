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
from envs.vector import OnFailure, SequentialVectorEnv
from envs.workers import WorkerVectorEnv
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
    vectorization: Literal["sync", "async", "native"],
    on_failure: OnFailure,
    step_timeout: float | None,
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
    observations, the frame stack, previous action and reward. Observations are buffers that the
    next step overwrites: copy what you keep.

    Args:
        id: a name in Gymnasium's registry.
        kwargs: what the environment's constructor takes.
        packages: modules to import first, because they register ids.
        num_envs: how many step together.
        vectorization: 'sync' steps one after another, 'async' each in a process of its own;
            'native' is the environment's own vector version, which admits nothing that wraps single
            environments.
        on_failure: what becomes of an environment that fails: see `SlotVectorEnv`.
        step_timeout: seconds after which an `async` environment counts as hung; None for never.
        time_limit: steps after which an episode is truncated; None leaves the environment's own.
        frame_stack: how many of the last observations are shown; 1 adds nothing.
        previous_action: whether the last action is appended to the observation.
        previous_reward: whether the last reward is.
        wrappers: the user's own, each called with an environment.
        pomdp: likewise, those that hide something.

    Raises:
        ValueError: one line that names the key of the configuration and the remedy.
    """
    if vectorization not in ("sync", "async", "native"):
        raise ValueError(f"env.vectorization={vectorization}: expected sync, async or native")
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
        _check_spaces(environments, name=f"env.id={id}")
        return environments
    make = functools.partial(_make_registered, packages, specification, kwargs, time_limit)
    name = f"env.id={id}"
    return _stepped(
        [
            functools.partial(_make_one, functools.partial(make, index), layers, name)
            for index in range(num_envs)
        ],
        vectorization=vectorization,
        on_failure=on_failure,
        step_timeout=step_timeout,
        name=name,
    )


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
    vectorization: Literal["sync", "async", "native"],
    on_failure: OnFailure,
    step_timeout: float | None,
    frame_stack: int,
    previous_action: bool,
    previous_reward: bool,
    wrappers: Sequence[Wrap],
    pomdp: Sequence[Wrap],
) -> Environments:
    """Step the caller's environments side by side, wrapped as `make_environments` wraps its own.

    Args:
        make: called `num_envs` times; with `async`, a function that other processes can import.
        vectorization: 'native' is stepped one by one, for there is no vector form of these.

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
    return _stepped(
        [functools.partial(_make_one, make, layers, "env")] * num_envs,
        vectorization="async" if vectorization == "async" else "sync",
        on_failure=on_failure,
        step_timeout=step_timeout,
        name="env",
    )


def _check_spaces(environments: Environment | Environments, *, name: str) -> None:
    """Refuse spaces that no agent understands, of one environment or of a vector of them."""
    observations = getattr(environments, "single_observation_space", environments.observation_space)
    actions = getattr(environments, "single_action_space", environments.action_space)
    try:
        check_spaces(observations, actions)
    except ValueError as error:
        environments.close()
        raise ValueError(f"{name}: {error}") from error


def _stepped(
    makers: Sequence[Callable[[], Environment]],
    *,
    vectorization: Literal["sync", "async"],
    on_failure: OnFailure,
    step_timeout: float | None,
    name: str,
) -> Environments:
    """Steps single environments together, in this process or each in one of its own."""
    try:
        if vectorization == "async":
            return WorkerVectorEnv(makers, on_failure=on_failure, step_timeout=step_timeout)
        return SequentialVectorEnv(makers, on_failure=on_failure)
    except RuntimeError as error:  # spaces that differ, a worker that cannot start
        raise ValueError(f"{name}: {one_line(error)}") from error


def _make_one(
    make: Callable[[], Environment], layers: Sequence[tuple[str, Wrap]], name: str
) -> Environment:
    """Makes one environment and wraps it; at the top level, where worker processes find it."""
    environment = make()
    try:
        for key, wrap in layers:
            environment = _wrapped(environment, key, wrap)
    except BaseException:
        environment.close()
        raise
    _check_spaces(environment, name=name)
    return environment


def _make_registered(
    packages: Sequence[str],
    specification: EnvSpec,
    kwargs: Mapping[str, object],
    time_limit: int | None,
    index: int,
) -> Environment:
    import_packages(packages)  # a worker process has not done so yet
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
