"""The networks of agents that act by the values of actions."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from agents.learning.schedules import Schedule
from networks.autoencoding.losses import AuxiliaryLoss, Reading
from networks.backbone import Backbone
from networks.heads.acting import PolicyHead
from networks.heads.greedy import EpsilonGreedyHead
from networks.heads.values import ValueHead


class AuxiliaryLosses(nn.Module):
    """Losses on features beside those of reinforcement learning, weighed and added up.

        L = sum_k w_k(progress) * sum_b L_k(features of backbone b)

    Args:
        losses: by backbone (`actor`, and `critic` where it is another one), then by name; each
            backbone has the same names.
        weights: by name, over the run's progress.
    """

    def __init__(
        self,
        losses: Mapping[str, Mapping[str, AuxiliaryLoss]],
        weights: Mapping[str, Schedule],
    ) -> None:
        """Take the losses."""
        super().__init__()
        self.by_backbone = nn.ModuleDict(
            {backbone: nn.ModuleDict(own) for backbone, own in losses.items()}
        )
        self._weights = dict(weights)
        modules = [loss for own in losses.values() for loss in own.values()]
        self.needs_next = any(loss.needs_next for loss in modules)
        """Whether some loss reads what a step led to."""

    def __len__(self) -> int:
        return len(self._weights)

    @property
    def tags(self) -> tuple[str, ...]:
        """TensorBoard's names of the losses."""
        return tuple(f"loss/{name}" for name in self._weights)

    def weights(self, progress: float) -> Float[Tensor, " K"]:
        """Weigh each loss at a point of the run."""
        return torch.tensor([weight(progress) for weight in self._weights.values()])

    def forward(self, readings: Mapping[str, Reading]) -> Float[Tensor, " K"]:
        """Return every loss, summed over backbones, unweighted."""
        return torch.stack(
            [
                torch.stack([self._loss(backbone, name)(r) for backbone, r in readings.items()])
                for name in self._weights
            ]
        ).sum(1)

    def _loss(self, backbone: str, name: str) -> nn.Module:
        own = self.by_backbone[backbone]
        assert isinstance(own, nn.ModuleDict)
        return own[name]


class Networks(ABC):
    """One backbone that acts, perhaps others, heads on top of them, auxiliary losses beside them.

    Attributes:
        actor: reads the stream while acting.
        policy_head: chooses actions.
        value_head: tells values.
        auxiliary: losses on the backbones' features.
    """

    actor: Backbone
    policy_head: PolicyHead
    value_head: ValueHead
    auxiliary: AuxiliaryLosses

    @property
    @abstractmethod
    def backbones(self) -> dict[str, Backbone]:
        """The distinct ones by name, `actor` first."""

    @property
    @abstractmethod
    def heads(self) -> dict[str, tuple[nn.Module, str]]:
        """Every head that has parameters of its own, with the loss that trains it."""

    def modules(self) -> list[nn.Module]:
        """All of them, those in common once."""
        return [*self.backbones.values(), self.policy_head, self.value_head, self.auxiliary]

    @abstractmethod
    def losses(self, backbone: str) -> tuple[str, ...]:
        """Name the losses of reinforcement learning that are computed on a backbone."""

    @property
    def shares_backbone(self) -> bool:
        """Whether there is one backbone for everything."""
        return len(self.backbones) == 1

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of `extractor, memory, actor, critic, auxiliary`; all backbones' together."""
        backbones = self.backbones.values()
        heads = self.heads.values()
        return {
            "extractor": [p for each in backbones for p in each.extractor.parameters()],
            "memory": [p for each in backbones for p in each.memory.parameters()],
            "actor": [p for head, loss in heads if loss == "actor" for p in head.parameters()],
            "critic": [p for head, loss in heads if loss == "critic" for p in head.parameters()],
            "auxiliary": list(self.auxiliary.parameters()),
        }


def trained_by(
    networks: Networks, routes: Mapping[str, Collection[str]]
) -> dict[str, tuple[str, ...]]:
    """Tell which losses train each module once nothing is frozen: what is declared and reaches it.

    Args:
        routes: the losses that may train a part, by part.

    Returns:
        losses by module: `actor.extractor`, ..., or `extractor`, ... of a backbone in common.
        Modules without parameters are left out.
    """
    return {
        name: losses
        for name, (module, losses) in _reached(networks, routes).items()
        if any(parameter.numel() for parameter in module.parameters())
    }


def still(networks: Networks, routes: Mapping[str, Collection[str]]) -> list[nn.Module]:
    """List the modules that no loss trains: they are to stay as they are, decay included."""
    return [module for module, losses in _reached(networks, routes).values() if not losses]


def _reached(
    networks: Networks, routes: Mapping[str, Collection[str]]
) -> dict[str, tuple[nn.Module, tuple[str, ...]]]:
    auxiliary = ("auxiliary",) if len(networks.auxiliary) else ()
    reached: dict[str, tuple[nn.Module, tuple[str, ...]]] = {}
    for name, backbone in networks.backbones.items():
        prefix = "" if networks.shares_backbone else f"{name}."
        own = networks.losses(name)
        for part, losses in {"extractor": (*own, *auxiliary), "memory": own}.items():
            allowed = tuple(loss for loss in losses if loss in routes.get(part, losses))
            reached[f"{prefix}{part}"] = getattr(backbone, part), allowed
    for name, (head, loss) in networks.heads.items():
        reached[name] = head, (loss,)
    reached["auxiliary"] = networks.auxiliary, auxiliary
    return reached


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
