"""Extractors of observations that have parts: side by side as one vector, or each part its own."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from networks.extractors.mlp import MLP
from networks.extractors.structure import Outline, outline_of
from networks.mirror import Array, mirror_of
from networks.observations import Parts, Shape

RowParts = dict[str, Float[Tensor, "N ..."]]
DictFunction = Callable[[dict[str, Array]], Array]
"""Rows of each part in, rows out."""


class Joined(nn.Module):
    """Lets an extractor of vectors read an observation's parts side by side."""

    def __init__(self, extractor: nn.Module) -> None:
        """Take an extractor of vectors as long as all parts together."""
        super().__init__()
        self.extractor = extractor

    def forward(self, parts: RowParts) -> Float[Tensor, "N F"]:
        """Join the rows of all parts and extract."""
        joined = torch.cat([part.flatten(1) for part in parts.values()], dim=1)
        features: Tensor = self.extractor(joined)
        return features

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Tell the layers, which are the same for all parts."""
        return outline_of(self.extractor, shape, None)

    def mirror(self) -> DictFunction | None:
        """Numpy form of `forward`; None when the extractor has none."""
        extract = mirror_of(self.extractor)
        return None if extract is None else lambda parts: extract(_joined(parts))


class DictExtractor(nn.Module):
    """An extractor for each part; their features side by side go through layers in common.

    Args:
        extractors: by the name of the part.
        input_size: number of features that they make together.
        hidden_sizes: widths of the layers in common; empty hands on the features themselves.
    """

    def __init__(
        self,
        extractors: Mapping[str, nn.Module],
        input_size: int,
        *,
        hidden_sizes: Sequence[int],
        activation: str,
        initialization: str,
        gain: float,
    ) -> None:
        """Build and draw the layers in common."""
        super().__init__()
        self.parts = Parts(extractors)
        self.fusion = MLP(
            (input_size,),
            hidden_sizes=hidden_sizes,
            activation=activation,
            layer_norm=False,
            initialization=initialization,
            gain=gain,
        )
        self.output_size = self.fusion.output_size

    def forward(self, parts: RowParts) -> Float[Tensor, "N F"]:
        """Extract each part's features and fuse them."""
        features: Tensor = self.fusion(torch.cat(list(self.parts(parts).values()), dim=1))
        return features

    def outline(self, shape: Shape, part: str | None) -> Outline:
        """Tell the part's layers, then those in common."""
        assert part is not None  # it reads nothing but parts
        return outline_of(self.parts[part], shape, None).then(*self.fusion.hidden_sizes)

    def mirror(self) -> DictFunction | None:
        """Numpy form of `forward`; None when some extractor has none."""
        extract, fuse = mirror_of(self.parts), mirror_of(self.fusion)
        if extract is None or fuse is None:
            return None
        return lambda parts: fuse(_joined(extract(parts)))


def _joined(parts: dict[str, Array]) -> Array:
    """Put rows side by side: `[N, ...]` each, `[N, F]` together."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts.values()], axis=1)
