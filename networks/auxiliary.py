"""Losses on features beside those of reinforcement learning: the interface, and nothing more.

An agent knows no such loss by name. It hands what an extractor read to each of them and adds what
comes back, weighted, to its own losses.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from networks.inputs import ObservationInput
from networks.observations import Observations


@dataclass(frozen=True)
class Source:
    """The extractor that a loss is built for, to be looked at only, and what surrounds it.

    A loss must not keep the extractor as a module of its own: its parameters would be trained
    twice. It tells the sizes and layers that a decoder mirrors.

    Attributes:
        inputs: what the observations mean, part by part.
        extractor: the one whose features the loss will be given.
        feature_size: number of its features, F.
        action_size: numbers in an encoded action, A.
    """

    inputs: ObservationInput
    extractor: nn.Module
    feature_size: int
    action_size: int


@dataclass(frozen=True)
class Reading:
    """What an extractor read in one batch of N sequences of L steps, and what it made of it.

    Attributes:
        rows: scaled and normalised observations as the extractor was given them, those of all
            steps one after another (`features.flatten(0, 1)` are theirs); without gradient.
        features: what the extractor made of them, with its gradient.
        actions: the policy's own at these steps, as numbers (`PolicyHead.encode`).
        is_first: the observation opens an episode.
        valid: False on steps that only reset: their observation is the final one of an episode,
            their action was ignored, and what follows belongs to another episode.
        next_rows, next_features: of the observations that the steps lead to, without gradient; only
            where the loss says `needs_next`. Those of valid steps are of the same episode.
    """

    rows: Observations  # [L * N, *O], or of each part
    features: Float[Tensor, "L N F"]
    actions: Float[Tensor, "L N A"]
    is_first: Bool[Tensor, "L N"]
    valid: Bool[Tensor, "L N"]
    next_rows: Observations | None
    next_features: Float[Tensor, "L N F"] | None


class AuxiliaryLoss(nn.Module, ABC):
    """A loss on features; its constructor takes a `Source`, then keyword-only options.

    Its own parameters make up the part `auxiliary`. Random numbers come from PyTorch's default
    generator, which the agent seeds for each of its updates.
    """

    needs_next: ClassVar[bool] = False
    """Whether `Reading.next_rows` and `next_features` are to be given."""

    @abstractmethod
    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Return the mean over valid steps, a function of tensors without a branch on data."""


def mean_of_valid(losses: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"]) -> Float[Tensor, ""]:
    """Average over valid steps; what stands at the others, even nan, changes nothing."""
    kept = losses.masked_fill(~valid, 0.0)
    return kept.sum() / valid.sum().clamp(min=1)
