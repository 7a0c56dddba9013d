"""Scales in which values are fitted: as they are, or squashed where returns are of all sizes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class NoScale:
    """Values as they are, in units of return."""

    def __call__(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the value."""
        return value

    def inverse(self, scaled: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the value."""
        return scaled


@dataclass(frozen=True, kw_only=True)
class Rescaling:
    """Nearly linear about zero, like a square root far out.

        h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x

    Source: Pohlen et al. (2018), arXiv:1805.11593, section 3.2; Kapturowski et al. (2019), R2D2.

    Attributes:
        eps: least slope, which makes the inverse continuous in Lipschitz' sense; > 0.
    """

    eps: float

    def __call__(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Squash a value."""
        size = value.abs()
        # sqrt(a + 1) - 1 without the difference of two numbers near one.
        return value.sign() * (size / (torch.sqrt(size + 1) + 1)) + self.eps * value

    def inverse(self, scaled: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the value that is squashed to this one.

        sign(y) (((sqrt(1 + 4 eps (|y| + 1 + eps)) - 1) / (2 eps))^2 - 1)
        """
        shifted = scaled.abs() + 1 + self.eps
        # The fraction, without the difference of two numbers near one: eps is small.
        root = 2 * shifted / (torch.sqrt(1 + 4 * self.eps * shifted) + 1)
        return scaled.sign() * (root.square() - 1)


ValueScale = NoScale | Rescaling
