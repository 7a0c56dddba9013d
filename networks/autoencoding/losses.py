"""Auxiliary losses on features: their interface and four implementations.

Agents do not depend on particular losses: they pass the extractor's inputs and features to each
one and add the weighted results to their own losses.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.extractors import (
    LambdaDiscrepancyOptions,
    NextLatentOptions,
    ReconstructionOptions,
    VAEOptions,
)
from networks.autoencoding.decoders import DenseDecoder
from networks.autoencoding.gaussian import divergence, draw, zero_linear
from networks.autoencoding.reconstruction import ObservationDecoder
from networks.extractors.mlp import default_layers
from networks.inputs import ObservationInput
from networks.observations import Observations
from networks.ranks import average, count_valid


@dataclass(frozen=True)
class Source:
    """The extractor that a loss is built for, and its inputs and sizes. Read-only.

    A decoder may mirror the extractor's layers. A loss must not keep the extractor as a submodule:
    its parameters would be trained twice.

    Attributes:
        inputs: input scaling of the observations, by part.
        extractor: its features are the loss's input.
        feature_size: number of its features, F.
        action_size: size of an encoded action, A.
        summary_size: size of the output of the memory behind it, H.
    """

    inputs: ObservationInput
    extractor: nn.Module
    feature_size: int
    action_size: int
    summary_size: int


@dataclass(frozen=True)
class Reading:
    """Inputs and outputs of an extractor on a batch of N sequences of L steps.

    Attributes:
        rows: scaled and normalised observations, the extractor's inputs, in the order of
            `features.flatten(0, 1)`; without gradient.
        features: the extractor's outputs, with gradient.
        actions: the policy's actions, encoded (`PolicyHead.encode`).
        is_first: the observation is the first of an episode.
        valid: False on reset steps: their observation is the final one of an episode, their action
            was ignored, and the next observation belongs to another episode.
        next_rows, next_features: of the next observations, without gradient; only if the loss sets
            `needs_next`. At valid steps they belong to the same episode.
        summary: the memory's output; only for `LambdaDiscrepancy`, as the following.
        values: the agent's, with gradient.
        returns: that the loss's own values are fitted to.
    """

    rows: Observations  # [L * N, *O], or by part
    features: Float[Tensor, "L N F"]
    actions: Float[Tensor, "L N A"]
    is_first: Bool[Tensor, "L N"]
    valid: Bool[Tensor, "L N"]
    next_rows: Observations | None
    next_features: Float[Tensor, "L N F"] | None
    summary: Float[Tensor, "L N H"] | None = None
    values: Float[Tensor, "L N"] | None = None
    returns: Float[Tensor, "L N"] | None = None


class AuxiliaryLoss(nn.Module, ABC):
    """A loss on features; the constructor takes a `Source`, then its options.

    Its own parameters belong to the part `auxiliary`. Random numbers come from PyTorch's default
    generator, which the agent seeds for each update.
    """

    needs_next: ClassVar[bool] = False
    """Whether the loss reads `Reading.next_rows` and `next_features`."""

    @abstractmethod
    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Return the mean over valid steps, without data-dependent control flow."""

    def pictures(self, rows: Observations, features: Float[Tensor, "N F"]) -> dict[str, Tensor]:
        """Draw the loss's outputs for image parts, `uint8 [H, W, 3]` by part."""
        return {}


