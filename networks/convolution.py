"""The layers of a convolutional network as numbers: which sizes they make, and whether they fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from networks.layout import Size, Unfit, written

_SMALLEST_MAP = 7
"""Pixels per side that max-pooling leaves at least, 7x7, before full connection."""


@dataclass(frozen=True)
class Convolution:
    """A convolution, and the max-pooling after it; each number for both axes, height first.

    What a configuration leaves out is PyTorch's own: no stride, no padding, no pooling.
    """

    filters: int
    kernel: Size
    stride: Size = (1, 1)
    padding: Size = (0, 0)
    pool: Size = (1, 1)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Convolution":
        """Read one entry of a configuration; a single number is for both axes, no pooling is 0."""
        pairs = {key: _pair(value) for key, value in options.items() if key != "filters"}
        height, width = pairs.get("pool", (1, 1))
        pairs["pool"] = (max(height, 1), max(width, 1))
        return cls(filters=options["filters"], **pairs)

    def convolved(self, size: Size) -> Size:
        """Size of the maps before pooling; not positive where the kernel does not fit.

        (size + 2 padding - kernel) // stride + 1
        """
        height, width = (
            (side + 2 * padding - kernel) // stride + 1
            for side, kernel, stride, padding in zip(
                size, self.kernel, self.stride, self.padding, strict=True
            )
        )
        return height, width

    def output(self, size: Size) -> Size:
        """Size of the maps after pooling, whose last incomplete window is left out."""
        height, width = self.convolved(size)
        return height // self.pool[0], width // self.pool[1]

    def __str__(self) -> str:
        """Write it as a configuration does, without what it may leave out."""
        words = [f"filters: {self.filters}", f"kernel: {_shortened(self.kernel)}"]
        for name, usual in (("stride", (1, 1)), ("padding", (0, 0)), ("pool", (1, 1))):
            pair = getattr(self, name)
            words += [] if pair == usual else [f"{name}: {_shortened(pair)}"]
        return f"{{{', '.join(words)}}}"


def cascade(size: Size, filters: Sequence[int]) -> list[Convolution]:
    """Lay out 3x3 convolutions, each with 2x2 max-pooling, until the maps are about 7x7.

    A side is halved as long as 7 pixels remain, each side on its own; an image below 14x14 gets
    one convolution without pooling.

    Args:
        filters: of each layer; the last number goes on.
    """
    layers: list[Convolution] = []
    while True:
        height, width = (2 if side // 2 >= _SMALLEST_MAP else 1 for side in size)
        is_done = height == width == 1
        if layers and is_done:
            return layers
        layers.append(
            Convolution(
                filters=filters[min(len(layers), len(filters) - 1)],
                kernel=(3, 3),
                padding=(1, 1),
                pool=(height, width),
            )
        )
        size = layers[-1].output(size)


def check_fit(layers: Sequence[Convolution], size: Size) -> Size:
    """Return the size of the last maps.

    Raises:
        Unfit: a kernel or a pool is larger than what it is given.
    """
    now = size
    for index, layer in enumerate(layers):
        if min(layer.output(now)) < 1:
            raise Unfit(f"layers[{index}]", _misfit(layers, index, now, size), instead=["cnn"])
        now = layer.output(now)
    return now


def _misfit(layers: Sequence[Convolution], index: int, now: Size, size: Size) -> str:
    """Say what does not fit, and which layers would."""
    layer = layers[index]
    convolved = layer.convolved(now)
    if min(convolved) < 1:
        padded = f" with padding {_shortened(layer.padding)}" if any(layer.padding) else ""
        problem = f"a kernel of {written(layer.kernel)} does not fit its input of {written(now)}"
        problem += padded
    else:
        problem = (
            f"a max-pool of {written(layer.pool)} does not fit its input of {written(convolved)}"
        )
    fitting = ", ".join(map(str, _fitted(layers, size)))
    return f"{problem}; what fits images of {written(size)} is layers=[{fitting}]"


def _fitted(layers: Sequence[Convolution], size: Size) -> list[Convolution]:
    """Change layers as little as it takes: pad by half the kernel, leave pooling out."""
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
    if isinstance(value, int):
        return value, value
    height, width = value
    return height, width


def _shortened(pair: Size) -> str:
    """Write one number where both are the same."""
    return str(pair[0]) if pair[0] == pair[1] else f"[{pair[0]}, {pair[1]}]"
