"""The networks of an actor-critic: what they are made of, and what they say of a batch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from agents.auxiliary import AuxiliaryLosses
from agents.reading import auxiliary_losses, read_features
from agents.sequences import Batch
from networks.backbone import Backbone
from networks.heads import ValueHead
from networks.policy_heads import PolicyHead


@dataclass(frozen=True)
class ActorCritic:
    """The networks; actor and critic are one and the same object where they share everything."""

    actor: Backbone
    critic: Backbone
    policy_head: PolicyHead
    value_head: ValueHead
    auxiliary: AuxiliaryLosses

    @property
    def shares_backbone(self) -> bool:
        """Whether actor and critic read the stream with the same extractor and memory."""
        return self.critic is self.actor

    @property
    def backbones(self) -> dict[str, Backbone]:
        """The distinct ones by name: `actor`, and `critic` where it is another."""
        return {"actor": self.actor} | ({} if self.shares_backbone else {"critic": self.critic})

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of `extractor, memory, actor, critic, auxiliary`; both backbones' together."""
        backbones = self.backbones.values()
        return {
            "extractor": [p for each in backbones for p in each.extractor.parameters()],
            "memory": [p for each in backbones for p in each.memory.parameters()],
            "actor": list(self.policy_head.parameters()),
            "critic": list(self.value_head.parameters()),
            "auxiliary": list(self.auxiliary.parameters()),
        }


def reach(
    networks: ActorCritic, routes: Mapping[str, Collection[str]]
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


def still(networks: ActorCritic, routes: Mapping[str, Collection[str]]) -> list[nn.Module]:
    """List the modules that no loss trains: they are to stay as they are, decay included."""
    return [module for module, losses in _reached(networks, routes).values() if not losses]


def _reached(
    networks: ActorCritic, routes: Mapping[str, Collection[str]]
) -> dict[str, tuple[nn.Module, tuple[str, ...]]]:
    auxiliary = ("auxiliary",) if len(networks.auxiliary) else ()
    reached: dict[str, tuple[nn.Module, tuple[str, ...]]] = {}
    for name, backbone in networks.backbones.items():
        prefix, own = (
            ("", ("actor", "critic")) if networks.shares_backbone else (f"{name}.", (name,))
        )
        for part, losses in {"extractor": (*own, *auxiliary), "memory": own}.items():
            allowed = tuple(loss for loss in losses if loss in routes.get(part, losses))
            reached[f"{prefix}{part}"] = getattr(backbone, part), allowed
    reached["policy_head"] = networks.policy_head, ("actor",)
    reached["value_head"] = networks.value_head, ("critic",)
    reached["auxiliary"] = networks.auxiliary, auxiliary
    return reached


@dataclass(frozen=True)
class ActorCriticBatch(Batch):
    """What a policy and its critic are fitted to, as they were before the first gradient step.

    Attributes:
        critic_features, critic_state: those of a critic with a backbone of its own; the state is
            the actor's where they share one.
    """

    critic_features: Float[Tensor, "L N F_c"] | None
    old_log_probs: Float[Tensor, "L N"]
    old_values: Float[Tensor, "L N"]
    advantages: Float[Tensor, "L N"]
    returns: Float[Tensor, "L N"]
    critic_state: Float[Tensor, "1 N S_c"]


@dataclass(frozen=True)
class Outputs:
    """What the networks say of a batch.

    Attributes:
        log_probs: of the batch's actions.
        entropies: of the policy.
        values: the value head's raw output.
        auxiliary: every auxiliary loss.
    """

    log_probs: Float[Tensor, "L N"]
    entropies: Float[Tensor, "L N"]
    values: Float[Tensor, "L N *K"]
    auxiliary: Float[Tensor, " A"]


def read(networks: ActorCritic, batch: ActorCriticBatch) -> Outputs:
    """Read a batch with all networks."""
    extract = partial(
        read_features,
        batch=batch,
        auxiliary=networks.auxiliary,
        encode=networks.policy_head.encode,
    )
    features, reading = extract(networks.actor, known=batch.actor_features)
    readings = {"actor": reading}
    summary, _ = networks.actor.memory(features, batch.actor_state[0], batch.is_first)
    distribution = networks.policy_head(summary)
    if not networks.shares_backbone:
        features, readings["critic"] = extract(networks.critic, known=batch.critic_features)
        summary, _ = networks.critic.memory(features, batch.critic_state[0], batch.is_first)
    return Outputs(
        log_probs=distribution.log_prob(batch.actions),
        entropies=distribution.entropy(),
        values=networks.value_head(summary),
        auxiliary=auxiliary_losses(networks.auxiliary, readings, features),
    )
