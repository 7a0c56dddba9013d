"""Builds environments. Imports no torch, so a wrong environment is refused at once."""

from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv
from omegaconf import DictConfig

from envs.making.make import make_environments, vectorize
from training.building.instantiation import make_partial, plain

_OF_REGISTERED = ("id", "kwargs", "packages", "time_limit")
"""Keys of the group `env` for making a registered environment."""
_OF_THE_AGENT = ("image_layout", "life_loss")
"""Keys of the group `env` for collecting, which environments do not need."""


def build_environments(config: DictConfig, *, num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Make the configured environments.

    Raises:
        ValueError: one line that names the key of the configuration and the remedy.
    """
    return make_environments(**_options(config, num_envs))


def wrap_environments(
    config: DictConfig, make: Callable[[], gymnasium.Env[Any, Any]], *, num_envs: int
) -> VectorEnv[Any, Any, Any]:
    """Wrap the caller's environments as configured.

    Raises:
        ValueError: one line that names the key of the configuration and the remedy.
    """
    options = {k: v for k, v in _options(config, num_envs).items() if k not in _OF_REGISTERED}
    return vectorize(make, **options)


def _options(config: DictConfig, num_envs: int) -> dict[str, Any]:
    given = {k: v for k, v in plain(config.env).items() if k not in _OF_THE_AGENT}
    options: dict[str, Any] = {**given, "num_envs": num_envs}
    options["wrappers"] = [
        make_partial(f"env.wrappers[{index}]", wrapper, gymnasium.Wrapper)
        for index, wrapper in enumerate(options["wrappers"])
    ]
    options["pomdp"] = [
        make_partial(f"pomdp.{name}", wrapper, gymnasium.Wrapper)
        for name, wrapper in (plain(config.pomdp) or {}).items()
    ]
    return options
