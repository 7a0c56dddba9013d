"""Convolutional networks: convolutions with max-pooling or strides, then full connection."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from networks.convolution import Convolution, cascade, check_fit
from networks.initialization import initialize
from networks.layout import ImageRows, Layout, Unfit
from networks.mlp import ACTIVATION_MODULES, MLP
from networks.observations import Shape
from networks.outline import Map, Outline

_GROUP_SIZE = 8
"""Filters that `normalization: group` takes together."""


class CNN(nn.Module):
    """A stack of `Conv2d -> [GroupNorm] -> [max-pool] -> activation`, then fully connected layers.

    Pooling comes before the activation, where it costs a quarter; for one that increases the order
    makes no difference.

    Batch normalisation is not among the choices: its running statistics differ between acting,
    where log-probabilities of actions are fixed, and learning, where they are compared.

    Args:
        input_shape: of one observation: an image, or a stack of images, in the layout given.
        layout: where the channels are, see `networks.layout.ImageRows`.
        layers: a mapping for each convolution (`networks.convolution.Convolution`), or `auto`: the
            cascade that the image's size asks for.
        filters: of the layers of `auto`, the last number going on; empty otherwise.
        normalization: of each layer's maps, per observation: none, `layer` over all filters,
            `group` over 8 at a time (Wu & He 2018, arXiv:1803.08494).
        hidden_sizes: widths of the fully connected layers; empty hands on the last maps, flat.

    Raises:
        Unfit: the observation is no image, or a layer does not fit.

    Source: Mnih et al. (2015), doi:10.1038/nature14236, for images as input of an agent.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        layout: Layout,
        layers: Literal["auto"] | Sequence[Mapping[str, Any]],
        filters: Sequence[int],
        activation: str,
        normalization: Literal["none", "layer", "group"],
        hidden_sizes: Sequence[int],
        initialization: str,
        gain: float,
    ) -> None:
        """Build and draw the layers."""
        super().__init__()
        self.rows = ImageRows(input_shape, layout=layout)
        convolutions = _convolutions(layers, filters, self.rows)
        check_fit(convolutions, self.rows.size)
        stages: list[nn.Module] = []
        self._maps: list[Map] = [(self.rows.channels, *self.rows.size)]
        for index, layer in enumerate(convolutions):
            channels, height, width = self._maps[-1]
            norm = _norm(normalization, layer.filters, index)
            stages.append(_stage(layer, channels, norm, activation))
            self._maps.append((layer.filters, *layer.output((height, width))))
        self.layers = nn.Sequential(*stages)
        self.map_shape = self._maps[-1]
        """Of the last maps, `[C, H, W]`."""
        initialize(self.layers, initialization=initialization, gain=gain)
        self.connected = MLP(
            self.map_shape,
            hidden_sizes=hidden_sizes,
            activation=activation,
            layer_norm=normalization != "none",
            initialization=initialization,
            gain=gain,
        )
        self.output_size = self.connected.output_size

    def forward(self, observations: Float[Tensor, "N *O"]) -> Float[Tensor, "N F"]:
        """Map rows of images to rows of features."""
        features: Tensor = self.connected(self.layers(self.rows(observations)))
        return features

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Tell the maps after each layer, and the fully connected layers."""
        connected = self.connected.outline(self.map_shape, None)
        return replace(connected, front=self.rows, maps=tuple(self._maps))


def activation_module(name: str) -> nn.Module:
    """Make an activation that overwrites its input where it can: maps are large."""
    return nn.ReLU(inplace=True) if name == "relu" else ACTIVATION_MODULES[name]()


def _convolutions(
    layers: Literal["auto"] | Sequence[Mapping[str, Any]], filters: Sequence[int], rows: ImageRows
) -> list[Convolution]:
    if not isinstance(layers, str):
        return [Convolution.of(layer) for layer in layers]
    if not filters:
        raise Unfit("filters", "layers=auto needs them, as [32, 64, 128]", instead=[])
    return cascade(rows.size, filters)


def _stage(layer: Convolution, channels: int, norm: nn.Module | None, activation: str) -> nn.Module:
    convolution = nn.Conv2d(
        channels, layer.filters, layer.kernel, stride=layer.stride, padding=layer.padding
    )
    modules: list[nn.Module] = [convolution]
    modules += [] if norm is None else [norm]
    modules += [nn.MaxPool2d(layer.pool)] if layer.pool != (1, 1) else []
    return nn.Sequential(*modules, activation_module(activation))


def _norm(normalization: str, filters: int, index: int) -> nn.Module | None:
    if normalization == "none":
        return None
    if normalization == "layer":
        return nn.GroupNorm(1, filters)
    if filters % _GROUP_SIZE:
        raise Unfit(
            f"layers[{index}]",
            f"normalization=group takes {_GROUP_SIZE} filters at a time, this layer has {filters}; "
            f"choose a multiple of {_GROUP_SIZE}, or normalization=layer",
            instead=[],
        )
    return nn.GroupNorm(filters // _GROUP_SIZE, filters)
