"""The residual network of IMPALA."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.extractors import ImpalaCNNOptions
from networks.extractors.cnn import ImageExtractor
from networks.extractors.images import ImageRows
from networks.extractors.structure import Map


class ImpalaCNN(ImageExtractor):
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
        rows = ImageRows(input_shape, layout=options.layout)
        maps: list[Map] = [(rows.channels, *rows.size)]
        layers: list[nn.Module] = []
        for count in options.filters:
            channels, height, width = maps[-1]
            layers.append(nn.Conv2d(channels, count, 3, padding=1))
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            layers += [ResidualBlock(count) for _ in range(options.num_blocks)]
            maps.append((count, -(-height // 2), -(-width // 2)))
        super().__init__(rows, nn.Sequential(*layers, nn.ReLU(inplace=True)), maps, options)


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
