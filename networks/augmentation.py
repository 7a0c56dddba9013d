"""Augmentation of images, for gradient steps on replayed windows."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from networks.backbone import Backbone, Stream
from networks.extractors.structure import outline_of


class RandomShift:
    """Shifts every image by up to `limit` pixels up, down, left and right, repeating its edge.

    A padded image, cropped at random. All frames of a stack are shifted alike.

    Args:
        heights: number of the axis before which the two of pixels begin, by part of the
            observation; "" is an observation without parts.

    Source: Kostrikov et al. (2021), arXiv:2004.13649, section 4.1.
    """

    def __init__(self, limit: int, heights: Mapping[str, int]) -> None:
        self._limit, self._heights = limit, dict(heights)

    def __call__(self, observations: Stream, generator: np.random.Generator) -> Stream:
        """Shift the images of every step and environment, each by pixels of its own."""
        parts = observations if isinstance(observations, dict) else {"": observations}
        images = {name if name in parts else f"actor.{name}": name for name in self._heights}
        own = {part: self._shifted(parts[part], n, generator) for part, n in images.items()}
        return observations | own if isinstance(observations, dict) else own[""]

    def _shifted(
        self, images: Tensor, part: str, generator: np.random.Generator
    ) -> Shaped[Tensor, "T B *O"]:
        rows = images.flatten(0, 1)
        offsets = generator.integers(-self._limit, self._limit + 1, (len(rows), 2))
        height = self._heights[part] + 1
        moved = shifted(rows, torch.from_numpy(offsets).to(rows.device), height=height)
        return moved.view(images.shape)


def shifted(
    rows: Shaped[Tensor, "N *O"], offsets: Int[Tensor, "N 2"], *, height: int
) -> Shaped[Tensor, "N *O"]:
    """Return `rows[n, y + offsets[n, 0], x + offsets[n, 1]]`, clipped to the image.

    Args:
        height: the axis of y; that of x is the next.
    """
    axes = (height, height + 1)
    images = rows.movedim(axes, (1, 2))
    y, x = (
        (torch.arange(size, device=rows.device) + offset[:, None]).clamp(0, size - 1)
        for size, offset in zip(images.shape[1:3], offsets.unbind(1), strict=True)
    )
    n = torch.arange(len(rows), device=rows.device)[:, None, None]
    return images[n, y[:, :, None], x[:, None, :]].movedim((1, 2), axes).contiguous()


def random_shift(backbone: Backbone, limit: int) -> RandomShift:
    """Build the shift of what the extractor reads as images.

    Raises:
        ValueError: it reads none.
    """
    shapes = backbone.inputs.shape
    parts = (shapes if isinstance(shapes, dict) else {"": shapes}).items()
    fronts = {n: outline_of(backbone.extractor, shape, n or None).front for n, shape in parts}
    heights = {n: len(shape) - 2 - front.is_last for n, shape in parts if (front := fronts[n])}
    if not heights:
        raise ValueError(
            f"agent.random_shift: expected 0, because {type(backbone.extractor).__name__} reads no "
            f"image; got {limit}; use extractor=cnn for images"
        )
    return RandomShift(limit, heights)
