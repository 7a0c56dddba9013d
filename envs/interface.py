"""Short names of what Gymnasium's interface takes and returns, and the layers of an environment."""

from collections.abc import Iterator
from typing import Any, SupportsFloat

import gymnasium
import numpy.typing as npt
from gymnasium.vector import VectorEnv

Environment = gymnasium.Env[Any, Any]
Environments = VectorEnv[Any, Any, Any]
Array = npt.NDArray[Any]
Info = dict[str, Any]
Opening = tuple[Any, Info]
"""What `reset` returns: an observation and an info."""
Step = tuple[Any, SupportsFloat, bool, bool, Info]
"""What `step` returns: an observation, a reward, terminated, truncated and an info."""


def layers(environment: Environment) -> Iterator[Environment]:
    """Yields the wrappers and the environment, outermost first."""
    while isinstance(environment, gymnasium.Wrapper):
        yield environment
        environment = environment.env
    yield environment


def full_space(env: Environment) -> gymnasium.Space[Any] | None:
    """Returns the space of what an environment's fully observed twin shows, if it has one."""
    name = "full_observation_space"
    return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None
