"""Observations with two shares: what the policy sees, and what its fully observed twin shows.

They are one flat Dict. The parts of the policy's share are named `actor.<part>`, those of the
twin's `critic.<part>`, and what has no parts `actor.` or `critic.`; no environment's own names have
dots. `networks.observations.share_of` selects a share. A mask of legal actions is a third one.
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
    """Joins shares by the names of their readers, of one environment or of a batch.

    Attributes:
        space: of the joined observation.
    """

    def __init__(self, **wholes: Space[Any]) -> None:
        self._names = {who: dict(leaves(space)).keys() for who, space in wholes.items()}
        parts = [(f"{who}.{n}", p) for who, space in wholes.items() for n, p in leaves(space)]
        # Copies: those of a class or a module are shared, with their random state.
        self.space = spaces.Dict(copy.deepcopy(parts))

    def __call__(self, **wholes: Any) -> dict[str, Any]:
        """Joins observations."""
        return {
            f"{who}.{name}": part
            for who, whole in wholes.items()
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
        self._shares = Shares(actor=env.observation_space, critic=full)
        self.observation_space = self._shares.space

    def observation(self, observation: Any) -> dict[str, Any]:
        """Adds the twin's share."""
        full = self.env.get_wrapper_attr("full_observation")()
        return self._shares(actor=observation, critic=full)
