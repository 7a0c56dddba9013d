"""Who acts in training where an agent learns from what another policy does."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from networks.heads.acting import PolicyHead, uniform_actions
from networks.mirror import Array
from networks.observations import Arrays, mask_of

if TYPE_CHECKING:
    from agents.agent import Agent


ArrayState = Float[np.ndarray, "B S"]
ArrayFlags = Bool[np.ndarray, " B"]


class Behaviour:
    """The behaviour policy: uniformly random in the agent's own action space, or a finished run's.

    The agent's memory reads along, so that what it learns from has its own states. They come first
    in `[B, S]`, the source's states after them.

    Args:
        agent: that learns; all random numbers are its generator's.
        explores: whether the source's actions are sampled.

    Attributes:
        source: the agent of a finished run; None: uniformly random.
        is_known: whether it can act: a source that is configured has been loaded.
    """

    def __init__(self, agent: "Agent", *, explores: bool, is_random: bool) -> None:
        self._agent, self._explores = agent, explores
        self.source: Agent | None = None
        self._is_random = is_random

    @property
    def is_known(self) -> bool:
        """Whether it can act: a run's policy must have been loaded."""
        return self._is_random or self.source is not None

    @property
    def policy_head(self) -> PolicyHead:
        """The head that defines the action space."""
        head: PolicyHead = (self.source or self._agent).policy_head
        return head

    def initial_state(self, batch_size: int) -> ArrayState:
        """Return the initial memory state of the agent, and of the source."""
        players = [self._agent] if self.source is None else [self._agent, self.source]
        return np.concatenate([each.initial_state(batch_size) for each in players], axis=1)

    def act(
        self, observations: Arrays, state: ArrayState, is_first: ArrayFlags, *, explore: bool
    ) -> tuple[Array, ArrayState]:
        """Choose an action for each environment, and advance both memories."""
        if not self.is_known:
            raise RuntimeError("the run of agent.source, whose policy acts, has not been loaded")
        agent, size = self._agent, self._agent.actor.memory.state_size
        own, rest = state[:, :size], state[:, size:]
        if size:
            _, own = agent.act(observations, own, is_first, explore=False)
        if self.source is None:
            mask = mask_of(observations)
            actions = uniform_actions(agent.policy_head, mask, agent.generator, len(is_first))
        else:
            with self.source.using(agent.generator):
                actions, rest = self.source.act(
                    observations, rest, is_first, explore=self._explores
                )
        return actions, np.concatenate([own, rest], axis=1)
