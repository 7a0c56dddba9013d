"""Compiles an agent's gradient step: whole for feed-forward networks, around the memory otherwise."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from agents.optimizer import Optimizer
from networks.backbone import Backbone

Step = TypeVar("Step", bound=Callable[..., object])


def compiled(step: Step, *, backbones: Sequence[Backbone], optimizer: Optimizer) -> Step:
    """Return `step` traced by `torch.compile`, compiled at its first call.

    Fused recurrent kernels stay as they are: Dynamo cannot trace them, and the number of null steps
    changes from batch to batch, which must not compile anything anew.
    """
    import torch._dynamo

    # Lets autograd.grad be part of the graph, so that forward, backward, clipping and update are one.
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        torch._dynamo.config.trace_autograd_ops = True
    memories = [backbone.memory for backbone in backbones]
    for memory in memories:
        if not memory.compilable:
            memory.forward = torch.compiler.disable(memory.forward)  # type: ignore[method-assign]
    if not optimizer.compilable:
        optimizer.step = torch.compiler.disable(optimizer.step)  # type: ignore[method-assign]
    # Inductor's own tanh calls a library element by element; written with exp it is vectorised (a
    # quarter of the step's time, measured) and stays within 1e-7.
    return torch.compile(step, dynamic=False, options={"cpp.use_decompose_tanh": True})
