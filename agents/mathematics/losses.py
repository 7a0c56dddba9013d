"""Losses and statistics; every mean is over valid steps only."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from networks.ranks import average, count_valid

Count = Int[Tensor, ""] | Float[Tensor, ""]


def masked_mean(
    values: Float[Tensor, "*K L N"],
    valid: Bool[Tensor, "L N"] | None,
    count: Count | None = None,
) -> Float[Tensor, " *K"]:
    """Mean over the valid steps, 0 when there is none; other entries are ignored, even nan.

    Of several ranks, this one's share of the mean over all their steps.

    Args:
        valid: None if all steps are valid.
        count: `count_valid(valid)`, where several means share it.
    """
    if valid is None:
        return values.mean((-2, -1))
    count = count_valid(valid) if count is None else count
    return torch.where(valid, values, 0.0).sum((-2, -1)) / count


def means(
    valid: Bool[Tensor, "L N"] | None,
    *steps: Float[Tensor, "L N"],
    count: Count | None = None,
) -> tuple[Float[Tensor, ""], ...]:
    """Masked mean of each argument, in one operation because small networks pay per operation."""
    return masked_mean(torch.stack(steps), valid, count).unbind()


def select_actions(outputs: Tensor, actions: Int[Tensor, "L N"]) -> Tensor:
    """Pick each row's action, `[L, N, A, *K] -> [L, N, *K]`."""
    if outputs.ndim == 3:
        return outputs.gather(2, actions[..., None]).squeeze(2)
    index = actions.view(*actions.shape, *[1] * (outputs.ndim - actions.ndim))
    return outputs.gather(2, index.expand(*actions.shape, 1, *outputs.shape[3:])).squeeze(2)


def normalized_advantages(
    advantages: Float[Tensor, "L N"],
    valid: Bool[Tensor, "L N"],
    count: Count | None = None,
) -> Float[Tensor, "L N"]:
    """Normalise to mean 0 and standard deviation 1 over valid steps; a single step becomes 0."""
    centred = advantages - average(masked_mean(advantages, valid, count))
    deviation = average(masked_mean(centred.square(), valid, count)).sqrt()
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
    """Unbiased, non-negative estimate of KL(old || new) per step, `(rho - 1) - log rho`.

    Source: Schulman (2020), joschu.net/blog/kl-approx.html, estimator k3.
    """
    return torch.expm1(log_ratio) - log_ratio


def explained_variance(
    values: Float[Tensor, "L N"], returns: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"]
) -> Float[Tensor, ""]:
    """Explained variance of the returns: 1 is perfect, 0 a constant, < 0 worse.

    1 - Var[returns - values] / Var[returns]; nan when the returns are constant
    """
    residual = returns - values
    unexplained, variance = (
        average(masked_mean((each - average(masked_mean(each, valid))).square(), valid))
        for each in (residual, returns)
    )
    return torch.where(variance > 0, 1 - unexplained / variance, torch.nan)


_POSITIONS = ("start", "middle", "end")


def errors_by_position(
    errors: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"] | None
) -> dict[str, Float[Tensor, ""]]:
    """Mean error of each third of the sequences; empty for sequences shorter than three steps.

    A wrong initial memory state shows as large errors at the start of the sequences.
    """
    if valid is None or len(valid) < len(_POSITIONS):
        return {}
    parts = zip(_POSITIONS, errors.tensor_split(3), valid.tensor_split(3), strict=True)
    return {f"value/td_error/{where}": masked_mean(own, known) for where, own, known in parts}


def largest_value(values: Float[Tensor, "L N A"], valid: Bool[Tensor, "L N"]) -> Float[Tensor, ""]:
    """Largest value of any action at a valid step; nan where there is none."""
    found = torch.where(valid[..., None], values, -torch.inf).max()
    return torch.where(found.isinf(), torch.nan, found)


def sequence_priorities(
    errors: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"], *, max_share: float
) -> Float[Tensor, " N"]:
    """Priority of a sequence: weighted sum of its largest and its mean error, over valid steps.

        p = share * max_t |delta_t| + (1 - share) * mean_t |delta_t|

    The priority of a single step is its error. Errors that are not finite count as 0.

    Source: Kapturowski et al. (2019), "Recurrent experience replay", section 2.3; Schaul et al.
    (2016), arXiv:1511.05952.
    """
    kept = torch.where(valid & errors.isfinite(), errors, 0.0)
    mean = kept.sum(0) / valid.sum(0).clamp(min=1)
    return max_share * kept.amax(0) + (1 - max_share) * mean
