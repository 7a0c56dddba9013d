"""Distributional value heads, which fit the distribution of returns and not only its mean.

Their targets are distributions, computed from the rewards and one later output. They therefore do
not work with agents whose targets are returns, single numbers.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from conf.schema.heads import C51ValueHeadOptions, QuantileValueHeadOptions
from networks.heads.histograms import Histograms, HistogramValueHead, cross_entropy
from networks.heads.values import LayersFactory, Outputs, Scale, ValueHead, Values, bootstrapped
from networks.mirror import RowFunction


def project(atoms: Histograms, probabilities: Histograms, limits: Float[Tensor, "2"]) -> Histograms:
    """Project atoms onto the support: each probability is split between the two nearest bins.

        m_j = sum_k p_k max(0, 1 - |clip(z'_k) - z_j| / dz)

    Source: Bellemare et al. (2017), arXiv:1707.06887, eq. 7.

    Args:
        atoms: z', clipped to the limits.
        limits: of the evenly spaced bins z, as many as atoms.
    """
    bins = atoms.shape[-1]
    width = (limits[1] - limits[0]) / (bins - 1)
    # In units of bins, so that the shares sum to one for any limits.
    places = ((atoms - limits[0]) / width).clamp(0, bins - 1)
    shares = (1 - (places[..., None] - torch.arange(bins, device=atoms.device)).abs()).clamp(min=0)
    return (probabilities[..., None] * shares).sum(-2)


def quantile_huber(
    output: Histograms, target: Float[Tensor, "*N J"], levels: Float[Tensor, " K"], *, kappa: float
) -> Values:
    """Quantile Huber loss of each output against all targets.

        sum_i mean_j |tau_i - 1{u_ij < 0}| L(u_ij) / kappa,  u_ij = y_j - theta_i
        L(u) = u^2 / 2  where |u| <= kappa,  kappa (|u| - kappa / 2)  beyond

    Source: Dabney et al. (2017), arXiv:1710.10044, eqs. 9 and 10; the division by kappa, with the
    limit `|u|` for `kappa = 0`, is from Dabney et al. (2018), arXiv:1806.06923, eq. 3.

    Args:
        levels: tau, the quantile level of each output.
    """
    outputs, targets = torch.broadcast_tensors(output[..., :, None], target[..., None, :])
    with torch.no_grad():
        weights = torch.where(targets < outputs, 1 - levels[:, None], levels[:, None])
    if kappa > 0:
        losses = functional.huber_loss(outputs, targets, reduction="none", delta=kappa) / kappa
    else:
        losses = functional.l1_loss(outputs, targets, reduction="none")
    return (weights * losses).mean(-1).sum(-1)


class C51ValueHead(HistogramValueHead):
    """Probabilities of returns on evenly spaced atoms (Bellemare et al. 2017)."""

    Options = C51ValueHeadOptions
    fits_returns = False

    def __init__(self, layers: LayersFactory, options: C51ValueHeadOptions) -> None:
        super().__init__(layers, options, is_log=False, margin=0.0)

    @torch.no_grad()
    def target(self, rewards: Values, discounts: Values, later: Outputs, scale: Scale) -> Outputs:
        """Map every atom to `h(r + d h^-1(z))` and project its probability onto the support.

        After termination, d = 0, all probability is at the rewards.
        """
        centres = self.support.centres
        atoms = bootstrapped(rewards[..., None], discounts[..., None], centres, scale)
        return project(atoms, later.softmax(-1), self.support.limits)

    def loss(self, output: Histograms, target: Histograms) -> Values:
        """Cross-entropy against the target distribution."""
        return cross_entropy(output, target)

    @torch.no_grad()
    def error(self, output: Histograms, target: Histograms) -> Values:
        """KL divergence of the target from the output, `KL(target || output)`.

        Source: Hessel et al. (2018), arXiv:1710.02298, section 4.
        """
        entropy = -torch.special.xlogy(target, target).sum(-1)
        divergence: Tensor = cross_entropy(output, target) - entropy
        return divergence.clamp(min=0)


class QuantileValueHead(ValueHead):
    """Quantiles of the distribution of returns, by quantile regression (Dabney et al. 2017).

    Needs no support. Targets may be any number of quantiles.
    """

    Options = QuantileValueHeadOptions
    is_scalar = False
    fits_returns = False
    levels: Tensor

    def __init__(self, layers: LayersFactory, options: QuantileValueHeadOptions) -> None:
        """Build the layers; the K quantiles are at the levels tau_i = (i + 1/2) / K."""
        quantiles = options.quantiles
        super().__init__(layers, quantiles)
        self.kappa = options.kappa
        self.register_buffer("levels", (torch.arange(quantiles) + 0.5) / quantiles, False)

    def value(self, output: Histograms) -> Values:
        """Mean of the quantiles."""
        return output.mean(-1)

    def value_mirror(self) -> RowFunction:
        """Numpy form of `value`."""
        return lambda numbers: numbers.mean(-1)

    @torch.no_grad()
    def target(self, rewards: Values, discounts: Values, later: Outputs, scale: Scale) -> Outputs:
        """Map every quantile to `h(r + d h^-1(theta))`."""
        return bootstrapped(rewards[..., None], discounts[..., None], later, scale)

    def loss(self, output: Histograms, target: Float[Tensor, "*N J"]) -> Values:
        """Quantile Huber loss."""
        return quantile_huber(output, target, self.levels, kappa=self.kappa)

    @torch.no_grad()
    def error(self, output: Histograms, target: Float[Tensor, "*N J"]) -> Values:
        """Absolute error of the mean."""
        return (target.mean(-1) - self.value(output)).abs()
