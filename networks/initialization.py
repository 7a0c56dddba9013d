"""Weight initialisation by name, for every part of a network."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


@torch.no_grad()
def initialize(module: nn.Module, *, initialization: str, gain: float) -> None:
    """Initialise the weights of every linear layer and convolution in `module`, with zero biases.

    `default` keeps PyTorch's initialisation. With `orthogonal`, `W W^T = gain^2 I` (or `W^T W`,
    whichever is smaller); a convolution's `W` has one row per filter, `[out, in * height * width]`.

    Source: Saxe et al. (2014), arXiv:1312.6120; gains sqrt(2), 0.01 and 1 for hidden, policy and
    value layers from Andrychowicz et al. (2021), arXiv:2006.05990.
    """
    if initialization == "default":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                layer.bias.zero_()


@torch.no_grad()
def initialize_recurrent(layer: nn.RNNBase, *, initialization: str, gain: float) -> None:
    """Initialise a recurrent layer's weights, with zero biases.

    Orthogonal initialisation needs the square recurrent matrix of each gate. The stacked
    `[gates * H, F]` matrices are therefore initialised one gate at a time. Input weights use
    `gain`, recurrent ones 1, which preserves the norm of the state.
    """
    if initialization == "default":
        return
    for name, parameter in layer.named_parameters():
        if name.startswith("weight"):
            for gate in parameter.split(layer.hidden_size):
                nn.init.orthogonal_(gate, gain if name.startswith("weight_ih") else 1.0)
        else:
            parameter.zero_()


def spread_timescales(count: int, longest: float) -> Float[Tensor, " {count}"]:
    """Return time constants in steps, evenly spread on a logarithmic scale from 2."""
    return torch.logspace(math.log10(2.0), math.log10(longest), count)
