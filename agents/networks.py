"""The networks of an agent, as those see them who train, freeze, print and measure them."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

from torch import nn

from agents.auxiliary import AuxiliaryLosses
from networks.acting import PolicyHead
from networks.backbone import Backbone
from networks.heads import ValueHead


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
