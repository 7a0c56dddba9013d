"""The floor of a gradient step: its arithmetic, at the speed of this machine's matrix products.

seconds >= operations of its products / operations per second of one large product
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

SIZE = 512  # of the square matrices of the measured product: larger ones are not faster
REPEATS = 100
COUNTED = 2  # gradient steps: TD3 trains its actor in every second


class Operations(FlopCounterMode):
    """Counts the floating-point operations of products of matrices while it is entered.

    PyTorch's counter does not know its fused LSTM on CPUs: those are counted by formula.
    """

    def __init__(self) -> None:
        fused = torch.ops.aten.mkldnn_rnn_layer, torch.ops.aten.mkldnn_rnn_layer_backward
        formulas = dict(zip(fused, (_lstm, _lstm_backward), strict=True))
        super().__init__(display=False, custom_mapping=formulas)


def _lstm(
    inputs: Sequence[int],
    by_input: Sequence[int],
    by_state: Sequence[int],
    *rest: Any,
    **named: Any,
) -> int:
    """Count `2 T B 4H (F + H)` for T steps of B sequences, F inputs and H units."""
    steps, batch, size = inputs
    gates, units = by_state
    return 2 * steps * batch * gates * (size + units)


def _lstm_backward(*arguments: Any, **named: Any) -> int:
    """Count twice the forward pass: the gradients of inputs and of weights."""
    return 2 * _lstm(*arguments, **named)


def products_per_second() -> float:
    """Return the floating-point operations per second of a large product: the best of many."""
    left, right = torch.rand(2, SIZE, SIZE)
    fastest = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        left @ right
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * SIZE**3 / fastest
