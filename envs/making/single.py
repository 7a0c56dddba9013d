"""Makes one environment with all that goes around it, in whichever process it is to be stepped.

Everything here is found by name, so that a worker process can import it.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import RecordEpisodeStatistics

from envs.making.registration import import_packages, install_hint
from envs.spaces import check_spaces, one_line
from envs.wrappers.grids import is_minigrid

Environment = gymnasium.Env[Any, Any]
Wrap = Callable[[Environment], Environment]
Layer = tuple[str, Wrap]  # the key of the configuration that asked for it, and what it does


def make_layered(
    make: Callable[[int], Environment], layers: Sequence[Layer], name: str, index: int
) -> Environment:
    """Makes an environment and puts layers around it, inside out.

    Args:
        name: what a message about its spaces begins with.
        index: its place among those that step together.

    Raises:
        ValueError: one line that names the key of the configuration and the remedy.
    """
    environment = make(index)
    try:
        for key, wrap in layers:
            environment = _wrapped(environment, key, wrap)
        _refuse_raw_grids(environment, name)
        try:
            check_spaces(environment.observation_space, environment.action_space)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    except BaseException:
        environment.close()
        raise
    return environment


def _refuse_raw_grids(environment: Environment, name: str) -> None:
    """Refuses codes and a mission as MiniGrid shows them: they would be taken for numbers."""
    space = environment.observation_space
    if isinstance(space, spaces.Dict) and "mission" in space.spaces and is_minigrid(environment):
        raise ValueError(
            f"{name}: its observations hold codes and a mission in words, which networks cannot "
            f"read as they are; use env=minigrid {name}, or env=minigrid_rgb for pictures"
        )


def make_registered(
    packages: Sequence[str],
    specification: EnvSpec,
    kwargs: Mapping[str, object],
    time_limit: int | None,
    index: int,
) -> Environment:
    """Makes a registered environment; `packages` are imported first."""
    import_packages(packages)
    # Gymnasium's checks cost time in every step: what an environment returns is checked of the
    # first one only, that it is reset before it is stepped is certain here.
    specification = dataclasses.replace(specification, order_enforce=False)
    environment: Environment = create(
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


def make_own(make: Callable[[], Environment], index: int) -> Environment:
    """Makes an environment of the caller's."""
    return make()


def create(
    specification: EnvSpec,
    kwargs: Mapping[str, object],
    how: Callable[[dict[str, Any]], Any],
) -> Any:
    """Calls `how` with a copy of the arguments and turns whatever it raises into a refusal."""
    try:
        return how(copy.deepcopy(dict(kwargs)))
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
