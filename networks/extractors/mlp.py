"""Fully connected networks: `h_k = f(W_k h_{k-1} + b_k)`."""

import math
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from conf.schema.extractors import LayersOptions, MLPOptions
from networks.extractors.structure import Outline
from networks.initialization import initialize
from networks.mirror import RowFunction, layers_mirror
from networks.observations import Shape

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
}
"""Activations by the names that configurations use."""


class Flatten(nn.Module):
    """Extractor without layers: flattens each observation."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__()
        self.output_size = math.prod(input_shape)

    @property
    def stages(self) -> list[nn.Module]:
        """The layer."""
        return [nn.Flatten()]

    def forward(self, observations: Float[Tensor, "N *O"]) -> Float[Tensor, "N F"]:
        """Flatten each row."""
        return observations.flatten(1)

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Return no layers."""
        return Outline(sizes=(), activation="relu", front=None, maps=())

    def mirror(self) -> RowFunction | None:
        """Numpy form of `forward`."""
        return layers_mirror(self.stages)


class MLP(nn.Module):
    """A stack of `Linear -> [LayerNorm] -> activation`, one per entry of `hidden_sizes`.

    Args:
        input_shape: shape of one observation; flattened.
        options: without `hidden_sizes`, the identity.
            `layer_norm` normalises each layer's units before its activation (Ba et al. 2016).
    """

    Options = MLPOptions

    def __init__(self, input_shape: Sequence[int], options: LayersOptions) -> None:
        super().__init__()
        layer_norm = getattr(options, "layer_norm", False)
        sizes = [math.prod(input_shape), *options.hidden_sizes]
        self._activation = options.activation
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers.append(nn.Linear(inputs, outputs))
            layers += [nn.LayerNorm(outputs)] if layer_norm else []
            layers.append(ACTIVATION_MODULES[options.activation]())
        self.layers = nn.Sequential(*layers)
        self._flattens = len(input_shape) != 1
        self.hidden_sizes, self.output_size = tuple(options.hidden_sizes), sizes[-1]
        initialize(self, initialization=options.initialization, gain=options.gain)

    @property
    def stages(self) -> list[nn.Module]:
        """The layers in order."""
        return [nn.Flatten(), *self.layers] if self._flattens else [*self.layers]

    def forward(self, observations: Float[Tensor, "N *O"]) -> Float[Tensor, "N F"]:
        """Extract features of rows."""
        hidden = observations if observations.ndim == 2 else observations.flatten(1)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Return the layers."""
        return Outline(sizes=self.hidden_sizes, activation=self._activation, front=None, maps=())

    def mirror(self) -> RowFunction | None:
        """Numpy form of `forward`; None if numpy lacks the activation."""
        return layers_mirror(self.stages)
