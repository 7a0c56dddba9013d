"""Wrappers that make environments partially observable."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from envs.spaces import one_line

# Indices of the velocities, by the environment's name without version.
_VELOCITIES: dict[str, tuple[int, ...]] = {
    "Acrobot": (4, 5),
    "CartPole": (1, 3),
    "LunarLander": (2, 3, 5),
    "LunarLanderContinuous": (2, 3, 5),
    "MountainCar": (1,),
    "MountainCarContinuous": (1,),
    "Pendulum": (2,),
}


class MaskVelocity(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Sets velocities to zero: they must be inferred from previous positions.

    The vector keeps its size, so the same network fits with and without the mask.

    Args:
        dimensions: indices to set to zero; null for the known ones of the environment's id.

    Raises:
        ValueError: the environment is not known, or the indices do not fit its observation.

        Source: RL Baselines3 Zoo, `MaskVelocityWrapper`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, dimensions: Sequence[int] | None) -> None:
        RecordConstructorArgs.__init__(self, dimensions=dimensions)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(
                "pomdp.mask_velocity: expected observations that are a vector, not "
                f"{one_line(space)}"
            )
        known = _known_dimensions(env) if dimensions is None else tuple(dimensions)
        self._hidden = _checked(known, size=space.shape[0])
        low, high = space.low.copy(), space.high.copy()
        low[self._hidden] = np.minimum(low[self._hidden], 0)  # zero must lie inside the space
        high[self._hidden] = np.maximum(high[self._hidden], 0)
        self.observation_space = spaces.Box(low, high, dtype=space.dtype.type)

    def observation(self, observation: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Masks a copy, as the environment may still use its array."""
        masked = np.array(observation)
        masked[self._hidden] = 0
        return masked


def _known_dimensions(env: gymnasium.Env[Any, Any]) -> tuple[int, ...]:
    spec = env.spec
    is_original = env.observation_space.shape == env.unwrapped.observation_space.shape
    if spec is None or spec.namespace or spec.name not in _VELOCITIES or not is_original:
        raise ValueError(
            f"pomdp.mask_velocity.dimensions: the velocities of {spec.id if spec else env} with "
            f"observations of shape {env.observation_space.shape} are not known; name their "
            "indices, as 'pomdp.mask_velocity.dimensions=[1,3]'"
        )
    return _VELOCITIES[spec.name]


def _checked(dimensions: tuple[int, ...], *, size: int) -> list[int]:
    is_valid = len(set(dimensions)) == len(dimensions) > 0
    if not is_valid or not all(0 <= dimension < size for dimension in dimensions):
        raise ValueError(
            f"pomdp.mask_velocity.dimensions={list(dimensions)}: expected different indices from 0 "
            f"to {size - 1}"
        )
    return list(dimensions)
