"""Makes one environment with its wrappers, in the process that steps it.

Everything here can be imported by name, as worker processes require.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, RecordEpisodeStatistics

from envs.interface import Environment
from envs.making.registration import import_packages, reason_of
from envs.spaces import check_spaces, one_line
from envs.vector.failures import in_one_line
from envs.wrappers.grids import is_minigrid

Make = Callable[..., Environment]
Wrap = Callable[[Environment], Environment]
Layer = tuple[str, Wrap]  # configuration key and wrapper

_STATISTICS = "every copy of the environment would have statistics of its own; set {}=true instead"
_SUPERFLUOUS: dict[type, str] = {
    RecordEpisodeStatistics: "episodes are recorded already",
    NormalizeObservation: _STATISTICS.format("normalize_observations"),
    NormalizeReward: _STATISTICS.format("normalize_rewards"),
}


def make_layered(make: Make, layers: Sequence[Layer], **how: Any) -> Environment:
    """Makes an environment and wraps it in layers, innermost first.

    Args:
        how: for `make`: a curriculum's `changes` of the environment's arguments, if there are any.

    Raises:
        ValueError: one line that names the configuration key and the fix.
    """
    environment = make(**how)
    try:
        for key, wrap in layers:
            environment = _wrapped(environment, key, wrap)
        return environment
    except BaseException:
        environment.close()
        raise


def checked(name: str, environment: Environment) -> Environment:
    """Returns the environment, if networks can read what it shows.

    Args:
        name: start of messages about its spaces.

    Raises:
        ValueError: a space is not supported, or MiniGrid's raw codes would be read as numbers.
    """
    space = environment.observation_space
    if isinstance(space, spaces.Dict) and "mission" in space.spaces and is_minigrid(environment):
        raise ValueError(
            f"{name}: its observations hold codes and a mission in words, which networks cannot "
            f"read as they are; use env=minigrid {name}, or env=minigrid_rgb for pictures"
        )
    try:
        check_spaces(space, environment.action_space)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return environment


def make_registered(
    packages: Sequence[str], specification: EnvSpec, kwargs: Mapping[str, object], **how: Any
) -> Environment:
    """Makes a registered environment; `packages` are imported first."""
    import_packages(packages)
    # The order of reset and step, checked in every step, is always right here.
    specification = dataclasses.replace(specification, order_enforce=False)
    given = {**kwargs, **how.pop("changes", {})}  # of a curriculum
    environment: Environment = create(gymnasium.make, specification, given, **how)
    return environment


def create(
    make: Callable[..., Any], specification: EnvSpec, kwargs: Mapping[str, object], **how: Any
) -> Any:
    """Calls `make` with a copy of the arguments and raises any error as a `ValueError`."""
    try:
        return make(specification, **how, **copy.deepcopy(dict(kwargs)))
    except Exception as error:
        is_about_kwargs = isinstance(error, TypeError)
        # Gymnasium wraps TypeErrors; the cause has the original message.
        cause = (error.__cause__ if is_about_kwargs else None) or error
        given = f" with env.kwargs={dict(kwargs)}" if kwargs or is_about_kwargs else ""
        raise ValueError(
            f"env.id={specification.id}{given} cannot be made: {reason_of(cause)}"
        ) from error


def _wrapped(environment: Environment, key: str, wrap: Wrap) -> Environment:
    try:
        wrapped = wrap(environment)
        if (reason := _SUPERFLUOUS.get(type(wrapped))) is not None:
            raise ValueError(f"{key}: {reason}; leave {type(wrapped).__name__} out")
        return wrapped
    except Exception as error:
        message = one_line(error)
        # This project's wrappers name their configuration key themselves.
        if isinstance(error, ValueError) and message.startswith(
            ("env.", "env:", "pomdp.", "critic.")
        ):
            raise
        raise ValueError(f"{key}: cannot wrap {environment}: {in_one_line(error)}") from error
