"""The uniformly random behaviour policy for data collection."""

import numpy as np

from networks.heads.acting import PolicyHead
from networks.mirror import Array
from training.stream.storage import Arrays


class UniformPlayer:
    """Samples actions uniformly, in the policy's own action space."""

    def __init__(self, policy_head: PolicyHead, generator: np.random.Generator) -> None:
        """Act in the head's action space; its weights are not used."""
        self.policy_head, self._generator = policy_head, generator

    def initial_state(self, batch_size: int) -> Array:
        """Return an empty state."""
        return np.zeros((batch_size, 0), np.float32)

    def act(
        self, observations: Arrays, state: Array, is_first: Array, *, explore: bool
    ) -> tuple[Array, Array]:
        """Sample actions, independent of observations."""
        return self.policy_head.uniform(self._generator, len(is_first)), state
