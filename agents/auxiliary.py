"""The auxiliary losses of an agent: which there are, on which features, and how much they weigh."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.schedules import Schedule
from networks.auxiliary import AuxiliaryLoss, Reading


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
