"""Rectified Adam as a tensor function, beside the rules of `agents.update_rules`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from agents.update_rules import Scalar, UpdateRule, Vector

_ADAPTIVE_FROM = 5.0
"""Length of the average from which its variance is tractable: torch.optim.RAdam's, the paper's 4
made safer."""


class RAdam(UpdateRule):
    """Adam whose first steps are plain momentum, until enough squares are averaged to divide by.

        rho_inf = 2 / (1 - beta_2) - 1
        rho_t = rho_inf - 2 t beta_2^t / (1 - beta_2^t)
        r_t = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))

    With m and v corrected for their bias, the step is `r_t m / sqrt(v)` where `rho_t > 5`, and `m`
    before: no warm-up of the learning rate is needed.

    Source: Liu et al. (2020), arXiv:1908.03265, algorithm 2.
    """

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(
        self, parameters: Vector, *, betas: Sequence[float], eps: float, weight_decay: float
    ) -> None:
        """Start with zero moments."""
        super().__init__()
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay
        self.register_buffer("first", torch.zeros_like(parameters))
        self.register_buffer("second", torch.zeros_like(parameters))
        self.register_buffer("count", parameters.new_zeros(()))

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move along `m`, or along `r_t m / sqrt(v)`."""
        if self.weight_decay:
            gradients = gradients + self.weight_decay * parameters
        beta1, beta2 = self.betas
        self.count.add_(weight)
        self.first.lerp_(gradients, (1 - beta1) * weight)
        self.second.lerp_(gradients.square(), (1 - beta2) * weight)
        # Before the first step that counts, 0 / 0 is avoided by correcting as for step 1. In double
        # precision, because rho_t is a small difference of large numbers at first.
        count = self.count.clamp(min=1.0).double()
        rate = (learning_rate * weight / (1 - beta1**count)).to(parameters.dtype)
        deviation = self.second.sqrt().add_(self.eps)
        parameters.sub_(self.first * rate * self._adaptation(deviation, count))

    def _adaptation(self, deviation: Vector, count: Float[Tensor, ""]) -> Float[Tensor, " P"]:
        """Return what multiplies the first moment: `r_t sqrt(1 - beta_2^t) / deviation`, or 1."""
        beta2 = self.betas[1]
        bias = 1 - beta2**count
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * count * (1 - bias) / bias
        is_adaptive = length > _ADAPTIVE_FROM
        safe = length.clamp(min=_ADAPTIVE_FROM)  # no root of a negative number on the other side
        ratio = (safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe)
        scale = (ratio * bias).sqrt().to(deviation.dtype)
        return torch.where(is_adaptive, scale / deviation, 1.0)
