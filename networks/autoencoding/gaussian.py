"""Random numbers of autoencoders, and the Gaussian latents of variational ones."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Latents = Float[Tensor, "N Z"]


def noise_like(
    like: Tensor, sample: Callable[..., Tensor], generator: torch.Generator | None, *shape: int
) -> Tensor:
    """Draw noise in the shape of a tensor, or another one, on its device and in its dtype.

    Args:
        sample: `torch.rand` or `torch.randn`.
        generator: None for PyTorch's default, which agents seed.
    """
    device = like.device if generator is None else generator.device
    return sample(shape or like.shape, generator=generator, device=device).to(like)


def draw(mean: Latents, log_variance: Latents, generator: torch.Generator | None) -> Latents:
    """Sample latents `mu + sigma e`, e standard normal: gradients reach mu and sigma.

    Source: Kingma & Welling (2014), arXiv:1312.6114, section 2.4.
    """
    return mean + (0.5 * log_variance).exp() * noise_like(mean, torch.randn, generator)


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
