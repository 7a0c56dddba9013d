"""Convolutional networks: max-pooling, strides or residual blocks, then dense layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.extractors import CNNOptions, ImpalaCNNOptions, LayersOptions
from networks.extractors.images import ImageRows, Size, Unfit, written
from networks.extractors.mlp import ACTIVATION_MODULES, MLP
from networks.extractors.structure import Map, Outline
from networks.initialization import initialize
from networks.observations import Shape

_SMALLEST_MAP = 7
"""Smallest side in pixels of the maps after max-pooling: at least 7x7 before dense layers."""


@dataclass(frozen=True)
class Convolution:
    """A convolution and the max-pooling after it; numbers are pairs, height first.

    The defaults are PyTorch's: no stride, no padding, no pooling.
    """

    filters: int
    kernel: Size
    stride: Size = (1, 1)
    padding: Size = (0, 0)
    pool: Size = (1, 1)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Convolution":
        """Parse a configured layer; a single number applies to both axes, pooling 0 is none."""
        pairs = {key: _pair(value) for key, value in options.items() if key != "filters"}
        height, width = pairs.get("pool", (1, 1))
        pairs["pool"] = (max(height, 1), max(width, 1))
        return cls(filters=options["filters"], **pairs)

    def convolved(self, size: Size) -> Size:
        """Size of the maps before pooling; not positive if the kernel does not fit.

        (size + 2 padding - kernel) // stride + 1
        """
        axes = zip(size, self.kernel, self.stride, self.padding, strict=True)
        height, width = ((side + 2 * padding - k) // s + 1 for side, k, s, padding in axes)
        return height, width

    def output(self, size: Size) -> Size:
        """Size of the maps after pooling, without incomplete windows."""
        height, width = self.convolved(size)
        return height // self.pool[0], width // self.pool[1]

    def __str__(self) -> str:
        """Format as in a configuration, without defaults."""
        words = [f"filters: {self.filters}", f"kernel: {_shortened(self.kernel)}"]
        for name, usual in (("stride", (1, 1)), ("padding", (0, 0)), ("pool", (1, 1))):
            pair = getattr(self, name)
            words += [] if pair == usual else [f"{name}: {_shortened(pair)}"]
        return f"{{{', '.join(words)}}}"


def cascade(size: Size, filters: Sequence[int]) -> list[Convolution]:
    """Return 3x3 convolutions with 2x2 max-pooling down to maps of about 7x7.

    Each side is halved as long as 7 pixels remain. An image below 14x14 gets one convolution
    without pooling.

    Args:
        filters: of each layer; the last number is repeated.
    """
    layers: list[Convolution] = []
    while True:
        height, width = (2 if side // 2 >= _SMALLEST_MAP else 1 for side in size)
        if layers and height == width == 1:
            return layers
        count = filters[min(len(layers), len(filters) - 1)]
        layers.append(Convolution(count, (3, 3), padding=(1, 1), pool=(height, width)))
        size = layers[-1].output(size)


def check_fit(layers: Sequence[Convolution], size: Size) -> Size:
    """Return the size of the last maps.

    Raises:
        Unfit: a kernel or a pooling window is larger than its input.
    """
    now = size
    for index, layer in enumerate(layers):
        if min(layer.output(now)) < 1:
            raise Unfit(f"layers[{index}]", _misfit(layers, index, now, size), instead=["cnn"])
        now = layer.output(now)
    return now


def _misfit(layers: Sequence[Convolution], index: int, now: Size, size: Size) -> str:
    """Describe what does not fit, and the layers that would."""
    layer = layers[index]
    convolved = layer.convolved(now)
    if min(convolved) < 1:
        what, window, read = "kernel", layer.kernel, now
    else:
        what, window, read = "max-pool", layer.pool, convolved
    problem = f"a {what} of {written(window)} does not fit its input of {written(read)}"
    if what == "kernel" and any(layer.padding):
        problem += f" with padding {_shortened(layer.padding)}"
    fitting = ", ".join(map(str, _fitted(layers, size)))
    return f"{problem}; what fits images of {written(size)} is layers=[{fitting}]"


def _fitted(layers: Sequence[Convolution], size: Size) -> list[Convolution]:
    """Make layers fit with the fewest changes: pad by half the kernel, remove pooling."""
    fitted = []
    for layer in layers:
        if min(layer.convolved(size)) < 1:
            layer = replace(layer, padding=(layer.kernel[0] // 2, layer.kernel[1] // 2))
        if min(layer.output(size)) < 1:
            layer = replace(layer, pool=(1, 1))
        fitted.append(layer)
        size = layer.output(size)
    return fitted


def _pair(value: int | Sequence[int]) -> Size:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _shortened(pair: Size) -> str:
    """Format a pair, as one number if both are equal."""
    return str(pair[0]) if pair[0] == pair[1] else f"[{pair[0]}, {pair[1]}]"


class ImageExtractor(nn.Module):
    """Layers on images, then fully connected layers.

    Attributes:
        map_shape: shape of the last feature maps, `[C, H, W]`.
    """

    def __init__(
        self, rows: ImageRows, layers: nn.Sequential, maps: Sequence[Map], options: LayersOptions
    ) -> None:
        """Initialise the layers and add the connected ones.

        Args:
            maps: shape of the image, then of the maps after each stage of the layers.
        """
        super().__init__()
        self.rows, self.layers = rows, layers
        self._maps, self.map_shape = tuple(maps), maps[-1]
        initialize(layers, initialization=options.initialization, gain=options.gain)
        self.connected = MLP(self.map_shape, options)
        self.output_size = self.connected.output_size

    def forward(self, observations: Float[Tensor, "N *O"]) -> Float[Tensor, "N F"]:
        """Extract features of images."""
        return self.connected(self.layers(self.rows(observations)))

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Return the maps after each stage, and the fully connected layers."""
        connected = self.connected.outline(self.map_shape, None)
        return replace(connected, front=self.rows, maps=self._maps)


