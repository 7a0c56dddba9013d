"""Builds environments. Imports no torch, so a wrong environment is refused at once."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from omegaconf import DictConfig, OmegaConf

from conf.checking.refusals import InvalidConfiguration
from conf.checking.validation import checked
from conf.composing.configuration import read_only
from conf.schema.run import EnvironmentOptions
from conf.schema.types import Misfit
from envs.interface import Environment, Environments
from envs.making.make import make_environments
from envs.spaces import check_spaces
from envs.vector.base import SlotVectorEnv
from envs.wrappers.action_mask import VectorActionMask
from training.building.instantiation import make_partial, plain

Make = Callable[[], Environment]
_OF_VECTORS = ("render_mode", "num_envs", "vectorization_mode")
"""Arguments that change no episode."""
Source = Environment | Environments | Make | str | None
"""The caller's environment, vector environment, function that makes one, or a registered id."""


def build_environments(
    config: DictConfig, *, num_envs: int, for_acting: bool = False, make: Make | None = None
) -> Environments:
    """Make the configured environments, or wrap those that `make` makes as configured.

    Args:
        for_acting: leave out what only a critic reads (`critic.observation=full`).

    Raises:
        ValueError: one line that names the key of the configuration and the remedy.
    """
    env, hidden = plain(config.env), plain(config.pomdp) or {}
    wrappers = {f"env.wrappers[{index}]": node for index, node in enumerate(env["wrappers"])}
    pomdp = {f"pomdp.{name}": node for name, node in hidden.items()}
    return make_environments(
        EnvironmentOptions(**env),
        num_envs=num_envs,
        wrappers=[make_partial(key, node, gymnasium.Wrapper) for key, node in wrappers.items()],
        pomdp=[make_partial(key, node, gymnasium.Wrapper) for key, node in pomdp.items()],
        is_privileged=config.critic.get("observation") == "full" and not for_acting,
        make=make,
    )


@contextmanager
def open_environments(
    config: DictConfig, env: Source, *, num_envs: int | None = None
) -> Iterator[tuple[DictConfig, Environments]]:
    """Make the configured environments, or wrap the caller's, which stay open if they are objects.

    Args:
        num_envs: of environments that are made; None: as configured.

    Yields:
        The configuration with the caller's environment in it, and the environments.

    Raises:
        ValueError: one line that names the key of the configuration and the remedy.
    """
    config = _with_source(config, env)
    if isinstance(env, VectorEnv):
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.NEXT_STEP or config.env.frame_stack > 1:
            told = f"{AutoresetMode.NEXT_STEP} (got {mode}), and env.frame_stack=1"
            raise ValueError(f"env: expected a vector environment with {told}")
        check_spaces(env.single_observation_space, env.single_action_space)
        yield _named(config, env), _layered(config, env)
    elif isinstance(env, gymnasium.Env):
        yield _named(config, env), build_environments(config, num_envs=1, make=lambda: _Kept(env))
    else:
        own: list[Environment] = []
        make = partial(_noted, env, own) if callable(env) else None
        num_envs = num_envs or config.env.num_envs
        with closing(build_environments(config, num_envs=num_envs, make=make)) as made:
            yield _named(config, own[0] if own else made) if make else config, made


class _Kept(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The caller's environment, which stays open."""

    def close(self) -> None:
        """Leave closing to the caller."""


def _noted(make: Make, own: list[Environment]) -> Environment:
    """Make the caller's environment, and note it as it is below our layers.

    Raises:
        ValueError: it is no environment.
    """
    own[:] = [make()]
    if not isinstance(own[0], gymnasium.Env):
        raise ValueError(f"env: expected a function that makes environments, got {own[0]!r} of it")
    return own[0]


def _layered(config: DictConfig, env: Environments) -> Environments:
    """Show masks in a caller's vector environment; ours has its layers already.

    Raises:
        ValueError: a critic is to read what it cannot show.
    """
    if isinstance(env.unwrapped, SlotVectorEnv | VectorActionMask):
        return env
    if config.critic.get("observation") == "full":
        raise ValueError("critic.observation=full: hand in a function that makes one environment")
    return VectorActionMask(env) if config.env.get("action_mask") else env


def _with_source(config: DictConfig, env: Source) -> DictConfig:
    """Return the configuration for the caller's environment.

    Raises:
        ValueError: it is no environment, or the configuration does not fit it.
    """
    if env is None:
        return config
    typed = plain(config)
    own: dict[str, Any] = {"kwargs": {}, "packages": [], "time_limit": None, "copy_argument": None}
    own["curriculum"] = []
    if isinstance(env, str):
        own = {"id": env}
    elif isinstance(env, gymnasium.Env | VectorEnv):
        count, kind = (env.num_envs, "native") if isinstance(env, VectorEnv) else (1, "sync")
        own |= {"num_envs": count, "vectorization": kind}
        if config.env.on_failure == "restart":
            raise ValueError("env.on_failure=restart: hand in a function that makes it again")
    elif not callable(env):
        known = "an environment, a vector environment, a function that makes one, or an id"
        steps = f"; steps are env_steps={env}" if isinstance(env, int | float) else ""
        raise ValueError(f"env: expected {known}, got {env!r}{steps}")
    typed["env"] |= own
    typed, problems = checked(typed)
    misfit = problems[0] if problems and "num_envs" in own else None
    if isinstance(misfit, Misfit) and misfit.startswith("agent.num_minibatches:"):
        typed["agent"]["num_minibatches"] = misfit.fit
        typed, problems = checked(typed)
    if problems:
        raise InvalidConfiguration(problems)
    return read_only(typed)


def _named(config: DictConfig, env: Any) -> DictConfig:
    """Name a caller's environment in the configuration; its copies are made one by one."""
    first = env.envs[0] if isinstance(env, SlotVectorEnv | SyncVectorEnv) and env.envs else env
    kind = config.env.vectorization.replace("native", "sync")
    return with_values(config, env={"id": _name(first), "vectorization": kind})


def _name(env: Any) -> str:
    """Return the id of an environment that is as it is registered, else the name of its class.

    By a class no environment is made: who needs one is told to hand it in.
    """
    spec, known = env.spec, gymnasium.registry.get(env.spec.id) if env.spec else None
    if known is not None:
        kwargs = {key: value for key, value in spec.kwargs.items() if key not in _OF_VECTORS}
        limit = kwargs.pop("max_episode_steps", spec.max_episode_steps)
        expected = known.max_episode_steps, known.kwargs, known.additional_wrappers
        if repr((limit, kwargs, spec.additional_wrappers)) == repr(expected):
            return str(spec.id)
    return type(env.unwrapped).__name__


def with_values(config: DictConfig, **groups: Any) -> DictConfig:
    """Return a configuration with other values: `env={"num_envs": 1}`."""
    return DictConfig(OmegaConf.merge(config, groups))
