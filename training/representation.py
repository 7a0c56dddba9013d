"""Measures of what networks make of what they observe: pure functions of activations and features.

Which observations, and when, is the work of `telemetry`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

_DORMANT = 0.025
"""Part of its layer's mean activation up to which a unit counts as dormant."""
_LEFT_OUT = 0.01
"""Part of the singular values' sum that the effective rank leaves out."""
_SATURATED = 0.99
_OF_NO_UNIT = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin)
"""Modules beside PyTorch's activations that do not act unit by unit."""


def dormant_share(layers: Sequence[Float[Tensor, " K"]]) -> Float[Tensor, ""]:
    """Share of units that hardly ever react, over several layers.

        s_i = mean |h_i| / mean_k mean |h_k|,   dormant if s_i <= 0.025

    Source: Sokar et al. (2023), arXiv:2302.12902, definitions 3.1 and 3.2.

    Args:
        layers: mean absolute activation of each unit.
    """
    scores = [sizes / (sizes.mean() + 1e-9) for sizes in layers]
    return (torch.cat(scores) <= _DORMANT).float().mean()


def effective_rank(features: Float[Tensor, "N F"]) -> Float[Tensor, ""]:
    """Count the directions that features make use of; nan where they are not finite.

        min k:  sum_{i <= k} sigma_i / sum_i sigma_i >= 1 - 0.01,   singular values in falling order

    Source: Kumar et al. (2021), arXiv:2010.14498, srank in section 3.
    """
    if not features.isfinite().all():
        return features.new_tensor(torch.nan)
    wide = features.double()
    # Eigenvalues of the smaller product: twenty times as fast as singular values.
    gram = wide.T @ wide if wide.shape[0] > wide.shape[1] else wide @ wide.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0.0).sqrt().flip(0)
    needed: Tensor = values.cumsum(0) < (1 - _LEFT_OUT) * values.sum()
    rank: Tensor = needed.sum() + (values.sum() > 0)
    return rank.float()


def mean_norm(rows: Float[Tensor, "*N F"]) -> Float[Tensor, ""]:
    """Mean Euclidean norm of rows."""
    norms: Tensor = rows.norm(dim=-1)
    return norms.mean()


def saturation(state: Float[Tensor, "*N S"]) -> Float[Tensor, ""]:
    """Share of a state's numbers that lie at one of the ends of [-1, 1]."""
    return (state.abs() > _SATURATED).float().mean()


class Activations:
    """Mean absolute activation of every unit, over batches: maps of an image are one unit each."""

    def __init__(self) -> None:
        """Start empty."""
        self._sums: list[Tensor] = []
        self._counts: list[int] = []
        self._next = 0

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Add up what the activation layers of a module put out in one call of it."""
        self._next = 0
        hooks = [layer.register_forward_hook(self._add) for layer in _activations_of(module)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _add(self, layer: nn.Module, inputs: object, output: Tensor) -> None:
        units = 1 if output.dim() > 3 else output.dim() - 1  # [N, C, H, W], or [N, ..., F]
        others = [axis for axis in range(output.dim()) if axis != units]
        sizes = output.detach().abs().float().sum(others)
        count = output.numel() // output.shape[units]
        # A layer that is called twice is two layers.
        if self._next == len(self._sums):
            self._sums.append(sizes)
            self._counts.append(count)
        else:
            self._sums[self._next] += sizes
            self._counts[self._next] += count
        self._next += 1

    def means(self) -> list[Float[Tensor, " K"]]:
        """Return the mean absolute activation of each unit, layer by layer."""
        return [sizes / count for sizes, count in zip(self._sums, self._counts, strict=True)]


def _activations_of(module: nn.Module) -> list[nn.Module]:
    return [
        layer
        for layer in module.modules()
        if type(layer).__module__ == "torch.nn.modules.activation"
        and not isinstance(layer, _OF_NO_UNIT)
    ]
