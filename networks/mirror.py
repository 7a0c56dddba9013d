"""Numpy mirrors: fast inference of small networks for acting.

With a small network and few environments, PyTorch's overhead is tens of microseconds per layer,
several times the arithmetic. A module that takes a few lines of numpy has `mirror()`: a function on
arrays that reads the *same memory* as the module's parameters, so that it needs no synchronisation
when weights are updated in place. Modules without a mirror act in PyTorch.

Mirrors are views of parameter storage. If that storage is replaced (by moving a module to another
device, or packing its parameters), they must be rebuilt; `Agent` does so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from conf.schema.layout import is_ours

Array = NDArray[Any]
RowFunction = Callable[[Array], Array]
"""`rows [N, *I] -> rows [N, O]`."""


def describes_forward(module: nn.Module, name: str) -> bool:
    """Whether an attribute of the module's class fits its `forward`.

    A user's subclass may override `forward` alone.
    """
    kinds = type(module).__mro__
    owner = next((kind for kind in kinds if name in vars(kind)), None)
    forward = next(kind for kind in kinds if "forward" in vars(kind))
    if owner is None:
        return False
    return issubclass(owner, forward) or is_ours(forward.__module__)


def mirror_of(module: nn.Module) -> Any | None:
    """Return the module's numpy mirror; None if it has none."""
    build: Any = getattr(module, "mirror", None)
    return build() if callable(build) and describes_forward(module, "mirror") else None


def array_of(tensor: Tensor) -> Array:
    """View a CPU tensor as an array, detached from autograd."""
    return tensor.detach().numpy()


def can_mirror(module: nn.Module) -> bool:
    """Whether every parameter is float32 in CPU memory."""
    return all(p.device.type == "cpu" and p.dtype == torch.float32 for p in module.parameters())


def unchanged(rows: Any) -> Any:
    """Identity; `chained` skips it."""
    return rows


def chained(*functions: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """Compose functions, the first one first; None if one of them is None."""
    if None in functions:
        return None
    kept = [function for function in functions if function and function is not unchanged]
    if len(kept) < 2:
        return kept[0] if kept else unchanged

    def apply(rows: Any) -> Any:
        for function in kept:
            rows = function(rows)
        return rows

    return apply


def affine_mirror(weight: Tensor, bias: Tensor | None) -> RowFunction:
    """Mirror of `x W^T + b`."""
    transposed = array_of(weight).T
    added = np.zeros(1, np.float32) if bias is None else array_of(bias)

    def apply(rows: Array) -> Array:
        output: Array = rows.dot(transposed)
        output += added
        return output

    return apply


def linear_mirror(layer: nn.Linear) -> RowFunction:
    """Mirror of a linear layer."""
    return affine_mirror(layer.weight, layer.bias)


def layer_norm_mirror(layer: nn.LayerNorm) -> RowFunction:
    """Mirror of `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias` per row."""
    weight, bias, eps = array_of(layer.weight), array_of(layer.bias), np.float32(layer.eps)
    mean = np.full((weight.size, 1), 1 / weight.size, np.float32)  # a product: the fastest mean

    def apply(rows: Array) -> Array:
        centred: Array = rows - np.dot(rows, mean)
        centred /= np.sqrt(np.dot(np.square(centred), mean) + eps)
        centred *= weight
        centred += bias
        return centred

    return apply


def sigmoid(values: Array, out: Array | None = None) -> Array:
    """Logistic function, by tanh because exp overflows for large negative inputs."""
    result: Array = np.multiply(values, np.float32(0.5), out=out)
    np.tanh(result, out=result)
    result += 1.0
    result *= 0.5
    return result


_ZERO = np.zeros((), np.float32)  # a number would first become an array, at each call


_WITHOUT_WEIGHTS: dict[type[nn.Module], RowFunction] = {
    nn.Tanh: lambda values: np.tanh(values, out=values),
    nn.ReLU: lambda values: np.maximum(values, _ZERO, out=values),
    nn.Sigmoid: sigmoid,
    nn.SiLU: lambda values: values * sigmoid(values),
    nn.ELU: lambda values: np.where(values > 0, values, np.expm1(np.minimum(values, 0.0))),
    nn.LeakyReLU: lambda values: np.maximum(values, np.float32(0.01) * values),
    nn.Flatten: lambda rows: rows.reshape(len(rows), -1),
    nn.Identity: unchanged,
    nn.Dropout: unchanged,  # off in acting
}
"""Layers without weights in numpy, which may overwrite their input. Others (GELU needs erf) use
PyTorch."""


def _layer_mirror(layer: nn.Module) -> RowFunction | None:
    if isinstance(layer, nn.Linear):
        return linear_mirror(layer)
    if isinstance(layer, nn.LayerNorm):
        return layer_norm_mirror(layer)
    return _WITHOUT_WEIGHTS.get(type(layer)) or mirror_of(layer)


def layers_mirror(*layers: nn.Module) -> RowFunction | None:
    """Mirror of layers, one after the other; None if numpy lacks one of them."""
    return chained(*map(_layer_mirror, layers))
