"""Compiles an agent's gradient step: whole if feed-forward, around the memory otherwise."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from torch import nn

from agents.optimizer import Optimizer
from networks.memory import Memory

Step = TypeVar("Step", bound=Callable[..., object])


def compiled(step: Step, *, modules: Iterable[nn.Module]) -> Step:
    """Return `step` traced by `torch.compile`, compiled at its first call, for fixed shapes.

    Fused recurrent kernels stay as they are: Dynamo cannot trace them, and the number of null steps
    changes from batch to batch, which must not compile anything anew.

    Args:
        modules: everything that the step calls, at any depth.
    """
    import torch._dynamo

    # Lets autograd.grad be part of the graph: forward, backward, clipping and update become one.
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        torch._dynamo.config.trace_autograd_ops = True
    for module in modules:
        # Bound anew: a copied agent keeps no old wrapper.
        if isinstance(module, Memory) and not module.compilable:
            forward = type(module).forward.__get__(module)
            module.forward = torch.compiler.disable(forward)  # type: ignore[method-assign]
        if isinstance(module, Optimizer) and not module.compilable:
            step_of = type(module).step.__get__(module)
            module.step = torch.compiler.disable(step_of)  # type: ignore[method-assign]
    # Inductor's own tanh calls a library element by element; written with exp it is vectorised (a
    # quarter of a small network's gradient step, measured) and stays within 1e-7.
    traced: Any = torch.compile(step, dynamic=False, options={"cpp.use_decompose_tanh": True})
    return cast("Step", traced)
