"""Builds environments. Imports no torch, so a wrong environment is refused at once."""

from collections.abc import Callable
from typing import Any

import gymnasium
from omegaconf import DictConfig

from conf.schema.run import EnvironmentOptions
from envs.interface import Environments
from envs.making.make import make_environments
from training.building.instantiation import make_partial, plain

Make = Callable[[], gymnasium.Env[Any, Any]]


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
