"""The residual network of IMPALA."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.extractors import ImpalaCNNOptions
from networks.extractors.cnn import activation_module
from networks.extractors.images import ImageRows
from networks.extractors.mlp import MLP
from networks.extractors.structure import Map, Outline
from networks.initialization import initialize
from networks.observations import Shape


class ImpalaCNN(nn.Module):
    """Sections of `3x3 convolution -> 3x3 max-pool of stride 2 -> residual blocks`, then an MLP.

    Every section halves the maps, rounding up, so any image fits.

    Args:
        input_shape: of one observation: an image or a frame stack.
        layout: position of the channels, see `networks.extractors.images.ImageRows`.

    Raises:
        Unfit: the observation is not an image.

    Source: Espeholt et al. (2018), arXiv:1802.01561, figure 3, right.
    """

    Options = ImpalaCNNOptions

    def __init__(self, input_shape: Sequence[int], options: ImpalaCNNOptions) -> None:
        super().__init__()
        self.rows = ImageRows(input_shape, layout=options.layout)
        self._maps: list[Map] = [(self.rows.channels, *self.rows.size)]
        layers: list[nn.Module] = []
        for count in options.filters:
            channels, height, width = self._maps[-1]
            layers.append(nn.Conv2d(channels, count, 3, padding=1))
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            layers += [ResidualBlock(count) for _ in range(options.num_blocks)]
            self._maps.append((count, -(-height // 2), -(-width // 2)))
        self.layers = nn.Sequential(*layers, activation_module("relu"))
        self.map_shape = self._maps[-1]
        """Shape of the last feature maps, `[C, H, W]`."""
        initialize(self.layers, initialization=options.initialization, gain=options.gain)
        self.connected = MLP(self.map_shape, options)
        self.output_size = self.connected.output_size

    def forward(self, observations: Float[Tensor, "N *O"]) -> Float[Tensor, "N F"]:
        """Extract features of images."""
        features: Tensor = self.connected(self.layers(self.rows(observations)))
        return features

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Return the maps after each section, and the fully connected layers."""
        connected = self.connected.outline(self.map_shape, None)
        return replace(connected, front=self.rows, maps=tuple(self._maps))


class ResidualBlock(nn.Module):
    """`x + conv(relu(conv(relu(x))))`, both convolutions 3x3."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(filters, filters, 3, padding=1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)

    def forward(self, maps: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Apply the block."""
        hidden = self.first(functional.relu(maps))
        residual: Tensor = self.second(functional.relu_(hidden))
        return maps + residual
