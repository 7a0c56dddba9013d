"""The networks of agents that act by the values of actions."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor, nn

from agents.auxiliary import AuxiliaryLosses
from agents.networks import Networks
from networks.backbone import Backbone
from networks.greedy import EpsilonGreedyHead
from networks.heads import ValueHead

Noise = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of noisy layers, for one gradient step: the network's, its target's, and the network's once more
where it chooses for the target."""


@dataclass(frozen=True)
class ActionValues(Networks):
    """A backbone, the values of actions on top of it, and the policy that chooses by them."""

    actor: Backbone
    policy_head: EpsilonGreedyHead
    auxiliary: AuxiliaryLosses

    @property
    def value_head(self) -> ValueHead:  # type: ignore[override]
        """The head by whose values the policy chooses."""
        return self.policy_head.value_head

    @property
    def backbones(self) -> dict[str, Backbone]:
        """One."""
        return {"actor": self.actor}

    @property
    def heads(self) -> dict[str, tuple[nn.Module, str]]:
        """The policy has no parameters of its own."""
        return {"value_head": (self.value_head, "critic")}

    def losses(self, backbone: str) -> tuple[str, ...]:
        """That of the values."""
        return ("critic",)


def taken(outputs: Tensor, actions: Int[Tensor, "L N"]) -> Tensor:
    """Take each row's chosen action, `[L, N, A, *K] -> [L, N, *K]`."""
    index = actions.view(*actions.shape, *[1] * (outputs.ndim - actions.ndim))
    return outputs.gather(2, index.expand(*actions.shape, 1, *outputs.shape[3:])).squeeze(2)
