"""Conversion of rows in the environment's layout to images `[N, C, H, W]`.

The position of the channels depends on the environment. A wrong guess would train on transposed
images, so ambiguous shapes are refused.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from conf.schema.types import ImageLayout

Size = tuple[int, int]
"""Height and width."""

MIN_SIZE = 5
"""Smallest side of an image in pixels."""


class Unfit(ValueError):
    """An extractor option that does not fit the observation.

    Attributes:
        option: its key below the extractor's, such as `layers[1]`; "" for none.
        reason: what is wrong, and what would fit.
        instead: names of extractors that would fit.
    """

    def __init__(self, option: str, reason: str, *, instead: Sequence[str]) -> None:
        """Compose the message, which does not include the path of the extractor's options."""
        self.option, self.reason, self.instead = option, reason, tuple(instead)
        super().__init__(f"{option}: {reason}" if option else reason)

    def at(self, key: str) -> str:
        """Return the message for the extractor at a key of the configuration, with overrides."""
        where = f"{key}.{self.option}" if self.option else key
        other = "or use" if self.option else "use"  # an option has its own remedy
        place = extractor_choice(key)
        return f"{where}: {self.reason}" + "".join(f"; {other} {place}={n}" for n in self.instead)


def extractor_choice(key: str) -> str:
    """Return the override that chooses an extractor for a key, without its value."""
    return key if key == "extractor" else f"extractor@{key}"


class ImageRows(nn.Module):
    """Converts rows to images `[N, C, H, W]` in channels-last memory.

    The channels of all frames of a stack become the channels of one image, oldest frame first. Rows
    in `hwc` are not copied.

    Args:
        input_shape: `(H, W)` for a grey image, with channels otherwise; frames first in a stack.
        layout: `hwc`, `chw`, or `auto`: the one with fewer channels than pixels per side.

    Attributes:
        channels: number of channels of all frames.
        size: height and width.

    Raises:
        Unfit: the shape is not an image, too small, or ambiguous.
    """

    def __init__(self, input_shape: Sequence[int], *, layout: ImageLayout) -> None:
        super().__init__()
        shape = tuple(input_shape)
        if not 2 <= len(shape) <= 4:
            what = "a vector" if len(shape) == 1 else f"an array of {len(shape)} dimensions"
            raise Unfit("", f"observations of shape {shape} are {what}, no image", instead=["mlp"])
        self.is_last = len(shape) > 2 and _is_channels_last(shape, layout)
        self.frames, first, middle, last = (*[1] * (4 - len(shape)), *shape)
        channels = last if self.is_last else first
        self.channels = self.frames * channels
        self.size: Size = (first, middle) if self.is_last else (middle, last)
        if min(self.size) < MIN_SIZE:
            raise Unfit(
                "",
                f"observations of shape {shape} are images of {written(self.size)} pixels, expected"
                f" at least {written((MIN_SIZE, MIN_SIZE))}{_doubt(shape, layout)}",
                instead=["mlp"],
            )

    def forward(self, rows: Float[Tensor, "N *O"]) -> Float[Tensor, "N C H W"]:
        """Move frames and channels first, in channels-last memory."""
        if not self.is_last:
            images = rows.reshape(-1, self.channels, *self.size)
        elif rows.ndim == 5:  # [N, frames, H, W, C]
            images = rows.permute(0, 1, 4, 2, 3).flatten(1, 2)
        else:
            images = rows.permute(0, 3, 1, 2)
        return images.contiguous(memory_format=torch.channels_last)


def written(size: Sequence[int]) -> str:
    """Format a size as `HxW`."""
    return "x".join(map(str, size))


def _is_channels_last(shape: Sequence[int], layout: ImageLayout) -> bool:
    """Whether the channels are the last of the last three axes."""
    if layout != "auto":
        return layout == "hwc"
    first, middle, last = shape[-3:]
    is_hwc, is_chw = last < min(first, middle), first < min(middle, last)
    if is_hwc is is_chw:
        raise Unfit(
            "layout",
            f"auto cannot tell where images of shape {tuple(shape[-3:])} have their channels, "
            "which should be fewer than pixels; say it with env.image_layout=hwc (channels last) "
            "or env.image_layout=chw (channels first)",
            instead=["mlp"],
        )
    return is_hwc


def _doubt(shape: Sequence[int], layout: ImageLayout) -> str:
    """Mention the layout in a message, unless it is `auto`."""
    return f" (with layout {layout})" if len(shape) > 2 and layout != "auto" else ""
