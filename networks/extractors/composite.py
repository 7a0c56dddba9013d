"""Extractors of Dict observations: on the concatenated parts, or one per part."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from conf.schema.extractors import DictExtractorOptions, LayersOptions
from networks.extractors.mlp import MLP
from networks.extractors.structure import Outline, outline_of
from networks.mirror import Array, chained, mirror_of
from networks.observations import Parts, Shape

RowParts = dict[str, Float[Tensor, "N ..."]]
DictFunction = Callable[[dict[str, Array]], Array]
"""`rows by part -> rows`."""


class Joined(nn.Module):
    """Applies an extractor to the concatenated parts of an observation."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, parts: RowParts) -> Float[Tensor, "N F"]:
        """Concatenate the parts and extract features."""
        joined = torch.cat([part.flatten(1) for part in parts.values()], dim=1)
        return self.extractor(joined)

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Return the layers, which are the same for all parts."""
        return outline_of(self.extractor, shape, None)

    def mirror(self) -> DictFunction | None:
        """Numpy form of `forward`; None when the extractor has none."""
        return chained(_joined, mirror_of(self.extractor))


class DictExtractor(nn.Module):
    """One extractor per part; their concatenated features go through common layers.

    Args:
        extractors: by part.
        input_size: total number of their features.
        options: of the common layers; without `hidden_sizes`, the concatenated features.
    """

    Options = DictExtractorOptions

    def __init__(
        self, extractors: Mapping[str, nn.Module], input_size: int, options: LayersOptions
    ) -> None:
        super().__init__()
        self.parts = Parts(extractors)
        self.fusion = MLP((input_size,), options)
        self.output_size = self.fusion.output_size

    def forward(self, parts: RowParts) -> Float[Tensor, "N F"]:
        """Extract each part's features and combine them."""
        return self.fusion(torch.cat(list(self.parts(parts).values()), dim=1))

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Return the part's layers, then the common ones."""
        assert part is not None  # it reads Dict observations only
        return outline_of(self.parts[part], shape, None).then(*self.fusion.hidden_sizes)

    def mirror(self) -> DictFunction | None:
        """Numpy form of `forward`; None when some extractor has none."""
        return chained(mirror_of(self.parts), _joined, mirror_of(self.fusion))


def _joined(parts: dict[str, Array]) -> Array:
    """Flatten and concatenate rows: `[N, ...]` each to `[N, F]`."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts.values()], axis=1)
