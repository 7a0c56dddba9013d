"""Observations with two shares: what the policy sees, and what its fully observed twin shows.

They are one flat Dict. The parts of the policy's share are named `actor.<part>`, those of the
twin's `critic.<part>`, and what has no parts `actor.` or `critic.`; no environment's own names have
dots. `networks.observations.share_of` selects a share.
"""

import copy
from typing import Any

import gymnasium
from gymnasium import Space, spaces
from gymnasium.utils import RecordConstructorArgs

from envs.interface import full_space
from envs.spaces import flatten_observation, leaves

NOTHING_HIDDEN = (
    "critic.observation=full: this environment hides nothing that it could tell a critic; use "
    "pomdp=..., task=memory, or an environment with the method full_observation and the attribute "
    "full_observation_space"
)


class Shares:
    """Joins the two shares, of one environment or of a batch.

    Attributes:
        space: of the joined observation.
    """

    def __init__(self, seen: Space[Any], full: Space[Any]) -> None:
        wholes = {"actor": seen, "critic": full}
        self._names = {who: dict(leaves(space)).keys() for who, space in wholes.items()}
        parts = [(f"{who}.{n}", p) for who, space in wholes.items() for n, p in leaves(space)]
        # Copies: those of a class or a module are shared, with their random state.
        self.space = spaces.Dict(copy.deepcopy(parts))

    def __call__(self, seen: Any, full: Any) -> dict[str, Any]:
        """Joins two observations."""
        return {
            f"{who}.{name}": part
            for who, whole in (("actor", seen), ("critic", full))
            for name, part in flatten_observation(whole, self._names[who]).items()
        }


class PrivilegedObservation(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Shows the fully observed twin beside what the policy sees; the outermost wrapper.

    Raises:
        ValueError: the environment does not tell what it hides.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        full = full_space(env)
        if full is None:
            raise ValueError(NOTHING_HIDDEN)
        self._shares = Shares(env.observation_space, full)
        self.observation_space = self._shares.space

    def observation(self, observation: Any) -> dict[str, Any]:
        """Adds the twin's share."""
        return self._shares(observation, self.env.get_wrapper_attr("full_observation")())
