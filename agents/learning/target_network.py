"""Target networks: slowly following copies, from which targets are computed."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class TargetNetwork(nn.Module):
    """Copies of modules without gradients, changed only by `update`.

    Args:
        originals: modules to copy.
        shared: submodules that are not copied but shared, such as input normalisation.

    Attributes:
        copies: the copies, in the order of the originals.

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning"; Lillicrap
    et al. (2016), arXiv:1509.02971, section 3, for polyak averaging.
    """

    def __init__(self, originals: Sequence[nn.Module], *, shared: Iterable[nn.Module]) -> None:
        super().__init__()
        memo = {id(module): module for module in shared}
        copies = copy.deepcopy(tuple(originals), memo)
        # Modules that are shared as a whole stay in their place, and in their mode.
        pairs = enumerate(zip(copies, originals, strict=True))
        self._modules.update({str(n): own for n, (own, other) in pairs if own is not other})
        self.copies: tuple[Any, ...] = copies
        # In a plain tuple, so that they do not become submodules.
        self._originals = tuple(originals)
        self.renew()
        for own, _ in self._parameters_in_pairs:
            own.requires_grad_(False)
        self.eval()

    def renew(self) -> None:
        """Pair the tensors anew, after modules were moved or copied."""
        pairs = {
            id(own): (own, other) for own, other in zip(self.copies, self._originals, strict=True)
        }
        own, originals = zip(*pairs.values(), strict=True)  # what is shared is copied once
        self._parameters_in_pairs = _pairs(nn.Module.parameters, own, originals)
        self._buffers_in_pairs = _pairs(nn.Module.buffers, own, originals)

    def train(self, mode: bool = True) -> "TargetNetwork":
        """Stay in evaluation mode: targets are computed without dropout."""
        return super().train(False)

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """Polyak update, `own <- own + rate * (original - own)`; rate 1 copies.

        Buffers (batch normalisation statistics, the limits of a histogram) are copied.
        """
        if self._parameters_in_pairs:
            own, originals = map(list, zip(*self._parameters_in_pairs, strict=True))
            if rate == 1:
                torch._foreach_copy_(own, originals)
            else:
                torch._foreach_lerp_(own, originals, rate)
        for buffer, original in self._buffers_in_pairs:
            buffer.copy_(original)


def _pairs(
    tensors_of: Callable[[nn.Module], Iterable[Tensor]],
    copies: Iterable[nn.Module],
    originals: Iterable[nn.Module],
) -> list[tuple[Tensor, Tensor]]:
    """Pair tensors of copies and originals, without the shared ones."""
    return [
        (own, original)
        for module, other in zip(copies, originals, strict=True)
        for own, original in zip(tensors_of(module), tensors_of(other), strict=True)
        if own is not original
    ]
