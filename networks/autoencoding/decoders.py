"""Decoders: from features to the rows of one part of an observation.

`networks.autoencoding.reconstruction` interprets their outputs.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from conf.schema.extractors import DenseDecoderOptions, LayersOptions
from networks.extractors.mlp import ACTIVATION_MODULES, MLP, default_layers
from networks.extractors.structure import Outline
from networks.initialization import initialize
from networks.observations import Shape

DecoderFactory = Callable[[int, Shape], nn.Module]
"""`input_size, output_shape -> decoder`, for one part of an observation."""


class DenseDecoder(nn.Module):
    """Fully connected layers, then a linear layer to the output.

    Args:
        input_size: number of features.
        output_shape: shape of one decoded row.
        options: `gain` is the hidden layers'; the output layer's is 1.
    """

    Options = DenseDecoderOptions

    def __init__(self, input_size: int, output_shape: Shape, options: LayersOptions) -> None:
        super().__init__()
        self.hidden = MLP((input_size,), options)
        self.output = nn.Linear(self.hidden.output_size, math.prod(output_shape))
        initialize(self.output, initialization=options.initialization, gain=1.0)
        self.output_shape = tuple(output_shape)

    def forward(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N *O"]:
        """Map rows of features to rows of the output's shape."""
        output: Tensor = self.output(self.hidden(features))
        return output.view(-1, *self.output_shape)


class ImageDecoder(nn.Module):
    """Fully connected layers, then transposed convolutions up to the image.

    Args:
        outline: the encoder's layers, to be mirrored; the layout of its images is also that of the
            output. If features and smallest map have the same size and there is no layer between
            them, the features are used as the map.
    """

    def __init__(self, input_size: int, output_shape: Sequence[int], outline: Outline) -> None:
        """Build the layers with PyTorch's default initialisation."""
        super().__init__()
        assert outline.front is not None  # because it reads images
        self.front, maps, activation = outline.front, outline.maps, outline.activation
        self.output_shape, self._smallest = tuple(output_shape), maps[-1]
        widths = [input_size, *outline.hidden_sizes, math.prod(self._smallest)]
        layers: list[nn.Module] = []
        if len(widths) > 2 or widths[0] != widths[1]:
            for inputs, outputs in pairwise(widths):
                layers += [nn.Linear(inputs, outputs), ACTIVATION_MODULES[activation]()]
        self.dense = nn.Sequential(*layers)
        steps: list[nn.Module] = []
        for (channels, *small), (outputs, *large) in pairwise(reversed(maps)):
            sizes = list(zip(small, large, strict=True))
            steps += [transposed(channels, outputs, sizes), ACTIVATION_MODULES[activation]()]
        self.convolutions = nn.Sequential(*steps[:-1])

    def forward(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N *O"]:
        """Decode an image from each row of features, in the layout of the observations."""
        dense: Tensor = self.dense(features)
        maps = dense.unflatten(1, self._smallest)
        images: Tensor = self.convolutions(maps.contiguous(memory_format=torch.channels_last))
        if self.front.is_last:
            # [N, frames * C, H, W] -> [N, frames, H, W, C]
            images = images.unflatten(1, (self.front.frames, -1)).permute(0, 1, 3, 4, 2)
        return images.reshape(-1, *self.output_shape)


def going_back(outline: Outline, input_size: int, output_shape: Shape) -> nn.Module:
    """Build the decoder that mirrors an encoder's layers.

    Its weights have PyTorch's default initialisation.
    """
    if outline.front is None:
        layers = default_layers(outline.hidden_sizes, outline.activation)
        return DenseDecoder(input_size, output_shape, layers)
    return ImageDecoder(input_size, output_shape, outline)


def transposed(
    channels: int, output_channels: int, sizes: Sequence[tuple[int, int]]
) -> nn.ConvTranspose2d:
    """Build a transposed convolution between two map sizes.

    The stride is after / before, rounded. The kernel is twice the stride (3 for stride 1), or
    larger if the output needs it. Padding makes the size exact. Convolutions without padding thus
    get their own kernels and strides, and 2x2 pooling gets the usual 4x4 kernel.

    Args:
        sizes: before and after, for each axis.
    """
    fits = [_fit(before, after) for before, after in sizes]
    kernel, stride, padding, extra = zip(*fits, strict=True)
    return nn.ConvTranspose2d(channels, output_channels, kernel, stride, padding, extra)


def _fit(before: int, after: int) -> tuple[int, int, int, int]:
    """Solve after = (before - 1) stride - 2 padding + kernel + extra, with 0 <= extra < stride."""
    if before == 1:
        return after, 1, 0, 0
    stride = max(1, int(after / before + 0.5))
    rest = after - (before - 1) * stride  # = kernel - 2 padding + extra
    kernel = max(2 * stride if stride > 1 else 3, rest)
    if stride == 1 and (kernel - rest) % 2:
        kernel += 1  # output padding cannot correct an odd difference
    padding = (kernel - rest + 1) // 2
    return kernel, stride, padding, rest - kernel + 2 * padding
