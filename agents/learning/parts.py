"""The networks of an agent and their parts, which are addressed by path."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.schedules import Schedule
from networks.autoencoding.losses import AuxiliaryLoss, LambdaDiscrepancy, Reading
from networks.backbone import Backbone, Stream
from networks.heads.acting import PolicyHead
from networks.heads.distributions import Legal
from networks.heads.values import Summary, ValueHead
from networks.memory.memories import ChosenSteps, pick_steps
from networks.observations import mask_of

AUXILIARY = "auxiliary"
"""Name of the summed auxiliary losses, and of the part that holds their own parameters."""


class AuxiliaryLosses(nn.Module):
    """Weighted sum of auxiliary losses on features.

        L = sum_k w_k(progress) * sum_b L_k(features of backbone b)

    Args:
        losses: by backbone (`actor`, and `critic` if it is separate), then by name; every backbone
            has the same names.
        weights: schedules by name.
    """

    by_backbone: Any

    def __init__(
        self,
        losses: Mapping[str, Mapping[str, AuxiliaryLoss]],
        weights: Mapping[str, Schedule],
    ) -> None:
        super().__init__()
        self.by_backbone = nn.ModuleDict({b: nn.ModuleDict(own) for b, own in losses.items()})
        self._weights = dict(weights)
        self.is_empty = not weights
        modules = [loss for own in losses.values() for loss in own.values()]
        self.needs_next = any(loss.needs_next for loss in modules)
        """Whether any loss reads next observations."""
        self._fitting = [loss for loss in modules if isinstance(loss, LambdaDiscrepancy)]
        self.needs_values = bool(self._fitting)
        """Whether any loss reads values of states, and trains the memory."""

    def __len__(self) -> int:
        return len(self._weights)

    def weights(self, progress: float) -> list[float]:
        """Return the weight of each loss at this progress."""
        return [weight(progress) for weight in self._weights.values()]

    def returns(
        self, summary: Float[Tensor, "T1 B H"], returns_of: Callable[..., Tensor]
    ) -> Float[Tensor, "T B"] | None:
        """Return the returns that a loss fits values of its own to; None if none does.

        Args:
            returns_of: lambda returns of values `[T1, B]` with a `gae_lambda`.
        """
        found = [
            returns_of(each.second_value(summary), gae_lambda=each.gae_lambda)
            for each in self._fitting
        ]
        return found[0] if found else None

    def forward(self, readings: Mapping[str, Reading]) -> dict[str, Float[Tensor, ""]]:
        """Return the unweighted losses by name, summed over backbones."""
        return {
            name: torch.stack([self.by_backbone[b][name](r) for b, r in readings.items()]).sum()
            for name in self._weights
        }


@dataclass(frozen=True)
class Networks:
    """Backbones, heads and auxiliary losses of an agent.

    Attributes:
        critic: the actor itself if both share a backbone, as in agents with action values.
        value_head: part of the policy head if the agent acts by action values.
        own: parts that only the agent's algorithm has, by path.
    """

    actor: Backbone
    critic: Backbone
    policy_head: PolicyHead
    value_head: ValueHead
    auxiliary: AuxiliaryLosses
    own: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def shares_backbone(self) -> bool:
        """Whether actor and critic are one backbone."""
        return self.critic is self.actor

    @property
    def backbones(self) -> dict[str, Backbone]:
        """Distinct backbones by name, `actor` first."""
        return {"actor": self.actor} | ({} if self.shares_backbone else {"critic": self.critic})

    @property
    def acts_by_values(self) -> bool:
        """Whether the policy is greedy in action values and has no parameters of its own."""
        return any(module is self.value_head for module in self.policy_head.modules())

    def legal(self, observations: Stream | None, steps: ChosenSteps = slice(None)) -> Legal | None:
        """Return the legal actions at chosen steps; None if all are."""
        mask: Any = mask_of(observations)
        return None if mask is None else self.policy_head.legal(pick_steps(mask, steps))

    def policy(
        self, summary: Summary, legal: Legal | None, steps: ChosenSteps = slice(None)
    ) -> Any:
        """Return the action distribution of every row, over actions legal at chosen steps."""
        policy: Any = self.policy_head(summary)
        return policy if legal is None else policy.mask_illegal(pick_steps(legal, steps))

    def observe(self, observations: Stream, valid: Bool[Tensor, "T B"]) -> None:
        """Update the normalisation statistics, once where backbones share them."""
        for backbone in {each.normalization: each for each in self.backbones.values()}.values():
            backbone.observe(observations, valid)

    def modules(self) -> list[nn.Module]:
        """All modules, shared ones once."""
        heads = self.policy_head, self.value_head
        return [*self.backbones.values(), *heads, self.auxiliary, *self.own.values()]

    def parts(self) -> dict[str, nn.Module]:
        """Modules by path: `actor.extractor`, `actor.memory`, `policy_head`, ...

        Each parameter belongs to exactly one. What actor and critic share belongs to the actor.
        """
        backbones = self.backbones.items()
        heads = {} if self.acts_by_values else {"policy_head": self.policy_head}
        return {
            **{f"{name}.extractor": backbone.extractor for name, backbone in backbones},
            **{f"{name}.memory": backbone.memory for name, backbone in backbones},
            **heads,
            "value_head": self.value_head,
            **self.own,
            AUXILIARY: self.auxiliary,
        }

    def select(self, path: str) -> list[str]:
        """Return the parts that a path selects.

        `extractor` and `memory` select those of every backbone, `actor` and `critic` a whole
        backbone. Empty if the path matches nothing.
        """
        parts = self.parts()
        if self.shares_backbone and path.partition(".")[0] == "critic":
            path = path.replace("critic", "actor", 1)
        inside = [part for part in parts if f".{path}." in f".{part}."]
        return [path] if path in parts else inside


Routes = dict[str, tuple[str, ...]]
"""Names of the losses that train each part."""


def routes(
    networks: Networks,
    trains: Mapping[str, Collection[str]],
    gradients: Mapping[str, Collection[str]],
) -> Routes:
    """Return the losses that train each part: those that name it, or the configured ones.

    Args:
        trains: the paths that each loss of the agent names.
        gradients: configured losses by path. A path such as `extractor` or `critic` drops the
            losses that are not listed. The full path of a part (`critic.extractor`) also adds
            losses that do not name it.

    Raises:
        ValueError: a path matches no part, or the agent has no such loss.
    """
    names = (*trains, AUXILIARY)
    if not networks.auxiliary.is_empty:
        memory = ("memory",) if networks.auxiliary.needs_values else ()
        trains = {**trains, AUXILIARY: ("extractor", *memory, AUXILIARY)}
    found: dict[str, list[str]] = {part: [] for part in networks.parts()}
    for loss, paths in trains.items():
        for part in {part for path in paths for part in networks.select(path)}:
            found[part].append(loss)
    for path in sorted(gradients, key=len):
        unknown = [loss for loss in gradients[path] if loss not in names]
        if unknown:
            raise ValueError(
                f"gradients.{path}: this agent has no loss {unknown[0]!r}, only {', '.join(names)}"
            )
        for part in selected(networks, f"gradients.{path}", path):
            open_to = trains if path == part else found[part]
            found[part] = [loss for loss in open_to if loss in gradients[path]]
    return {part: tuple(losses) for part, losses in found.items()}


def selected(networks: Networks, key: str, path: str) -> list[str]:
    """Return the parts that a configured path selects; raises a ValueError if none."""
    parts = networks.select(path)
    if not parts:
        raise ValueError(f"{key}: no such part here; parts are {', '.join(networks.parts())}")
    return parts


def trained_by(networks: Networks, routes: Routes) -> Routes:
    """Drop the parts without parameters."""
    parts = networks.parts()
    return {
        part: losses
        for part, losses in routes.items()
        if any(parameter.numel() for parameter in parts[part].parameters())
    }
