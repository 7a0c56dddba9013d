"""Draws rows of images, as they were observed and as they were said again, for people to look at.

Intensities are drawn as they are, truth values and identifiers by a palette; of a stack, the newest
frame. Nothing here is trained on.
"""

import colorsys
import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from networks.layout import ImageRows
from networks.meaning import Meaning

_SMALLEST = 64
"""Pixels in height from which an image is drawn as it is; smaller ones are magnified."""


def picture(
    meaning: Meaning,
    front: ImageRows,
    rows: Float[Tensor, "N *O"],
    expected: Float[Tensor, "N *O"],
) -> UInt8[Tensor, "H W 3"]:
    """Draw observations side by side, below each what was expected in its place."""
    originals, copies = (_colours(meaning, front, each.detach().cpu()) for each in (rows, expected))
    if meaning.kind == "numbers":  # any range; both by that of the observations
        low, high = originals.min(), originals.max()
        width = (high - low).clamp(min=1e-8)
        originals, copies = (originals - low) / width, (copies - low) / width
    lines = [torch.cat(list(images), dim=2) for images in (originals, copies)]  # [3, H, N * W]
    drawn = torch.cat(lines, dim=1).clamp(0.0, 1.0)
    times = math.ceil(_SMALLEST / front.size[0])
    magnified = drawn.repeat_interleave(times, 1).repeat_interleave(times, 2)
    return (255.0 * magnified).round().to(torch.uint8).permute(1, 2, 0)


def _colours(
    meaning: Meaning, front: ImageRows, rows: Float[Tensor, "N *O"]
) -> Float[Tensor, "N 3 H W"]:
    images: Tensor = front(rows.float())
    newest: Tensor = images[:, -(front.channels // front.frames) :]
    if meaning.kind == "identifiers":
        # Expected colour of each identifier, and the mean of a position's identifiers.
        palette = torch.cat([_palette(count) for count in meaning.groups])
        return torch.einsum("nkhw,kc->nchw", newest, palette) / len(meaning.groups)
    if meaning.kind == "booleans":
        return torch.einsum("nkhw,kc->nchw", newest, _palette(newest.shape[1] + 1)[1:])
    if newest.shape[1] == 3:
        return newest
    return newest[:, -1:].expand(-1, 3, -1, -1)  # grey, or frames of grey as channels


def _palette(count: int) -> Float[Tensor, "K 3"]:
    """Black, then colours as far apart as can be."""
    hues = [index / max(count - 1, 1) for index in range(count - 1)]
    return torch.tensor([(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues)])
