"""Returns: lambda returns of rollouts, and n-step returns of replayed windows."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from networks.memory.memories import ChosenSteps


def lambda_returns(
    rewards: Float[Tensor, "T B"],
    next_values: Float[Tensor, "T B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    *,
    discount: float,
    gae_lambda: float,
) -> Float[Tensor, "T B"]:
    """Compute lambda returns, backwards from the last step.

        G_t = r_t + d_t * ((1 - l_t) * v_{t+1} + l_t * G_{t+1})

    Termination sets the discount d_t to 0. Truncation sets lambda l_t to 0, so the return
    bootstraps from the final observation. `G - v` is the generalised advantage (GAE). Lambda 0
    gives TD(0), lambda 1 Monte-Carlo returns.

    Args:
        next_values: `v_{t+1}`, the value of the observation that each step leads to.

    Source: Sutton & Barto (2018), section 12.1; Schulman et al. (2016), arXiv:1506.02438, eq. 16.
    """
    discounts = discount * (~terminated).to(rewards.dtype)
    lambdas = gae_lambda * (~truncated).to(rewards.dtype)
    constants = rewards + discounts * (1 - lambdas) * next_values
    factors = discounts * lambdas
    constants[-1] += factors[-1] * next_values[-1]
    return _linear_recurrence(constants, factors)


def _linear_recurrence(
    constants: Float[Tensor, "T B"], factors: Float[Tensor, "T B"]
) -> Float[Tensor, "T B"]:
    """Solve `G_t = c_t + f_t * G_{t+1}` with `G_T = 0`, in log2(T) steps instead of T.

    After the step with shift s, `G_t = c_t + f_t * G_{t+s}`: each step substitutes the equation of
    t + s into that of t. Factors are at most 1, so nothing overflows.

    Source: Hillis & Steele (1986); Blelloch (1990), section 1.4.
    """
    shift, steps = 1, len(constants)
    while shift < steps:
        head, tail = constants[:-shift], constants[-shift:]
        constants = torch.cat([torch.addcmul(head, factors[:-shift], constants[shift:]), tail])
        factors = torch.cat(
            [factors[:-shift] * factors[shift:], torch.zeros_like(factors[-shift:])]
        )
        shift *= 2
    return constants


class Bootstrap(NamedTuple):
    """N-step rewards of L steps of N windows, and the observations they bootstrap from.

        G_t = rewards + discounts * v(observations[steps])

    Attributes:
        rewards: discounted sums, up to the end of the episode at most.
        discounts: of the bootstrap value; 0 where the episode terminated.
        steps: index in the window of the observation that is bootstrapped from.
    """

    rewards: Float[Tensor, "L N"]
    discounts: Float[Tensor, "L N"]
    steps: ChosenSteps

    def steps_from(self, first: int) -> ChosenSteps:
        """Return `steps` relative to the window's observation `first`."""
        if isinstance(self.steps, slice):
            return slice(self.steps.start - first, self.steps.stop - first)
        return self.steps - first


def n_step_bootstrap(
    rewards: Float[Tensor, "W N"],
    terminated: Bool[Tensor, "W N"],
    truncated: Bool[Tensor, "W N"],
    *,
    first: int,
    length: int,
    n_step: int,
    discount: float,
) -> Bootstrap:
    """Sum the rewards of up to `n_step` steps, fewer where the episode ends earlier.

        k = min(n, steps to the end);  rewards_t = sum_{i < k} discount^i r_{t + i}
        discounts_t = discount^k, or 0 if step t + k - 1 terminated

    A terminated episode does not bootstrap. A truncated one bootstraps from its final
    observation, `observations[t + k]`.

    Args:
        first, length: returns are computed for the steps `first ... first + length - 1`.

    Source: Sutton & Barto (2018), section 7.1; Watkins (1989).
    """
    here = slice(first, first + length)
    total, ends = rewards[here], terminated[here]
    discounts = discount * ~ends
    if n_step == 1:
        following = slice(first + 1, first + 1 + length)
        return Bootstrap(rewards=total, discounts=discounts, steps=following)
    start = torch.arange(first + 1, first + 1 + length, device=rewards.device)
    steps = start[:, None].expand(total.shape)
    goes_on = ~(ends | truncated[here])
    for ahead in range(1, n_step):
        here = slice(first + ahead, first + ahead + length)
        ends = terminated[here]
        total = total + torch.where(goes_on, discounts * rewards[here], 0.0)
        further = discounts * torch.where(ends, 0.0, discount)
        discounts = torch.where(goes_on, further, discounts)
        steps = steps + goes_on
        goes_on = goes_on & ~(ends | truncated[here])
    return Bootstrap(rewards=total, discounts=discounts, steps=steps)
