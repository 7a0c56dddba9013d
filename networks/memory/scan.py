"""One parallel scan for every linear recurrence: `h_t = a_t * h_{t-1} + b_t`, elementwise.

Steps are combined in pairs, the pairs are scanned, and the steps between follow from them: about
2 log2(T) calls of torch on arrays of halving length, 3 T products, no division and no logarithm.
Decays with |a| <= 1 only ever shrink, so that nothing overflows, and a decay of zero starts an
episode exactly: neither values nor gradients pass it.

Source: Blelloch (1990), "Prefix sums and their applications".
"""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

Steps = Shaped[Tensor, "T *N"]
"""Real or complex numbers of T steps."""


def _forward(decays: Tensor, increments: Tensor, states: Tensor) -> None:
    """Write the state after step t to `states[t + 1]`; `states[0]` is given."""
    pairs = len(decays) // 2
    if pairs:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        late, early = decays[second], increments[first]
        both = torch.addcmul(increments[second], late, early)
        _forward(decays[first] * late, both, states[: 2 * pairs + 1 : 2])
    torch.addcmul(increments[::2], decays[::2], states[:-1:2], out=states[1::2])


def _backward(decays: Tensor, increments: Tensor, sums: Tensor) -> None:
    """Write `s_t = a_t s_{t+1} + b_t` to `sums[t]`; the last one is given."""
    pairs, odd = divmod(len(decays), 2)
    if pairs:
        first, second = slice(odd, None, 2), slice(odd + 1, None, 2)
        early, late = decays[first], increments[second]
        both = torch.addcmul(increments[first], early, late)
        _backward(early * decays[second], both, sums[odd::2])
    rest = slice(1 - odd, None, 2)
    torch.addcmul(increments[rest], decays[rest], sums[2 - odd :: 2], out=sums[1 - odd : -1 : 2])


class _Scan(torch.autograd.Function):
    """The gradient is the scan backwards in time: `g_t = dL/dh_t + conj(a_{t+1}) g_{t+1}`."""

    @staticmethod
    def forward(ctx: Any, decays: Tensor, increments: Tensor, before: Tensor) -> Tensor:
        states = increments.new_empty(len(increments) + 1, *before.shape)
        states[0] = before
        _forward(decays, increments, states)
        ctx.save_for_backward(decays, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decays, states = ctx.saved_tensors
        decays = decays.conj().resolve_conj()
        sums = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        sums[-1] = gradient[-1]
        _backward(decays[1:], gradient[:-1], sums)
        return sums * states[:-1].conj(), sums, sums[0] * decays[0]


def scan(decays: Steps, increments: Steps, before: Shaped[Tensor, "*N"]) -> Steps:
    """Return the states after every step, `h_t = a_t * h_{t-1} + b_t` from `before`."""
    if len(increments) == 1:
        return increments + decays * before
    states: Tensor = _Scan.apply(decays, increments, before)  # type: ignore[no-untyped-call]
    return states
