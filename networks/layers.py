"""Layers that fully connected networks are built of besides PyTorch's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from networks.mirror import Array, RowFunction, array_of, layers_mirror
from networks.observations import any_part

_EPSILON = 1e-3
_MOMENTUM = 0.01
_LARGEST_SCALE, _LARGEST_SHIFT = 3.0, 5.0
_WARM_UP = 100_000


def half_precision(layers: nn.Module, rows: Any, *, is_on: bool) -> Tensor:
    """Apply layers to rows, or to their parts; in bfloat16 if it is on, the output is float32."""
    if not is_on:  # a context costs as much as a small layer
        return layers(rows)
    with torch.autocast(any_part(rows).device.type, torch.bfloat16):
        output: Tensor = layers(rows)
    return output.float()


class BatchRenorm(nn.Module):
    """Batch renormalisation: batch statistics, corrected towards the running ones that act.

        y = w ((x - m_B) / s_B * r + d) + b
        r = clip(s_B / s, 1 / 3, 3),  d = clip((m_B - m) / s, -5, 5),  without gradient

    In the first 100,000 gradient steps r = 1 and d = 0, as in batch normalisation. In evaluation
    mode `y = w (x - m) / s + b`.

    Args:
        size: of a row.
        count: of networks side by side, C, if there are several.

    Source: Ioffe (2017), arXiv:1702.03275; numbers of Bhatt et al. (2024), arXiv:1902.05605.
    """

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, size: int, *count: int) -> None:
        super().__init__()
        shape = (*count, 1, size)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, rows: Float[Tensor, "*C N I"]) -> Float[Tensor, "... N I"]:
        """Normalise each column; several networks may read the same rows."""
        deviation = (self.variance + _EPSILON).sqrt()
        if not self.training:
            return (rows - self.mean) / deviation * self.weight + self.bias
        variance, mean = torch.var_mean(rows, -2, correction=0, keepdim=True)
        own = (variance + _EPSILON).sqrt()
        with torch.no_grad():
            is_warm = self.steps >= _WARM_UP
            scale = (own / deviation).clamp(1 / _LARGEST_SCALE, _LARGEST_SCALE)
            shift = ((mean - self.mean) / deviation).clamp(-_LARGEST_SHIFT, _LARGEST_SHIFT)
            scale, shift = torch.where(is_warm, scale, 1.0), torch.where(is_warm, shift, 0.0)
            # A gradient step on numbers that are not finite is skipped, and must leave no trace.
            is_sound = (mean + variance).isfinite().all()
            for running, new in ((self.mean, mean), (self.variance, variance)):
                running.lerp_(torch.where(is_sound, new, running), _MOMENTUM)
            self.steps.add_(is_sound)
        return ((rows - mean) / own * scale + shift) * self.weight + self.bias

    def mirror(self) -> RowFunction:
        """Numpy form of `forward` in evaluation mode."""
        tensors = self.mean, self.variance, self.weight, self.bias
        mean, variance, weight, bias = map(array_of, tensors)

        def apply(rows: Array) -> Array:
            output: Array = (rows - mean) / np.sqrt(variance + np.float32(_EPSILON))
            output *= weight
            output += bias
            return output

        return apply


class Residual(nn.Sequential):
    """A block that is added to its input, `x + f(x)`."""

    def forward(self, rows: Tensor) -> Tensor:
        """Apply the block."""
        block: Tensor = super().forward(rows)  # type: ignore[no-untyped-call]
        return rows + block

    def mirror(self) -> RowFunction | None:
        """Numpy form of `forward`."""
        block = layers_mirror(*self)
        return None if block is None else lambda rows: rows + block(rows)


class StackedLinear(nn.Module):
    """The linear layers of C networks as one batched product.

        y_c = x_c W_c + b_c

    Attributes:
        weight: `[C, I, O]`, by input, as `torch.bmm` computes its gradient.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([each.weight.detach().t() for each in layers]))
        self.bias = nn.Parameter(torch.stack([each.bias.detach() for each in layers])[:, None])

    def forward(self, rows: Float[Tensor, "*C N I"]) -> Float[Tensor, "C N O"]:
        """Apply each network's layer to its rows, or to the same ones."""
        if self.weight.shape[2] == 1:  # the gradient of a batched product of one column is slow
            return (rows * self.weight.transpose(1, 2)).sum(-1, keepdim=True) + self.bias
        return torch.baddbmm(self.bias, rows.expand(len(self.weight), -1, -1), self.weight)


class StackedLayerNorm(nn.LayerNorm):
    """The layer normalisations of C networks, each with its own weights."""

    def __init__(self, size: int, count: int) -> None:
        super().__init__(size)
        self.weight = nn.Parameter(torch.ones(count, 1, size))
        self.bias = nn.Parameter(torch.zeros(count, 1, size))

    def forward(self, rows: Float[Tensor, "*C N I"]) -> Float[Tensor, "C N I"]:
        """Normalise each row."""
        normalized = functional.layer_norm(rows, self.normalized_shape, eps=self.eps)
        return normalized * self.weight + self.bias


def stacked(alike: Sequence[nn.Module]) -> nn.Module:
    """Join the same layer of C newly built networks, `[N, I]` or `[C, N, I]` to `[C, N, O]`."""
    layer = alike[0]
    if isinstance(layer, nn.Sequential):
        return type(layer)(*map(stacked, zip(*alike, strict=True)))
    if isinstance(layer, nn.Linear):
        return StackedLinear(alike)
    if isinstance(layer, nn.LayerNorm):
        return StackedLayerNorm(layer.normalized_shape[0], len(alike))
    if isinstance(layer, BatchRenorm):
        return BatchRenorm(layer.mean.shape[-1], len(alike))
    return layer  # without weights
