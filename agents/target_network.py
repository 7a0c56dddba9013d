"""A slow copy of networks, from which targets are computed."""

import copy
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn


class TargetNetwork(nn.Module):
    """A copy of modules that follows them from afar and takes no gradient.

    Args:
        modules: by name; the copies are attributes of the same names.
        shared: modules inside that are not copied but one and the same: how inputs are scaled.

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning"; Lillicrap
    et al. (2016), arXiv:1509.02971, section 3, for the slow form.
    """

    def __init__(self, modules: Mapping[str, nn.Module], *, shared: Iterable[nn.Module]) -> None:
        """Copy the modules as they are."""
        super().__init__()
        self._originals = dict(modules)  # in a dictionary, so that they are no part of this one
        memo = {id(module): module for module in shared}
        for name, module in copy.deepcopy(self._originals, memo).items():
            self.add_module(name, module)
        for own, _ in self._parameters_in_pairs():
            own.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "TargetNetwork":
        """Stay as in acting: targets are no place for dropout."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Move towards the originals, `own <- own + rate * (original - own)`; 1 copies.

        What is no parameter (statistics of a batch normalisation, the limits of a histogram) is
        copied: it has no slow form.
        """
        parameters = list(self._parameters_in_pairs())
        if parameters:
            own, originals = map(list, zip(*parameters, strict=True))
            if rate == 1:
                torch._foreach_copy_(own, originals)
            else:
                torch._foreach_lerp_(own, originals, rate)
        for buffer, original in self._buffers_in_pairs():
            buffer.copy_(original)

    def _parameters_in_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for name, original in self._originals.items():
            own = self.get_submodule(name).parameters()
            yield from _distinct(own, original.parameters())

    def _buffers_in_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for name, original in self._originals.items():
            yield from _distinct(self.get_submodule(name).buffers(), original.buffers())


def _distinct(
    own: Iterable[Tensor], originals: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair tensors, leaving out those that both have in common."""
    return (pair for pair in zip(own, originals, strict=True) if pair[0] is not pair[1])
