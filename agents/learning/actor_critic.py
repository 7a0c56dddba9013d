"""The networks of an actor-critic: what they are made of, and what they say of a batch."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from agents.learning.parts import AuxiliaryLosses, Networks
from agents.learning.sequences import Batch
from agents.learning.unroll import read_features
from networks.autoencoding.losses import Reading
from networks.backbone import Backbone
from networks.heads.policy import DistributionHead
from networks.heads.values import ValueHead


@dataclass(frozen=True)
class ActorCritic(Networks):
    """The networks; actor and critic are one and the same object where they share everything."""

    actor: Backbone
    critic: Backbone
    policy_head: DistributionHead
    value_head: ValueHead
    auxiliary: AuxiliaryLosses

    @property
    def backbones(self) -> dict[str, Backbone]:
        """`actor`, and `critic` where it is another."""
        return {"actor": self.actor} | (
            {} if self.critic is self.actor else {"critic": self.critic}
        )

    @property
    def heads(self) -> dict[str, tuple[nn.Module, str]]:
        """One of each kind."""
        return {
            "policy_head": (self.policy_head, "actor"),
            "value_head": (self.value_head, "critic"),
        }

    def losses(self, backbone: str) -> tuple[str, ...]:
        """Both on one in common, else its own."""
        return ("actor", "critic") if self.shares_backbone else (backbone,)


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


def read(networks: ActorCritic, batch: Batch) -> Outputs:
    """Read a batch with all networks."""
    readings: dict[str, Reading] = {}
    features = read_features(
        networks, "actor", batch, known=batch.actor_features, readings=readings
    )
    summary, _ = networks.actor.memory(features, batch.actor_state[0], batch.is_first)
    distribution = networks.policy_head(summary)
    if not networks.shares_backbone:
        features = read_features(
            networks, "critic", batch, known=batch.critic_features, readings=readings
        )
        summary, _ = networks.critic.memory(features, batch.critic_state[0], batch.is_first)
    return Outputs(
        log_probs=distribution.log_prob(batch.actions),
        entropies=distribution.entropy(),
        values=networks.value_head(summary),
        auxiliary=networks.auxiliary(readings) if readings else features.new_zeros(0),
    )
