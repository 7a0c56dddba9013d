"""Value heads that fit a histogram of values by cross-entropy.

A value is the mean of a softmax over bins; its target is a distribution with that mean. The
gradient of the logits, `softmax - target`, is bounded whatever the unit of returns.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from networks.heads import LayersFactory, ValueHead
from networks.mirror import RowFunction
from networks.support import Support

_CUT = 3.0
"""Deviations of a Gaussian target that a learnt support has room for; the rest is 0.1%."""


def two_hot(target: Float[Tensor, "*N"], centres: Float[Tensor, " K"]) -> Float[Tensor, "*N K"]:
    """Share a target between the two bins around it, so that it is their mean.

        p_k = (c_{k+1} - y) / (c_{k+1} - c_k),  p_{k+1} = 1 - p_k  for  c_k <= y <= c_{k+1}

    Source: Bellemare et al. (2017), arXiv:1707.06887, eq. 7; Schrittwieser et al. (2020),
    arXiv:1911.08265, appendix F; Hafner et al. (2023), arXiv:2301.04104, eq. 9.

    Args:
        target: between the first centre and the last.
        centres: ascending.
    """
    share = (target[..., None] - centres[:-1]) / centres.diff()  # of the way to the next centre
    reached = share.clamp(0.0, 1.0)
    rising = functional.pad(reached, (1, 0), value=1.0)
    falling = functional.pad(reached, (0, 1), value=0.0)
    return rising - falling


def gaussian_histogram(
    target: Float[Tensor, "*N"], edges: Float[Tensor, " E"], deviation: Float[Tensor, ""]
) -> Float[Tensor, "*N K"]:
    """Integrate a Gaussian about each target over the bins between edges, `K = E - 1`.

        p_k = (Phi((e_{k+1} - y) / s) - Phi((e_k - y) / s)) / (Phi at the last edge - at the first)

    Source: Imani & White (2018), arXiv:1806.04613; Farebrother et al. (2024), arXiv:2403.03950,
    eq. 3.5 and appendix A.
    """
    cumulated = torch.erf((edges - target[..., None]) / (math.sqrt(2) * deviation))
    return cumulated.diff(dim=-1) / (cumulated[..., -1:] - cumulated[..., :1])


def cross_entropy(
    logits: Float[Tensor, "*N K"], target: Float[Tensor, "*N K"]
) -> Float[Tensor, "*N"]:
    """Cross-entropy of a distribution, `-sum_k p_k log softmax(logits)_k`."""
    return -(target * logits.log_softmax(-1)).sum(-1)


class TwoHotValueHead(ValueHead):
    """A histogram fitted to two-hot targets; `symlog` spaces bins for values of any size."""

    is_scalar = False

    def __init__(
        self,
        layers: LayersFactory,
        *,
        bins: int,
        support: Literal["auto"] | Sequence[float],
        symlog: bool,
    ) -> None:
        """Build the layers and the bins."""
        super().__init__(layers, bins)
        self.support = Support(bins=bins, limits=support, is_symlog=symlog, margin=0.0)
        self.learns_support = self.support.learns

    def value(self, output: Float[Tensor, "*N K"]) -> Float[Tensor, "*N"]:
        """Mean of the histogram."""
        return self.support.mean(output)

    def value_mirror(self) -> RowFunction:
        """Numpy form of `value`."""
        return self.support.mean_mirror()

    def loss(
        self, output: Float[Tensor, "*N K"], target: Float[Tensor, "*N"]
    ) -> Float[Tensor, "*N"]:
        """Cross-entropy to the target shared between two bins."""
        return cross_entropy(output, two_hot(self.support.clamp(target), self.support.centres))

    def observe(
        self, returns: Float[Tensor, "*N"], valid: Bool[Tensor, "*N"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Learn the support, if it is learnt; count targets outside."""
        return self.support.observe(returns, valid, self.layers.project)


class HLGaussValueHead(ValueHead):
    """A histogram fitted to Gaussians about the targets (HL-Gauss)."""

    is_scalar = False

    def __init__(
        self,
        layers: LayersFactory,
        *,
        bins: int,
        support: Literal["auto"] | Sequence[float],
        sigma: float,
    ) -> None:
        """Build the layers and the bins.

        Args:
            sigma: deviation of a target in bins.
        """
        super().__init__(layers, bins)
        self.sigma = sigma
        # A bin reaches half its width beyond its centre.
        margin = max(_CUT * sigma - 0.5, 0.0)
        self.support = Support(bins=bins, limits=support, is_symlog=False, margin=margin)
        self.learns_support = self.support.learns

    def value(self, output: Float[Tensor, "*N K"]) -> Float[Tensor, "*N"]:
        """Mean of the histogram."""
        return self.support.mean(output)

    def value_mirror(self) -> RowFunction:
        """Numpy form of `value`."""
        return self.support.mean_mirror()

    def loss(
        self, output: Float[Tensor, "*N K"], target: Float[Tensor, "*N"]
    ) -> Float[Tensor, "*N"]:
        """Cross-entropy to a Gaussian about the target."""
        centres, width = self.support.centres, self.support.width
        edges = torch.cat([centres, centres[-1:] + width]) - width / 2
        return cross_entropy(
            output, gaussian_histogram(self.support.clamp(target), edges, self.sigma * width)
        )

    def observe(
        self, returns: Float[Tensor, "*N"], valid: Bool[Tensor, "*N"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Learn the support, if it is learnt; count targets outside."""
        return self.support.observe(returns, valid, self.layers.project)
