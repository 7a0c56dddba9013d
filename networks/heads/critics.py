"""Layers of several critics of the same inputs, computed together."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from conf.schema.extractors import BlocksOptions
from networks.heads.values import (
    Head,
    Noise,
    Outputs,
    Summary,
    ValueHead,
    ValueLayers,
    project_linear,
)
from networks.layers import half_precision, stacked


class CriticLayers(ValueLayers):
    """Fully connected layers of C critics with weights of their own, `[*N, H] -> [*N, C, *A, K]`.

        h_c <- f(W_c h_c + b_c)

    The C products of a layer are one batched product (`networks.layers`).

    Args:
        input_size: of a summary; with continuous actions, of a summary and an encoded action.
        output_size: numbers per value, K.
        num_critics: C.
        num_actions: A, the values of every action; None: one value, of the action in the input.

    Attributes:
        half_precision: whether hidden layers compute in bfloat16.
    """

    noise_size = 0
    half_precision = False

    def __init__(
        self,
        input_size: int,
        output_size: int,
        options: BlocksOptions,
        *,
        num_critics: int,
        num_actions: int | None,
    ) -> None:
        super().__init__()
        values = () if num_actions is None else (num_actions,)
        self.output_shape = (num_critics, *values, output_size)
        width = output_size * (num_actions or 1)
        # Initialised one critic at a time, as a single one is.
        critics = [Head(input_size, width, options) for _ in range(num_critics)]
        *hidden, self.output = map(stacked, zip(*(c.sequence for c in critics), strict=True))
        self.hidden = nn.Sequential(*hidden)

    @property
    def sequence(self) -> list[nn.Module]:
        """All layers in order."""
        return [*self.hidden, self.output]

    def forward(self, summary: Summary, noise: Noise = None) -> Outputs:
        """Return the rows `[*N, C, *A, K]`."""
        rows = summary.flatten(0, -2)
        hidden = half_precision(self.hidden, rows, is_on=self.half_precision)
        outputs = self.output(hidden).transpose(0, 1)  # [M, C, O]
        return outputs.reshape(*summary.shape[:-1], outputs.shape[1], *self.output_shape[1:])

    def first(self, summary: Summary) -> Outputs:
        """Return the first critic's rows `[*N, 1, *A, K]`, without computing the others."""
        everyone = self.state_dict(keep_vars=True)
        own = {name: each[:1] if each.ndim else each for name, each in everyone.items()}
        rows: Tensor = functional_call(self, own, summary)
        return rows

    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Project the output layer of every critic, each group of K outputs in the same way."""
        output: Any = self.output
        for weight, own in zip(output.weight, output.bias, strict=True):
            project_linear(weight.t(), own[0], weights, bias)

    def mirror(self) -> None:
        """No numpy form: critics do not act."""


def lowest(head: ValueHead, outputs: Float[Tensor, "L N C *K"]) -> Float[Tensor, "L N *K"]:
    """Return the outputs of the critic with the lowest value, for each step.

    Source: Fujimoto et al. (2018), arXiv:1802.09477, section 4.2; of distributions, the one with
    the lowest mean.
    """
    if head.is_scalar:
        return outputs.amin(2)
    chosen = head.value(outputs).argmin(2)
    return outputs[torch.arange(len(outputs))[:, None], torch.arange(outputs.shape[1]), chosen]
