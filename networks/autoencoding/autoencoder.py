"""Autoencoders: encoders as feature extractors, and their training without rewards."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from conf.schema.extractors import AutoencoderOptions
from networks.autoencoding.gaussian import divergence, draw, zero_linear
from networks.autoencoding.reconstruction import ObservationDecoder
from networks.extractors.structure import Outline, outline_of
from networks.initialization import initialize
from networks.inputs import ObservationInput
from networks.mirror import RowFunction, chained, linear_mirror, mirror_of
from networks.observations import Observations, Shape


class Encoder(nn.Module):
    """An extractor and a linear layer to a latent, whose values are the features.

    In a variational autoencoder the features are the mean of the latent: they are never sampled.

    Args:
        encoder: extractor of the observations.
        encoder_size: number of its features.
    """

    Options = AutoencoderOptions

    def __init__(self, encoder: nn.Module, encoder_size: int, options: AutoencoderOptions) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder_size, self.output_size = encoder_size, options.latent_size
        self.latent = nn.Linear(encoder_size, options.latent_size)
        initialize(self.latent, initialization=options.initialization, gain=options.gain)

    def forward(self, rows: Observations) -> Float[Tensor, "N Z"]:
        """Encode rows."""
        return self.latent(self.encoder(rows))

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Return the layers, the latent last."""
        return outline_of(self.encoder, shape, part).then(self.output_size)

    def mirror(self) -> RowFunction | None:
        """Numpy form of `forward`; None when the extractor has none."""
        return chained(mirror_of(self.encoder), linear_mirror(self.latent))


class Autoencoder(nn.Module):
    """An encoder and a decoder, trained together to reconstruct observations.

        loss = reconstruction(decode(z), rows) + beta / count KL(N(mu, sigma^2) || N(0, 1))

    The encoder is somebody else's part, and no submodule: its parameters belong to one part alone.
    Latents are sampled in training mode.

    Without `variational`, z is the latent itself and there is no second term. The reconstruction
    error is a mean over the `count` numbers, booleans and identifiers of an observation. The KL is
    divided by `count` too, so that beta = 1 is the evidence lower bound for every image size (for
    squared errors, with variance 1/2).

    Args:
        options: `decoder` makes the decoder of each part; None mirrors the encoder.

    Source: Kingma & Welling (2014), arXiv:1312.6114; Higgins et al. (2017), "beta-VAE".
    """

    def __init__(
        self, inputs: ObservationInput, encoder: Encoder, options: AutoencoderOptions
    ) -> None:
        super().__init__()
        self._encoder = (encoder,)  # in a tuple, so that it does not become a submodule
        self.decoder = ObservationDecoder(
            inputs, encoder, encoder.output_size, options.decoder, further_sizes=()
        )
        self.log_variance = (
            zero_linear(encoder.encoder_size, encoder.output_size) if options.variational else None
        )
        self.beta = options.beta

    @property
    def encoder(self) -> Encoder:
        """The encoder that it trains with."""
        return self._encoder[0]

    def loss(
        self, rows: Observations, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Return the loss on a batch and its terms.

        Args:
            generator: of latents; None for PyTorch's default.
        """
        hidden = self.encoder.encoder(rows)
        latents = self.encoder.latent(hidden)
        metrics: dict[str, Tensor] = {}
        penalty: Tensor | float = 0.0
        if self.log_variance is not None:
            log_variance = self.log_variance(hidden)
            metrics["kl"] = divergence(latents, log_variance).mean()
            penalty = self.beta / self.decoder.count * metrics["kl"]
            latents = draw(latents, log_variance, generator) if self.training else latents
        outputs = self.decoder(latents)
        metrics["reconstruction"] = self.decoder.loss(outputs, rows).mean()
        metrics["squared_error"] = self.decoder.squared_error(outputs, rows).mean()
        loss = metrics["reconstruction"] + penalty
        return loss, {name: metric.detach() for name, metric in metrics.items()}

    def reconstruct(self, rows: Observations) -> Observations:
        """Reconstruct rows from the mean latent, in the units of the rows."""
        return self.decoder.expectation(self.decoder(self.encoder(rows)))

    def pictures(self, rows: Observations) -> dict[str, Tensor]:
        """Draw image parts and their reconstructions, see `ObservationDecoder.pictures`."""
        return self.decoder.pictures(self.decoder(self.encoder(rows)), rows)

    def squared_error(self, rows: Observations) -> Float[Tensor, " N"]:
        """Mean squared error of each row's reconstruction."""
        return self.decoder.squared_error(self.decoder(self.encoder(rows)), rows)
