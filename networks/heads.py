"""Heads turn summaries into values here, into actions in `policy_heads`.

Value heads own their loss.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from networks.initialization import initialize
from networks.mirror import RowFunction, linear_mirror, mirror_of
from networks.mlp import MLP

_HIDDEN_GAIN = math.sqrt(2)


class Head(nn.Module):
    """Hidden layers of the head's own, then one linear layer."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        hidden_sizes: Sequence[int],
        activation: str,
        initialization: str,
        gain: float,
    ) -> None:
        """Build the layers; `gain` is the output layer's, hidden ones use sqrt(2)."""
        super().__init__()
        self.hidden = MLP(
            (input_size,),
            hidden_sizes=hidden_sizes,
            activation=activation,
            layer_norm=False,
            initialization=initialization,
            gain=_HIDDEN_GAIN,
        )
        self.output = nn.Linear(self.hidden.output_size, output_size)
        initialize(self.output, initialization=initialization, gain=gain)

    def linear(self, summary: Float[Tensor, "*N H"]) -> Float[Tensor, "*N O"]:
        """Apply all layers; rows may have any leading shape of one dimension or more."""
        rows: Tensor = self.output(self.hidden(summary.flatten(0, -2)))
        return rows.view(*summary.shape[:-1], -1)

    def linear_mirror(self) -> RowFunction | None:
        """Numpy form of `linear`."""
        hidden, output = mirror_of(self.hidden), linear_mirror(self.output)
        return None if hidden is None else lambda summary: output(hidden(summary))


class ValueHead(Head, ABC):
    """A value per summary, in whatever form is fitted best, trained by a loss of its own.

    Attributes:
        is_scalar: whether the output is the value itself, so that it can be clipped.
    """

    is_scalar = True

    def forward(self, summary: Float[Tensor, "*N H"]) -> Float[Tensor, "..."]:
        """Return the raw output of each summary: `[*N]` of a scalar head, `[*N, O]` of others."""
        output = self.linear(summary)
        return output.squeeze(-1) if self.is_scalar else output

    def value(self, output: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the value `[*N]` that each raw output stands for, in units of return."""
        return output

    @abstractmethod
    def loss(
        self, output: Float[Tensor, "..."], target: Float[Tensor, "*N"]
    ) -> Float[Tensor, "*N"]:
        """Elementwise loss of raw outputs against target values."""

    def observe(
        self, returns: Float[Tensor, "*N"], valid: Bool[Tensor, "*N"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Look at a trajectory's targets before the first step on them; return metrics.

        What a head learns of its targets in other ways than by gradients, it learns here.
        """
        return {}


class MSEValueHead(ValueHead):
    """Regression by the squared error, `(v - y)^2`."""

    def __init__(self, input_size: int, **layers: Any) -> None:
        """Build the layers."""
        super().__init__(input_size, 1, **layers)

    def loss(self, output: Float[Tensor, "*N"], target: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Squared error."""
        return (output - target).square()


class HuberValueHead(ValueHead):
    """Quadratic within `delta` of the target, linear beyond (Huber 1964)."""

    def __init__(self, input_size: int, *, delta: float, **layers: Any) -> None:
        """Build the layers; `delta` is in units of the target."""
        super().__init__(input_size, 1, **layers)
        self.delta = delta

    def loss(self, output: Float[Tensor, "*N"], target: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Huber loss."""
        return functional.huber_loss(output, target, reduction="none", delta=self.delta)
