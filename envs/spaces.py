"""Says which observation and action spaces the agents understand. Encodes nothing: networks do."""

import numpy as np
from gymnasium import Space, spaces

_OBSERVATIONS = "Box of at most 2 dimensions (a vector or a stack of vectors) or Discrete"
_ACTIONS = "Discrete or Box of 1 dimension with a floating dtype"


def check_spaces(observation_space: Space[object], action_space: Space[object]) -> None:
    """Refuses spaces that no agent can handle yet, before any network is built.

    Args:
        observation_space: that of one environment, not the batched one.
        action_space: likewise.

    Raises:
        ValueError: names the space, what is supported and what to do about it.
    """
    if not _is_supported_observation(observation_space):
        raise ValueError(
            f"the observation space {_one_line(observation_space)} is not supported; "
            f"expected a non-empty {_OBSERVATIONS}. A wrapper such as "
            "gymnasium.wrappers.FlattenObservation in env.wrappers can convert it"
        )
    if not _is_supported_action(action_space):
        raise ValueError(
            f"the action space {_one_line(action_space)} is not supported; "
            f"expected a non-empty {_ACTIONS}. A wrapper in env.wrappers can convert it"
        )


def _is_supported_observation(space: Space[object]) -> bool:
    if isinstance(space, spaces.Box):
        return len(space.shape) <= 2 and int(np.prod(space.shape)) >= 1
    return isinstance(space, spaces.Discrete)


def _is_supported_action(space: Space[object]) -> bool:
    if isinstance(space, spaces.Box):
        is_vector = len(space.shape) == 1 and space.shape[0] >= 1
        return is_vector and np.issubdtype(space.dtype, np.floating)
    return isinstance(space, spaces.Discrete)


def _one_line(space: Space[object]) -> str:
    return " ".join(str(space).split())  # bounds of large boxes print as many lines