def mean_of_valid(losses: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"]) -> Float[Tensor, ""]:
    """Mean over valid steps; other entries are ignored, even nan."""
    kept = losses.masked_fill(~valid, 0.0)
    return kept.sum() / count_valid(valid)


class Reconstruction(AuxiliaryLoss):
    """Reconstructs observations from features.

        reconstruction(decode(f), rows) + latent_decay / 2 |f|^2

    Source: Yarats et al. (2021), arXiv:1910.01741, eq. 4.
    """

    Options = ReconstructionOptions

    def __init__(self, source: Source, options: ReconstructionOptions) -> None:
        super().__init__()
        self.decoder = ObservationDecoder(
            source.inputs, source.extractor, source.feature_size, options.decoder, further_sizes=()
        )
        self.latent_decay = options.latent_decay

    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Mean over valid steps."""
        features = reading.features.flatten(0, 1).float()
        losses = self.decoder.loss(self.decoder(features), reading.rows)
        losses = losses + 0.5 * self.latent_decay * features.square().sum(-1)
        return mean_of_valid(losses.view(reading.valid.shape), reading.valid)

    def pictures(self, rows: Observations, features: Float[Tensor, "N F"]) -> dict[str, Tensor]:
        """Draw observations above their reconstructions."""
        return self.decoder.pictures(self.decoder(features), rows)


class VAE(AuxiliaryLoss):
    """Reconstructs observations from a Gaussian latent, whose parameters depend on the features.

        mu, log sigma^2 = heads(f)
        reconstruction(decode(mu + sigma e), rows) + beta / count KL(N(mu, sigma^2) || N(0, 1))

    The features themselves are not sampled: the agent's input stays deterministic.

    Source: Kingma & Welling (2014), arXiv:1312.6114; Higgins et al. (2017), "beta-VAE".
    """

    Options = VAEOptions

    def __init__(self, source: Source, options: VAEOptions) -> None:
        super().__init__()
        latent_size = options.latent_size
        self.mean = nn.Linear(source.feature_size, latent_size)
        self.log_variance = zero_linear(source.feature_size, latent_size)
        self.decoder = ObservationDecoder(
            source.inputs,
            source.extractor,
            latent_size,
            options.decoder,
            further_sizes=(latent_size,),
        )
        self.beta = options.beta

    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Mean over valid steps."""
        features = reading.features.flatten(0, 1).float()
        mean, log_variance = self.mean(features), self.log_variance(features)
        outputs = self.decoder(draw(mean, log_variance, None))
        losses = self.decoder.loss(outputs, reading.rows)
        losses = losses + self.beta / self.decoder.count * divergence(mean, log_variance)
        return mean_of_valid(losses.view(reading.valid.shape), reading.valid)

    def pictures(self, rows: Observations, features: Float[Tensor, "N F"]) -> dict[str, Tensor]:
        """Draw observations above the reconstructions from their mean latents."""
        return self.decoder.pictures(self.decoder(self.mean(features.float())), rows)


class NextLatent(AuxiliaryLoss):
    """Predicts the features of the next observation from features and action.

        1 - cos(p(f_t, a_t), z_{t+1}),   z = (f - mean(f)) / std(f) over the valid steps of a batch

    The target has no gradient and is standardised. Collapsed features, which are equal everywhere,
    have z = 0, whose cosine with anything is 0. Their loss is 1, as high as without any prediction.

    Source: Schwarzer et al. (2021), arXiv:2007.05929 (SPR), with one step and without projection;
    Grill et al. (2020), arXiv:2006.07733, for the stopped gradient. Standardising is batch
    normalisation without parameters.
    """

    needs_next = True

    Options = NextLatentOptions

    def __init__(self, source: Source, options: NextLatentOptions) -> None:
        """Build the predictor with PyTorch's default initialisation."""
        super().__init__()
        self.predictor = DenseDecoder(
            source.feature_size + source.action_size,
            (source.feature_size,),
            default_layers(options.hidden_sizes, options.activation),
        )

    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Mean over valid steps: after other steps another episode starts."""
        assert reading.next_features is not None  # because of `needs_next`
        known = torch.cat([reading.features.float(), reading.actions.float()], dim=-1)
        predicted = self.predictor(known.flatten(0, 1)).view_as(reading.features)
        targets = _standardized(reading.next_features.detach().float(), reading.valid)
        # Rows shorter than eps are rounding errors: standardised rows have norms of about sqrt(F).
        directions = functional.normalize(targets, dim=-1, eps=0.1)
        losses = 1.0 - (functional.normalize(predicted, dim=-1) * directions).sum(-1)
        return mean_of_valid(losses, reading.valid)


class LambdaDiscrepancy(AuxiliaryLoss):
    """Moves the memory to where values of two lambdas agree, as they do where nothing is hidden.

        (V(h_t) - U(h_t))^2 + (U(h_t) - G_t)^2

    V is the agent's value, and U a second one that is linear in the memory's output h and fitted to
    the lambda returns G of another lambda, bootstrapped from U itself. Both squares train memory,
    extractor and U; V's head is the critic's. With the second one stopped before the memory, a
    T-maze of length 20 was not learnt.

    Source: Allen et al. (2024), arXiv:2407.07333, section 5, whose code stops no gradient, so that
    V's head is trained by the first square too.
    """

    Options = LambdaDiscrepancyOptions

    def __init__(self, source: Source, options: LambdaDiscrepancyOptions) -> None:
        super().__init__()
        self.head = nn.Linear(source.summary_size, 1)
        self.gae_lambda = options.gae_lambda

    def second_value(self, summary: Float[Tensor, "*N H"]) -> Float[Tensor, "*N"]:
        """Return U."""
        return self.head(summary).squeeze(-1)

    def forward(self, reading: Reading) -> Float[Tensor, ""]:
        """Mean over valid steps."""
        summary, values, returns = reading.summary, reading.values, reading.returns
        assert summary is not None and values is not None and returns is not None
        second = self.second_value(summary)
        squares = (values - second).square() + (second - returns).square()
        return mean_of_valid(squares, reading.valid)


def _standardized(
    features: Float[Tensor, "L N F"], valid: Bool[Tensor, "L N"]
) -> Float[Tensor, "L N F"]:
    """Standardise every feature to mean 0 and variance 1 over valid steps.

    A constant feature becomes 0, and so does, roughly, one whose standard deviation is below a
    thousandth of its magnitude.
    """
    weights = (valid / count_valid(valid))[..., None]
    kept = features.masked_fill(~valid[..., None], 0.0)
    centred = kept - average((weights * kept).sum((0, 1)))
    variance = average((weights * centred.square()).sum((0, 1)))
    size = average((weights * kept.square()).sum((0, 1)))
    return centred * (variance + 1e-6 * size + 1e-12).rsqrt()
