"""Fully connected networks: `h_k = f(W_k h_{k-1} + b_k)`."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from conf.schema.extractors import FlattenOptions, LayersOptions, MLPOptions
from conf.schema.types import Activation
from networks.extractors.structure import Outline
from networks.initialization import initialize
from networks.layers import BatchRenorm, Residual
from networks.mirror import RowFunction, layers_mirror
from networks.observations import Shape

ACTIVATION_MODULES: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": partial(nn.ReLU, inplace=True),  # nothing else reads its input
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
}
"""Activations by the names that configurations use."""


def default_layers(hidden_sizes: Sequence[int], activation: Activation) -> LayersOptions:
    """Return the options of layers with PyTorch's initialisation."""
    return LayersOptions(
        hidden_sizes=list(hidden_sizes), activation=activation, initialization="default", gain=1.0
    )


Layer = Callable[[], nn.Module]
Layers = Callable[..., list[nn.Module]]
_NORMALIZATIONS: dict[Any, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "batch_renorm": BatchRenorm,
}


def hidden_layers(input_size: int, options: LayersOptions) -> list[nn.Module]:
    """Build the layers of `hidden_sizes`, with the options of `BlocksOptions`, if it has them.

        layer           (Linear -> Dropout -> LayerNorm -> activation) for each size
        batch_renorm    BatchRenorm -> (Linear -> Dropout -> activation -> BatchRenorm) for each
        residual        Linear -> x + (norm -> Linear to 4 d -> Dropout -> activation -> Linear)(x)
                        for each -> norm; a Linear between two blocks where sizes differ

    Source: Ba et al. (2016), arXiv:1607.06450; Hiraoka et al. (2022), arXiv:2110.02034, appendix;
    Bhatt et al. (2024), arXiv:1902.05605; Lee et al. (2025), arXiv:2410.09754, section 4.
    """
    activation, extras = ACTIVATION_MODULES[options.activation], vars(options)  # of some layers
    normalization, dropout = _NORMALIZATIONS.get(extras.get("normalization")), extras.get("dropout")
    sizes = list(pairwise([input_size, *options.hidden_sizes]))

    def norm(size: int) -> list[nn.Module]:
        return [normalization(size)] if normalization else []

    def linear(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, outputs), *([nn.Dropout(dropout)] if dropout else [])]

    if extras.get("residual"):
        return _residual_layers(sizes, activation, norm, linear)
    layers: list[nn.Module] = []
    for inputs, outputs in sizes:
        if normalization is BatchRenorm:
            layers += [] if layers else norm(inputs)
            layers += [*linear(inputs, outputs), activation(), *norm(outputs)]
        else:
            layers += [*linear(inputs, outputs), *norm(outputs), activation()]
    return layers


def _residual_layers(
    sizes: Sequence[tuple[int, int]], activation: Layer, norm: Layers, linear: Layers
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in sizes:
        if inputs != outputs or not layers:
            layers.append(nn.Linear(inputs, outputs))
        wide = [*linear(outputs, 4 * outputs), activation(), nn.Linear(4 * outputs, outputs)]
        layers.append(Residual(*norm(outputs), *wide))
    return layers + (norm(sizes[-1][1]) if sizes else [])


class MLP(nn.Module):
    """Fully connected layers, one or a block for each entry of `hidden_sizes`.

    Args:
        input_shape: shape of one observation; flattened.
        options: without `hidden_sizes`, the identity.
    """

    Options: ClassVar[type] = MLPOptions

    def __init__(self, input_shape: Sequence[int], options: LayersOptions) -> None:
        super().__init__()
        input_size = math.prod(input_shape)
        self._activation = options.activation
        self.layers = nn.Sequential(*hidden_layers(input_size, options))
        self._flattens = len(input_shape) != 1
        self.hidden_sizes = tuple(options.hidden_sizes)
        self.output_size = (input_size, *self.hidden_sizes)[-1]
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
        return layers_mirror(*self.stages)


class Flatten(MLP):
    """Extractor without layers: flattens each observation."""

    Options = FlattenOptions

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__(input_shape, default_layers([], "relu"))
