"""Numpy mirrors: the cheap way to act.

Acting with a small network on a handful of environments costs PyTorch tens of microseconds of
bookkeeping per layer, several times the arithmetic. A module that can be written in a few numpy
lines offers `mirror()`: a function on arrays that reads the *same memory* as the module's
parameters, so it needs no synchronisation while the weights train in place. Modules without one act
in PyTorch.

Mirrors hold views of parameter storage. Whoever re-points that storage (moving a module to another
device, packing its parameters) must build them anew; `Agent` does so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]
RowFunction = Callable[[Array], Array]
"""Rows in, rows out: `[N, *I] -> [N, O]`."""


def mirror_of(module: nn.Module) -> Any | None:
    """Return the module's numpy mirror, or None where it has none (then it acts in PyTorch)."""
    build = getattr(module, "mirror", None)
    return build() if callable(build) else None


def array_of(tensor: Tensor) -> Array:
    """View a CPU tensor's memory as an array, detached from autograd."""
    array: Array = tensor.detach().numpy()
    return array


def can_mirror(module: nn.Module) -> bool:
    """Tell whether every parameter lies in CPU memory as float32, where numpy can read it."""
    return all(p.device.type == "cpu" and p.dtype == torch.float32 for p in module.parameters())


def unchanged(rows: Any) -> Any:
    """Mirror of what hands its input on; `chained` leaves it out."""
    return rows


def chained(*functions: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Call functions one after another."""
    kept = [function for function in functions if function is not unchanged]
    if not kept:
        return unchanged
    if len(kept) == 1:
        return kept[0]

    def apply(rows: Any) -> Any:
        for function in kept:
            rows = function(rows)
        return rows

    return apply


def linear_mirror(layer: nn.Linear, activation: RowFunction = unchanged) -> RowFunction:
    """Mirror `f(x W^T + b)`."""
    weight = array_of(layer.weight).T
    bias = np.zeros(1, np.float32) if layer.bias is None else array_of(layer.bias)

    def linear(rows: Array) -> Array:
        output: Array = np.dot(rows, weight)
        output += bias
        return output

    def apply(rows: Array) -> Array:
        output: Array = np.dot(rows, weight)
        output += bias
        return activation(output)

    return linear if activation is unchanged else apply


def layer_norm_mirror(layer: nn.LayerNorm) -> RowFunction:
    """Mirror `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias` of each row."""
    weight, bias, eps = array_of(layer.weight), array_of(layer.bias), np.float32(layer.eps)
    mean = np.full((weight.size, 1), 1 / weight.size, np.float32)  # as a product: the fastest

    def apply(rows: Array) -> Array:
        centred: Array = rows - np.dot(rows, mean)
        centred /= np.sqrt(np.dot(np.square(centred), mean) + eps)
        centred *= weight
        centred += bias
        return centred

    return apply


def sigmoid(values: Array) -> Array:
    """Logistic function, through tanh because exp overflows for large negative inputs."""
    result: Array = np.tanh(values * np.float32(0.5))
    result += 1.0
    result *= 0.5
    return result


def _relu(values: Array) -> Array:
    return np.maximum(values, 0.0, out=values)


ACTIVATIONS: dict[str, RowFunction] = {
    "tanh": lambda values: np.tanh(values, out=values),
    "relu": _relu,
    "sigmoid": sigmoid,
    "silu": lambda values: values * sigmoid(values),
    "elu": lambda values: np.where(values > 0, values, np.expm1(np.minimum(values, 0.0))),
    "leaky_relu": lambda values: np.maximum(values, np.float32(0.01) * values),
}
"""Activations in numpy; the others (GELU needs erf) act in PyTorch. May overwrite their input."""
