"""Builds environments. Imports no torch, so a wrong environment is refused at once."""

from collections.abc import Callable
from typing import Any

import gymnasium
from omegaconf import DictConfig

from conf.schema.run import EnvironmentOptions
from envs.making.make import make_environments
from training.building.instantiation import make_partial, plain
from training.stream.episodes import Environments


def build_environments(
    config: DictConfig,
    *,
    num_envs: int,
    for_acting: bool = False,
    make: Callable[[], gymnasium.Env[Any, Any]] | None = None,
) -> Environments:
    """Make the configured environments, or wrap those that `make` makes as configured.

    Args:
        for_acting: leave out what only a critic reads (`critic.observation=full`).

    Raises:
        ValueError: one line that names the key of the configuration and the remedy.
    """
    return make_environments(
        EnvironmentOptions(**plain(config.env)),
        num_envs=num_envs,
        wrappers=[
            make_partial(f"env.wrappers[{index}]", wrapper, gymnasium.Wrapper)
            for index, wrapper in enumerate(plain(config.env.wrappers))
        ],
        pomdp=[
            make_partial(f"pomdp.{name}", wrapper, gymnasium.Wrapper)
            for name, wrapper in (plain(config.pomdp) or {}).items()
        ],
        is_privileged=config.critic.get("observation") == "full" and not for_acting,
        make=make,
    )
