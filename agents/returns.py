"""Returns of a stream: one recursion for GAE, TD(lambda), TD(0) and Monte-Carlo."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def lambda_returns(
    rewards: Float[Tensor, "T B"],
    next_values: Float[Tensor, "T B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    *,
    discount: float,
    gae_lambda: float,
) -> Float[Tensor, "T B"]:
    """Mix n-step returns of every length, from the last step back.

        G_t = r_t + d_t * ((1 - l_t) * v_{t+1} + l_t * G_{t+1})

    Termination zeroes the discount d_t; truncation zeroes lambda l_t, so the final observation's
    value stands in for what was cut. `G - v` is the generalised advantage; lambda 0 gives TD(0),
    lambda 1 Monte-Carlo.

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

    After the step with shift s, `G_t = c_t + f_t * G_{t+s}`: each step puts the equation of t + s
    into that of t. Factors are at most 1, so nothing grows.

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
