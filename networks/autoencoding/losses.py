"""Losses on features beside those of reinforcement learning: their interface, and three of them.

An agent knows no such loss by name. It hands what an extractor read to each of them and adds what
comes back, weighted, to its own losses.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from networks.autoencoding.decoders import DecoderFactory, DenseDecoder
from networks.autoencoding.gaussian import divergence, draw, zero_linear
from networks.autoencoding.reconstruction import ObservationDecoder
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

    def pictures(self, rows: Observations, features: Float[Tensor, "N F"]) -> dict[str, Tensor]:
        """Draw what the loss makes of images among the rows, `uint8 [H, W, 3]` by part."""
        return {}


def mean_of_valid(losses: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"]) -> Float[Tensor, ""]:
    """Average over valid steps; what stands at the others, even nan, changes nothing."""
    kept = losses.masked_fill(~valid, 0.0)
    return kept.sum() / valid.sum().clamp(min=1)


class Reconstruction(AuxiliaryLoss):
    """Say again what was observed, from the features: a decoder beside the agent.

        reconstruction(decode(f), rows) + latent_decay / 2 |f|^2

    Args:
        decoder: makes the decoder of each part; None mirrors the extractor.
        latent_decay: weight of the features' squares, which keeps them small.

    Source: Yarats et al. (2021), arXiv:1910.01741, eq. 4.
    """

    def __init__(
        self, source: Source, *, decoder: DecoderFactory | None, latent_decay: float
    ) -> None:
        """Build the decoder."""
        super().__init__()
        self.decoder = ObservationDecoder(
            source.inputs,
            encoder=source.extractor,
            further_sizes=(),
            input_size=source.feature_size,
            decoder=decoder,
        )
        self.latent_decay = latent_decay

    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Mean over valid steps."""
        features = reading.features.flatten(0, 1).float()
        losses = self.decoder.loss(self.decoder(features), reading.rows)
        losses = losses + 0.5 * self.latent_decay * features.square().sum(-1)
        return mean_of_valid(losses.view(reading.valid.shape), reading.valid)

    def pictures(self, rows: Observations, features: Float[Tensor, "N F"]) -> dict[str, Tensor]:
        """Draw observations above what they are decoded to."""
        return self.decoder.pictures(self.decoder(features), rows)


class VAE(AuxiliaryLoss):
    """Say again what was observed, from a latent drawn by the features: a bottleneck that is noisy.

        mu, log sigma^2 = heads(f)
        reconstruction(decode(mu + sigma e), rows) + beta / count KL(N(mu, sigma^2) || N(0, 1))

    The features themselves are never drawn: what the agent reads stays deterministic.

    Args:
        decoder: makes the decoder of each part; None mirrors the extractor.
        latent_size: dimensions of the latent.
        beta: weight of the KL; 1 is the evidence lower bound (see `Autoencoder`).

    Source: Kingma & Welling (2014), arXiv:1312.6114; Higgins et al. (2017), "beta-VAE".
    """

    def __init__(
        self, source: Source, *, decoder: DecoderFactory | None, latent_size: int, beta: float
    ) -> None:
        """Build heads and decoder; the variance starts at 1."""
        super().__init__()
        self.mean = nn.Linear(source.feature_size, latent_size)
        self.log_variance = zero_linear(source.feature_size, latent_size)
        self.decoder = ObservationDecoder(
            source.inputs,
            encoder=source.extractor,
            further_sizes=(latent_size,),
            input_size=latent_size,
            decoder=decoder,
        )
        self.beta = beta

    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Mean over valid steps."""
        features = reading.features.flatten(0, 1).float()
        mean, log_variance = self.mean(features), self.log_variance(features)
        outputs = self.decoder(draw(mean, log_variance, None))
        losses = self.decoder.loss(outputs, reading.rows)
        losses = losses + self.beta / self.decoder.count * divergence(mean, log_variance)
        return mean_of_valid(losses.view(reading.valid.shape), reading.valid)

    def pictures(self, rows: Observations, features: Float[Tensor, "N F"]) -> dict[str, Tensor]:
        """Draw observations above what the mean of their latents is decoded to."""
        return self.decoder.pictures(self.decoder(self.mean(features.float())), rows)


class NextLatent(AuxiliaryLoss):
    """Predict the features of the observation to come from features and action.

        1 - cos(p(f_t, a_t), z_{t+1}),   z = (f - mean(f)) / std(f) over the valid steps of a batch

    The target takes no gradient, and it is standardised: of features that are the same everywhere,
    which would be predicted at no cost, z is 0 and so is its cosine with anything. The loss of a
    collapsed representation is 1, as high as that of knowing nothing.

    Args:
        hidden_sizes: widths between features and prediction.

    Source: Schwarzer et al. (2021), arXiv:2007.05929 (SPR), of one step and without a projection;
    Grill et al. (2020), arXiv:2006.07733, for stopped gradients; standardising is batch
    normalisation without parameters.
    """

    needs_next = True

    def __init__(self, source: Source, *, hidden_sizes: Sequence[int], activation: str) -> None:
        """Build the predictor, with PyTorch's own draw of weights."""
        super().__init__()
        self.predictor = DenseDecoder(
            source.feature_size + source.action_size,
            (source.feature_size,),
            hidden_sizes=hidden_sizes,
            activation=activation,
            initialization="default",
            gain=1.0,
        )

    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Mean over valid steps: what follows the others belongs to another episode."""
        assert reading.next_features is not None  # as `needs_next` asks
        known = torch.cat([reading.features.float(), reading.actions.float()], dim=-1)
        predicted = self.predictor(known.flatten(0, 1)).view_as(reading.features)
        targets = _standardized(reading.next_features.detach().float(), reading.valid)
        # What is shorter than the clamp are rounding errors: standardised rows are about sqrt(F).
        directions = functional.normalize(targets, dim=-1, eps=0.1)
        losses = 1.0 - (functional.normalize(predicted, dim=-1) * directions).sum(-1)
        return mean_of_valid(losses, reading.valid)


def _standardized(
    features: Float[Tensor, "L N F"], valid: Bool[Tensor, "L N"]
) -> Float[Tensor, "L N F"]:
    """Give every feature mean 0 and variance 1 over the valid steps; a constant one becomes 0.

    What varies by less than a thousandth of its size counts as constant, more or less.
    """
    weights = (valid / valid.sum().clamp(min=1))[..., None]
    kept = features.masked_fill(~valid[..., None], 0.0)
    centred = kept - (weights * kept).sum((0, 1))
    variance = (weights * centred.square()).sum((0, 1))
    size = (weights * kept.square()).sum((0, 1))
    return centred * (variance + 1e-6 * size + 1e-12).rsqrt()
