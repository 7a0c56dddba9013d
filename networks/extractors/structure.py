"""Outlines: the layers of an extractor, for decoders that mirror them."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from conf.schema.types import Activation
from networks.extractors.images import ImageRows
from networks.observations import Shape

Map = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True)
class Outline:
    """The layers of an extractor for one part of an observation.

    Attributes:
        sizes: widths of the fully connected layers in order; the last, if any, is the features'.
        activation: between the layers.
        front: conversion of rows to images; None for vectors.
        maps: shape of the image, then of the maps after each convolutional stage.
    """

    sizes: tuple[int, ...]
    activation: Activation
    front: ImageRows | None
    maps: tuple[Map, ...]

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Widths of a decoder's layers between the features and what the encoder's first reads."""
        return self.sizes[-2::-1]

    def then(self, *sizes: int) -> "Outline":
        """Append fully connected layers."""
        return replace(self, sizes=(*self.sizes, *sizes))


class Unmirrored(ValueError):
    """The extractor's layers are unknown, so a decoder must be configured."""

    def at(self, key: str) -> str:
        """Return the message for the decoder at a key of the configuration, with an override."""
        return f"{key}: {self}; choose a decoder: decoder@{key}.decoder=dense"


def outline_of(extractor: nn.Module, shape: Shape, part: str | None) -> Outline:
    """Return an extractor's outline, `extractor.outline(shape, part)`.

    Args:
        shape: of the part's rows.
        part: its name in a Dict observation; None for an observation without parts.

    Raises:
        Unmirrored: the extractor, a user's class, has no `outline`.
    """
    offered: Any = getattr(extractor, "outline", None)
    if not callable(offered):
        name = type(extractor).__name__
        raise Unmirrored(f"{name} has no `outline` that tells its layers, for a decoder to mirror")
    return offered(shape, part)