class CNN(ImageExtractor):
    """A stack of `Conv2d -> [LayerNorm] -> [max-pool] -> activation`, then fully connected layers.

    Pooling comes before the activation, which then costs a quarter; for increasing activations the
    order makes no difference.

    Batch normalisation is not offered: its running statistics would change log-probabilities
    between acting and learning.

    Args:
        input_shape: of one observation: an image or a frame stack.
        layout: position of the channels, see `networks.extractors.images.ImageRows`.
        options: `layers` has a mapping for each convolution (`Convolution`), or is `auto`: chosen
            by `cascade` from the image's size and `filters`. `normalization` is of each layer's
            maps, per observation: none, or `layer` over all filters.

    Raises:
        Unfit: the observation is not an image, or a layer does not fit.

        Source: Mnih et al. (2015), doi:10.1038/nature14236.
    """

    Options = CNNOptions

    def __init__(self, input_shape: Sequence[int], options: CNNOptions) -> None:
        rows = ImageRows(input_shape, layout=options.layout)
        convolutions = _convolutions(options.layers, options.filters, rows)
        check_fit(convolutions, rows.size)
        stages: list[nn.Module] = []
        maps: list[Map] = [(rows.channels, *rows.size)]
        for layer in convolutions:
            channels, height, width = maps[-1]
            stages.append(_stage(layer, channels, options))
            maps.append((layer.filters, *layer.output((height, width))))
        super().__init__(rows, nn.Sequential(*stages), maps, options)


def _convolutions(layers: Any, filters: Sequence[int], rows: ImageRows) -> list[Convolution]:
    if not isinstance(layers, str):
        return [Convolution.of(layer) for layer in layers]
    if not filters:
        raise Unfit("filters", "layers=auto needs them, as [32, 64, 128]", instead=[])
    return cascade(rows.size, filters)


def _stage(layer: Convolution, channels: int, options: CNNOptions) -> nn.Module:
    convolution = nn.Conv2d(channels, layer.filters, layer.kernel, layer.stride, layer.padding)
    norm = nn.GroupNorm(1, layer.filters) if options.normalization == "layer" else None
    pool = nn.MaxPool2d(layer.pool) if layer.pool != (1, 1) else None
    stages = (convolution, norm, pool, ACTIVATION_MODULES[options.activation]())
    return nn.Sequential(*(each for each in stages if each is not None))


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
