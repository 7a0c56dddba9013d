"""Outlines: the layers of an extractor, as far as a decoder must know them to go back."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from networks.extractors.images import ImageRows
from networks.observations import Shape

Map = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True)
class Outline:
    """What an extractor makes of one part of an observation on the way to its features.

    Attributes:
        sizes: widths of the fully connected layers in order; the last makes the features, where
            there is one.
        activation: between the layers.
        front: how the rows are read as an image; None of a vector.
        maps: the image as it is read, then what each stage of convolutions leaves of it.
    """

    sizes: tuple[int, ...]
    activation: str
    front: ImageRows | None
    maps: tuple[Map, ...]

    def then(self, *sizes: int) -> "Outline":
        """Append fully connected layers."""
        return replace(self, sizes=(*self.sizes, *sizes))


class Unmirrored(ValueError):
    """An extractor whose layers are not known, so that only a decoder of one's choice will do."""


def outline_of(extractor: nn.Module, shape: Shape, part: str | None) -> Outline:
    """Ask an extractor for its outline, `extractor.outline(shape, part)`.

    Args:
        shape: of the part's rows.
        part: its name in a Dict observation; None of an observation without parts.

    Raises:
        Unmirrored: it is a class of the user's that offers none.
    """
    offered: Any = getattr(extractor, "outline", None)
    if not callable(offered):
        name = type(extractor).__name__
        raise Unmirrored(f"{name} has no `outline` that tells its layers, for a decoder to mirror")
    outline: Outline = offered(shape, part)
    return outline
