"""Value heads that fit a histogram by cross-entropy.

A value is the mean of a softmax over bins. Its target is a distribution whose mean is the return.
The gradient of the logits, `softmax - target`, is bounded for any scale of returns.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.heads import (
    HistogramValueHeadOptions,
    HLGaussValueHeadOptions,
    TwoHotValueHeadOptions,
)
from networks.heads.values import LayersFactory, Metrics, ValueHead, Values
from networks.mirror import Array, RowFunction, array_of
from networks.ranks import count_valid, largest

Histograms = Float[Tensor, "*N K"]
"""Logits, or probabilities, of K bins."""
Limits = Literal["auto"] | Sequence[float]
Projection = Callable[[Float[Tensor, "K K"], Float[Tensor, " K"]], None]
"""`weights, bias -> None`: changes layers to output `weights @ logits + bias`."""

_HEADROOM = 2.0
"""Initial learnt limit, relative to the largest return."""
_OUTSIDE = 8.0
"""Difference by which logits of added bins are below those of the former outermost bins."""
_LARGEST = 1e30
"""Limit of a learnt support: larger values mean divergence."""


def symlog(value: Values) -> Values:
    """`sign(v) log(1 + |v|)` (Hafner et al. 2023, arXiv:2301.04104)."""
    return value.sign() * value.abs().log1p()


def symexp(value: Values) -> Values:
    """Inverse of `symlog`, `sign(v) (exp |v| - 1)`."""
    return value.sign() * value.abs().expm1()


class Support(nn.Module):
    """Bins between two limits; a softmax over them represents a value.

    A learnt support is symmetric about zero, so that a new head's value is zero. Its limit starts
    at twice the largest absolute return of the first trajectory with a return other than zero, and
    is doubled while a return lies outside. It never shrinks. The limits are buffers, saved in
    checkpoints.

    Args:
        bins: number of bins, K.
        limits: values of the first and the last bin; "auto" learns them.
        is_symlog: whether bins are evenly spaced in `symlog(value)` instead of in the value.
        margin: number of bins at each limit that a learnt support keeps free of targets.
    """

    limits: Tensor
    centres: Tensor
    is_known: Tensor

    def __init__(self, *, bins: int, limits: Limits, is_symlog: bool, margin: float) -> None:
        """Create the bins; a learnt support is [-1, 1] until the first return."""
        super().__init__()
        self.learns = isinstance(limits, str)
        self.given = torch.tensor([-1.0, 1.0] if isinstance(limits, str) else list(limits))
        self._bins, self._is_symlog = bins, is_symlog
        self._share_of_targets = 1 - min(2 * margin / (bins - 1), 0.5)
        self.register_buffer("limits", self.given.clone())
        self.register_buffer("centres", self._lay_out(self.given))
        self.register_buffer("is_known", torch.tensor(not self.learns))
        self.register_load_state_dict_post_hook(_refuse_other_limits)  # type: ignore[no-untyped-call]

    @property
    def width(self) -> Float[Tensor, ""]:
        """Distance between neighbouring bins, for evenly spaced bins."""
        return (self.limits[1] - self.limits[0]) / (self._bins - 1)

    def clamp(self, target: Values) -> Values:
        """Clip targets to the support."""
        return torch.clamp(target, self.limits[0], self.limits[1])

    def mean(self, logits: Histograms) -> Values:
        """Expected value of a histogram."""
        terms = logits.softmax(-1) * self.centres
        # Summed in pairs from both ends, so that large values of opposite sign cancel exactly.
        return (terms + terms.flip(-1)).sum(-1) / 2

    def mean_mirror(self) -> RowFunction:
        """Numpy form of `mean`."""
        centres = array_of(self.centres)

        def mean(logits: Array) -> Array:
            terms = np.exp(logits - logits.max(-1, keepdims=True))
            terms *= centres / terms.sum(-1, keepdims=True)
            terms += terms[..., ::-1].copy()
            return terms.sum(-1) * np.float32(0.5)

        return mean

    @torch.no_grad()
    def observe(self, returns: Values, valid: Bool[Tensor, "*N"], project: Projection) -> Metrics:
        """Update the limits from targets; return the share of targets outside.

        Args:
            project: `ValueLayers.project` of the layers before the logits; maps them to wider bins
                so that values are preserved.
        """
        if self.learns:
            sizes = torch.where(valid & returns.isfinite(), returns.abs(), 0.0)
            self._include(min(float(largest(sizes.max())), _LARGEST), project)
        inside = (returns >= self.limits[0]) & (returns <= self.limits[1])
        outside = (valid & ~inside).sum() / count_valid(valid)
        metrics = {"value/outside_support": outside}
        return metrics | ({"value/support": self.limits[1].clone()} if self.learns else {})

    def _include(self, size: float, project: Projection) -> None:
        limit = float(self.limits[1])
        if not self.is_known:
            if size > 0:
                self._move(_HEADROOM * size)  # only zeros were learnt, and zero stays zero
                self.is_known.fill_(True)
            return
        before = limit
        while size > limit * self._share_of_targets:
            limit *= 2
        if limit > before:
            project(*self._projection(limit))
            self._move(limit)

    def _move(self, limit: float) -> None:
        self.limits.copy_(torch.tensor([-limit, limit]))
        self.centres.copy_(self._lay_out(self.limits))

    def _lay_out(self, limits: Float[Tensor, "2"]) -> Float[Tensor, " K"]:
        low, high = (symlog(limits.double()) if self._is_symlog else limits.double()).unbind()
        # From the middle, so that symmetric limits give bins in exact pairs about zero.
        steps = torch.arange(self._bins, dtype=torch.float64, device=limits.device)
        steps = (steps - (self._bins - 1) / 2) / (self._bins - 1)
        points = (low + high) / 2 + steps * (high - low)
        return (symexp(points) if self._is_symlog else points).float()

    def _projection(self, limit: float) -> tuple[Float[Tensor, "K K"], Float[Tensor, " K"]]:
        """Return the linear map from logits of the current bins to logits of wider bins.

        The projection of a distribution splits each bin's probability between the two nearest new
        bins (Bellemare et al. 2017, arXiv:1707.06887, eq. 7). A linear map of logits approximates
        it: a new bin gets the mean of the old logits, weighted by its shares of their
        probabilities, plus the log of the sum of these shares.
        """
        old = self.centres
        new = self._lay_out(torch.tensor([-limit, limit], device=old.device))
        if self._is_symlog:
            old, new = symlog(old), symlog(new)
        width = new[1] - new[0]
        shares = (1 - (old - new[:, None]).abs() / width).clamp(min=0.0)  # [new, old]
        covered = shares.sum(-1, keepdim=True)
        nearest = nn.functional.one_hot((old - new[:, None]).abs().argmin(-1), self._bins)
        weights = torch.where(covered > 0, shares / covered, nearest.to(shares.dtype))
        return weights, (covered / covered.max()).log().clamp(min=-_OUTSIDE).squeeze(-1)


def _refuse_other_limits(support: Support, _: Any) -> None:
    """Refuse loaded weights that were trained with other limits."""
    found, wanted = support.limits.tolist(), support.given.tolist()
    if not support.learns and found != wanted:
        raise ValueError(
            f"value_head.support: expected {found}, the limits that the loaded weights were "
            f"trained with, or auto, got {wanted}"
        )


_CUT = 3.0
"""Standard deviations of a Gaussian target that a learnt support covers; 0.1% lies beyond."""


def two_hot(target: Values, centres: Float[Tensor, " K"]) -> Histograms:
    """Two-hot encoding: split a target between the two nearest bins, so that it is their mean.

        p_k = (c_{k+1} - y) / (c_{k+1} - c_k),  p_{k+1} = 1 - p_k  for  c_k <= y <= c_{k+1}

    Source: Bellemare et al. (2017), arXiv:1707.06887, eq. 7; Schrittwieser et al. (2020),
    arXiv:1911.08265, appendix F; Hafner et al. (2023), arXiv:2301.04104, eq. 9.

    Args:
        target: between the first and the last centre.
        centres: bin centres, ascending.
    """
    share = (target[..., None] - centres[:-1]) / centres.diff()  # of the way to the next centre
    reached = share.clamp(0.0, 1.0)
    rising = functional.pad(reached, (1, 0), value=1.0)
    falling = functional.pad(reached, (0, 1), value=0.0)
    return rising - falling


def gaussian_histogram(
    target: Values, edges: Float[Tensor, " E"], deviation: Float[Tensor, ""]
) -> Histograms:
    """Integrate a Gaussian centred at each target over the bins, `K = E - 1`.

        p_k = (Phi((e_{k+1} - y) / s) - Phi((e_k - y) / s)) / (Phi at the last edge - at the first)

    Source: Imani & White (2018), arXiv:1806.04613; Farebrother et al. (2024), arXiv:2403.03950,
    eq. 3.5 and appendix A.
    """
    cumulated = torch.erf((edges - target[..., None]) / (math.sqrt(2) * deviation))
    return cumulated.diff(dim=-1) / (cumulated[..., -1:] - cumulated[..., :1])


def cross_entropy(logits: Histograms, target: Histograms) -> Values:
    """Cross-entropy of a distribution, `-sum_k p_k log softmax(logits)_k`."""
    return -(target * logits.log_softmax(-1)).sum(-1)


class HistogramValueHead(ValueHead):
    """A value head whose output is a softmax over the bins of a support.

    Attributes:
        support: the bins; configured, or learnt from targets.
    """

    is_scalar = False

    def __init__(
        self, layers: LayersFactory, options: HistogramValueHeadOptions, is_log: bool, margin: float
    ) -> None:
        """Build the layers and the bins; `is_log` and `margin` as of `Support`."""
        super().__init__(layers, options.bins)
        bins, limits = options.bins, options.support
        self.support = Support(bins=bins, limits=limits, is_symlog=is_log, margin=margin)
        self.learns_support = self.support.learns

    def value(self, output: Histograms) -> Values:
        """Mean of the histogram."""
        return self.support.mean(output)

    def value_mirror(self) -> RowFunction:
        """Numpy form of `value`."""
        return self.support.mean_mirror()

    def observe(self, returns: Values, valid: Bool[Tensor, "*N"]) -> Metrics:
        """Update a learnt support; return the share of targets outside."""
        return self.support.observe(returns, valid, self.layers.project)


class TwoHotValueHead(HistogramValueHead):
    """Histogram fitted to two-hot targets; `symlog` spacing suits values of any scale."""

    Options = TwoHotValueHeadOptions

    def __init__(self, layers: LayersFactory, options: TwoHotValueHeadOptions) -> None:
        super().__init__(layers, options, options.symlog, margin=0.0)

    def loss(self, output: Histograms, target: Values) -> Values:
        """Cross-entropy against the two-hot target."""
        return cross_entropy(output, two_hot(self.support.clamp(target), self.support.centres))


class HLGaussValueHead(HistogramValueHead):
    """Histogram fitted to Gaussians centred at the targets (HL-Gauss)."""

    Options = HLGaussValueHeadOptions

    def __init__(self, layers: LayersFactory, options: HLGaussValueHeadOptions) -> None:
        # A bin extends half its width beyond its centre.
        margin = max(_CUT * options.sigma - 0.5, 0.0)
        super().__init__(layers, options, is_log=False, margin=margin)
        self.sigma = options.sigma

    def loss(self, output: Histograms, target: Values) -> Values:
        """Cross-entropy against the Gaussian target."""
        centres, width = self.support.centres, self.support.width
        edges = torch.cat([centres, centres[-1:] + width]) - width / 2
        return cross_entropy(
            output, gaussian_histogram(self.support.clamp(target), edges, self.sigma * width)
        )
