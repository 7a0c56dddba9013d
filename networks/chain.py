"""Chains: networks that are one plain sequence of layers, applied to rows without nested modules.

A small network's gradient step is mostly overhead: calls of modules inside modules, and views that
flatten and unflatten time around each of them. Written as one loop over layers, the same operations
on the same parameters take 0.7 of the time (DQN's losses on CartPole, measured).

Functions hold the parameters themselves. They must be built anew after a module was copied or
moved to another device.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from networks.backbone import Backbone, Stream
from networks.heads.action_values import ActionLayers
from networks.heads.values import ValueHead
from networks.mirror import describes_forward
from networks.observations import share_of

Rows = Callable[[Tensor], Tensor]
_FUNCTIONS: dict[type[nn.Module], Rows] = {nn.ReLU: torch.relu, nn.Tanh: torch.tanh}


def chain_of(modules: Sequence[nn.Module]) -> list[Rows] | None:
    """Return the functions that modules apply to rows, one after the other.

    A module of ours with `stages` applies these modules in order. None if one has neither `stages`
    nor is a layer of PyTorch.
    """
    functions: list[Rows] = []
    for module in modules:
        if type(module) is nn.Linear:  # a subclass may compute its weight
            functions.append(partial(functional.linear, weight=module.weight, bias=module.bias))
        elif type(module).__module__.startswith("torch.nn"):
            functions.append(_FUNCTIONS.get(type(module), module))
        else:
            stages: Any = module.stages if describes_forward(module, "stages") else None
            own = None if stages is None else chain_of(stages)
            if own is None:
                return None
            functions += own
    return functions


def value_chain(
    backbone: Backbone, head: ValueHead
) -> Callable[[Stream, slice], Float[Tensor, "L N A *K"]] | None:
    """Return `observations, steps -> head(backbone(observations[steps]))` for action values.

    None if they are not one chain.
    """
    functions = chain_of([backbone, head.layers])
    is_plain = isinstance(head.layers, ActionLayers) and describes_forward(head, "mirror")
    if functions is None or not is_plain:
        return None
    shape, reader = head.layers.output_shape, backbone.reader

    def apply(observations: Stream, steps: slice) -> Tensor:
        own = share_of(observations, reader)
        assert isinstance(own, Tensor)  # no chain reads parts
        chosen = own[steps]
        rows = chosen.flatten(0, 1)
        for function in functions:
            rows = function(rows)
        return rows.view(*chosen.shape[:2], *shape)

    return apply
