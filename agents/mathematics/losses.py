"""Losses and statistics as functions of tensors; every mean is over valid steps only."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(
    values: Float[Tensor, "*K L N"], valid: Bool[Tensor, "L N"]
) -> Float[Tensor, " *K"]:
    """Mean over the valid steps, 0 when there is none; what stands at other steps never matters."""
    return torch.where(valid, values, 0.0).sum((-2, -1)) / valid.sum().clamp(min=1)


def normalized_advantages(
    advantages: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"]
) -> Float[Tensor, "L N"]:
    """Shift and scale to mean 0 and deviation 1 over valid steps; a single step comes out as 0."""
    centred = advantages - masked_mean(advantages, valid)
    deviation = masked_mean(centred.square(), valid).sqrt()
    return centred / (deviation + 1e-8)


def clipped_surrogate(
    ratio: Float[Tensor, "*N"], advantages: Float[Tensor, "*N"], clip_range: Float[Tensor, ""]
) -> Float[Tensor, "*N"]:
    """PPO's policy loss per step, `-min(rho A, clip(rho, 1 - c, 1 + c) A)`.

    Source: Schulman et al. (2017), arXiv:1707.06347, eq. 7.
    """
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def approximate_kl(log_ratio: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Estimate KL(old || new) per step without bias and never below zero, `(rho - 1) - log rho`.

    Source: Schulman (2020), joschu.net/blog/kl-approx.html, estimator k3.
    """
    return torch.expm1(log_ratio) - log_ratio


def explained_variance(
    values: Float[Tensor, "L N"], returns: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"]
) -> Float[Tensor, ""]:
    """Share of the returns' variance that values explain: 1 is perfect, 0 a constant, < 0 worse.

    1 - Var[returns - values] / Var[returns]; nan when the returns do not vary
    """
    residual = returns - values
    unexplained = masked_mean((residual - masked_mean(residual, valid)).square(), valid)
    variance = masked_mean((returns - masked_mean(returns, valid)).square(), valid)
    return torch.where(variance > 0, 1 - unexplained / variance, torch.nan)
