"""Lightweight action distributions.

In `torch.distributions`, broadcasting and validation take longer than the arithmetic of small
policies. Samples are functions of noise drawn by the caller, so that acting in numpy and in PyTorch
gives the same actions and all random numbers come from one generator.
"""

import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)

IMPOSSIBLE = -1e30
"""Logit of what cannot be chosen; an infinite one would make gradients NaN (0 * inf)."""
Legal = Bool[Tensor, "..."]
"""Which actions are legal, `[*N, A]`; of several choices, which options, `[*N, D, K]`."""


def mask_illegal(values: Float[Tensor, "*N A"], legal: Legal | None) -> Float[Tensor, "*N A"]:
    """Make values of illegal actions lower than all others; None: every action is legal."""
    return values if legal is None else values.masked_fill(~legal, IMPOSSIBLE)


@runtime_checkable
class Choice(Protocol):
    """Interface of action distributions for acting."""

    def mode(self) -> Shaped[Tensor, "..."]:
        """Most probable action."""

    def sample(self, noise: Float[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Sample an action, given noise."""


class Categorical:
    """Probabilities `softmax(logits)` over actions 0 .. K - 1."""

    def __init__(self, logits: Float[Tensor, "*N K"]) -> None:
        self._logits = logits
        self.log_probabilities = functional.log_softmax(logits, dim=-1)

    def mask_illegal(self, legal: Legal) -> "Categorical":
        """Return the distribution over legal actions; the others have probability 0."""
        return type(self)(mask_illegal(self._logits, legal))

    def log_prob(self, actions: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Log-probability of each action."""
        return self.log_probabilities.gather(-1, actions[..., None]).squeeze(-1)

    def entropy(self) -> Float[Tensor, "*N"]:
        """Entropy in nats, `-sum p log p`."""
        return -(self.log_probabilities.exp() * self.log_probabilities).sum(-1)

    def mode(self) -> Int[Tensor, "*N"]:
        """Most probable action, as numpy acts; log-probabilities may round to ties."""
        return self._logits.argmax(-1)

    def sample(self, noise: Float[Tensor, "*N K"]) -> Int[Tensor, "*N"]:
        """Add standard Gumbel noise to the logits and take the largest.

        Source: Gumbel (1954); Maddison et al. (2014), arXiv:1411.0030, section 2.
        """
        return (self.log_probabilities + noise).argmax(-1)


class MultiCategorical(Categorical):
    """D independent categorical distributions over K options, padded with `IMPOSSIBLE` logits."""

    def log_prob(self, actions: Int[Tensor, "*N D"]) -> Float[Tensor, "*N"]:
        """Log-probability of each action, summed over choices."""
        return super().log_prob(actions).sum(-1)

    def entropy(self) -> Float[Tensor, "*N"]:
        """Entropy in nats, summed over choices."""
        return super().entropy().sum(-1)


class Bernoulli:
    """D independent bits; bit d is 1 with probability `sigmoid(logits_d)`."""

    def __init__(self, logits: Float[Tensor, "*N D"]) -> None:
        self.logits = logits

    def log_prob(self, actions: Int[Tensor, "*N D"]) -> Float[Tensor, "*N"]:
        """Log-probability of each action, summed over bits.

        log sigmoid(l) for a 1, log(1 - sigmoid(l)) = log sigmoid(-l) for a 0
        """
        return functional.logsigmoid(torch.where(actions > 0, self.logits, -self.logits)).sum(-1)

    def entropy(self) -> Float[Tensor, "*N"]:
        """Entropy in nats, summed over bits.

        log(1 + e^-|l|) + |l| sigmoid(-|l|): even in l, and exact for nearly certain bits
        """
        size = self.logits.abs()
        return (functional.softplus(-size) + size * torch.sigmoid(-size)).sum(-1)

    def mode(self) -> Int[Tensor, "*N D"]:
        """Most probable action."""
        return (self.logits > 0).long()

    def sample(self, noise: Float[Tensor, "*N D"]) -> Int[Tensor, "*N D"]:
        """Add standard logistic noise e to the logits: P(l + e > 0) = sigmoid(l)."""
        return (self.logits + noise > 0).long()


class DiagonalGaussian:
    """Independent normal distributions, one per action dimension."""

    def __init__(self, mean: Float[Tensor, "*N A"], log_std: Float[Tensor, "..."]) -> None:
        """Set means and standard deviations, `[*N, A]`, or `[A]` if all rows share them."""
        self.mean = mean
        self.log_std = log_std

    def log_prob(self, actions: Float[Tensor, "*N A"]) -> Float[Tensor, "*N"]:
        """Log-density of each action, summed over dimensions."""
        standardized = (actions - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * standardized.square() - self.log_std - _LOG_SQRT_TAU).sum(-1)

    def entropy(self) -> Float[Tensor, "*N"]:
        """Differential entropy in nats.

        sum log sigma + A / 2 (1 + log 2 pi)
        """
        per_dimension = self.log_std + 0.5 + _LOG_SQRT_TAU
        return per_dimension.sum(-1).expand(self.mean.shape[:-1])

    def mode(self) -> Float[Tensor, "*N A"]:
        """Most probable action, the mean."""
        return self.mean

    def sample(self, noise: Float[Tensor, "*N A"]) -> Float[Tensor, "*N A"]:
        """Scale and shift standard normal noise."""
        return self.mean + self.log_std.exp() * noise


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_EDGE = 1.0 - 2.0**-24
"""The largest float32 below 1."""


class SquashedGaussian:
    """The tanh of a diagonal Gaussian u, in (-1, 1).

        log pi(tanh(u)) = log N(u) - sum log(1 - tanh(u)^2)

    Source: Haarnoja et al. (2018), arXiv:1812.05905, appendix C.
    """

    def __init__(self, mean: Float[Tensor, "*N A"], log_std: Float[Tensor, "*N A"]) -> None:
        """Set the means and standard deviations of u."""
        self.before = DiagonalGaussian(mean, log_std)

    def log_prob(self, actions: Float[Tensor, "*N A"]) -> Float[Tensor, "*N"]:
        """Log-density of each action, summed over dimensions."""
        return self._log_prob_of(torch.atanh(actions.clamp(-_EDGE, _EDGE)))

    def sample_with_log_prob(
        self, noise: Float[Tensor, "*N A"]
    ) -> tuple[Float[Tensor, "*N A"], Float[Tensor, "*N"]]:
        """Sample actions with their log-densities, also of those that round to +-1."""
        inner = self.before.sample(noise)
        return inner.tanh(), self._log_prob_of(inner)

    def entropy(self) -> Float[Tensor, "*N"]:
        """Differential entropy in nats, `H(u) + sum E[log(1 - tanh(u)^2)]`.

        The expectation has no closed form; Gauss-Hermite quadrature makes it deterministic and
        differentiable.
        """
        mean, std = self.before.mean[..., None], self.before.log_std.exp()[..., None]
        nodes, weights = (torch.from_numpy(each).to(mean) for each in (_NODES, _WEIGHTS))
        slopes = _log_slope(mean + std * nodes) @ (weights / weights.sum())
        return self.before.entropy() + slopes.sum(-1)

    def mode(self) -> Float[Tensor, "*N A"]:
        """The tanh of the mean."""
        return self.before.mean.tanh()

    def sample(self, noise: Float[Tensor, "*N A"]) -> Float[Tensor, "*N A"]:
        """Scale, shift and squash standard normal noise."""
        return self.before.sample(noise).tanh()

    def _log_prob_of(self, inner: Float[Tensor, "*N A"]) -> Float[Tensor, "*N"]:
        return self.before.log_prob(inner) - _log_slope(inner).sum(-1)


def _log_slope(inner: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Stable `log(1 - tanh(u)^2) = 2 (log 2 - u - log(1 + exp(-2u)))`."""
    return 2.0 * (math.log(2.0) - inner - functional.softplus(-2.0 * inner))


class Deterministic:
    """One action, in [-1, 1]."""

    def __init__(self, actions: Float[Tensor, "*N A"]) -> None:
        self.actions = actions

    def mode(self) -> Float[Tensor, "*N A"]:
        """The action."""
        return self.actions

    def sample(self, noise: Float[Tensor, "*N A"]) -> Float[Tensor, "*N A"]:
        """The action with noise, clipped to [-1, 1]."""
        return (self.actions + noise).clamp(-1, 1)
