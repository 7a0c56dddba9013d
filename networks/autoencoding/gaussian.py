"""The Gaussian latents of variational autoencoders."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

Latents = Float[Tensor, "N Z"]


def draw(mean: Latents, log_variance: Latents, generator: torch.Generator | None) -> Latents:
    """Sample latents `mu + sigma e`, e standard normal: gradients reach mu and sigma.

    Args:
        generator: None for PyTorch's default, which agents seed.

    Source: Kingma & Welling (2014), arXiv:1312.6114, section 2.4.
    """
    device = mean.device if generator is None else generator.device
    noise = torch.randn(mean.shape, generator=generator, device=device).to(mean)
    return mean + (0.5 * log_variance).exp() * noise


def divergence(mean: Latents, log_variance: Latents) -> Float[Tensor, " N"]:
    """KL(N(mu, sigma^2) || N(0, 1)) in nats, summed over latent dimensions.

        1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2)

    Source: Kingma & Welling (2014), arXiv:1312.6114, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


def zero_linear(input_size: int, output_size: int) -> nn.Linear:
    """Make a linear layer with all parameters 0."""
    layer = nn.Linear(input_size, output_size)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
