"""Update rules of optimizers as tensor functions: a step can be called off without a branch.

Each rule moves one flat parameter vector in place. `weight` is 1, or 0 for a step that must change
nothing: parameters, moments and step count stay, and no branch on data is needed.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Vector = Float[Tensor, " P"]
Scalar = Float[Tensor, ""]


class UpdateRule(nn.Module, ABC):
    """Update rule and state of an optimizer on one flat vector.

    Args:
        weight_decay: factor of the parameters that is added to the gradients.
        state: buffers by name.
    """

    def __init__(self, *, weight_decay: float, **state: Tensor) -> None:
        super().__init__()
        self.weight_decay = weight_decay
        for name, tensor in state.items():
            self.register_buffer(name, tensor)

    @abstractmethod
    def update(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Update `parameters` in place; weight 0 changes nothing, even with nan gradients."""


class Adam(UpdateRule):
    """Adam and, with `decoupled`, AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019).

    Steps along `m / (sqrt(v) + eps)` with bias-corrected moments m and v.
    """

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(
        self,
        parameters: Vector,
        *,
        weight_decay: float,
        decoupled: bool,
        betas: Sequence[float],
        eps: float,
    ) -> None:
        super().__init__(
            weight_decay=weight_decay,
            first=torch.zeros_like(parameters),
            second=torch.zeros_like(parameters),
            count=parameters.new_zeros(()),
        )
        self.betas, self.eps = tuple(betas), eps
        # PyTorch's fused kernel takes a tenth of the time of the separate operations.
        self._fused = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def update(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Update `parameters` in place."""
        self.count.add_(weight)
        self._fused(
            [parameters],
            [gradients],
            [self.first],
            [self.second],
            [],
            [self.count.float()],
            lr=learning_rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            found_inf=(1 - weight).float(),  # 1 skips the step
        )


class RMSpropTF(UpdateRule):
    """RMSprop in TensorFlow's form: eps inside the root, and the running square starts at 1.

    Steps along `g / sqrt(E[g^2] + eps)`. Early steps are smaller than in PyTorch's form, where they
    have the size of the learning rate for any gradient.
    """

    square: Tensor

    def __init__(
        self, parameters: Vector, *, alpha: float, eps: float, weight_decay: float
    ) -> None:
        super().__init__(weight_decay=weight_decay, square=torch.ones_like(parameters))
        self.alpha, self.eps = alpha, eps

    def update(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Update `parameters` in place."""
        gradients = gradients.masked_fill(weight == 0, 0.0)  # 0 * nan is nan
        gradients = gradients + self.weight_decay * parameters
        self.square.lerp_(gradients.square(), (1 - self.alpha) * weight)
        parameters.sub_(learning_rate * weight * gradients * (self.square + self.eps).rsqrt())


class TorchRule(UpdateRule):
    """Wraps an optimizer class, such as PyTorch's; the flat vector is its only parameter.

    Meant for elementwise optimizers. `state_dict()` holds the state as plain
    tensors: `state.*`, `number.*` for state that is Python numbers, and `option.*` for options that
    the optimizer has changed.
    """

    def __init__(self, parameters: Vector, *, factory: Any, weight_decay: float) -> None:
        """Build the optimizer; `factory(params, lr=..., weight_decay=...)` as in `torch.optim`."""
        super().__init__(weight_decay=0.0)  # the optimizer's own affair
        options = {"weight_decay": weight_decay} if weight_decay else {}
        self.optimizer = factory([parameters], lr=1.0, **options)  # set at each step
        self._options = _numbers(self.optimizer.param_groups[0])

    def update(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Update `parameters` in place."""
        if weight.item() == 0:
            return
        group = self.optimizer.param_groups[0]
        group["lr"] = learning_rate.item()
        group["params"][0].data, group["params"][0].grad = parameters, gradients
        self.optimizer.step()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        kept = self.optimizer.state_dict()
        state = kept["state"].get(0, {})
        options = _numbers(kept["param_groups"][0])
        numbers = {f"number.{name}": value for name, value in _numbers(state).items()}
        numbers |= {
            f"option.{name}": value
            for name, value in options.items()
            if name != "lr" and value != self._options.get(name)
        }
        for name, number in numbers.items():
            precise = torch.float64 if isinstance(number, float) else None
            destination[prefix + name] = torch.tensor(number, dtype=precise)
        for name, value in state.items():
            if isinstance(value, Tensor):
                destination[f"{prefix}state.{name}"] = value
            elif value is not None and f"number.{name}" not in numbers:
                raise ValueError(
                    f"optimizer: {type(self.optimizer).__name__} keeps a {type(value).__name__} "
                    f"({name}), which no checkpoint can hold; choose another"
                )

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        found: dict[str, dict[str, Any]] = {"state": {}, "number": {}, "option": {}}
        for key in (key for key in state_dict if key.startswith(prefix)):
            kind, _, name = key.removeprefix(prefix).partition(".")
            if kind in found:
                value = state_dict[key].clone()
                found[kind][name] = value if kind == "state" else value.item()
            else:  # saved by another optimizer
                unexpected_keys.append(key)
        state = found["state"] | found["number"]
        group = self.optimizer.state_dict()["param_groups"][0]
        self.optimizer.load_state_dict(
            {
                "state": {0: state} if state else {},
                "param_groups": [group | self._options | found["option"]],
            }
        )


def _numbers(options: Mapping[str, Any]) -> dict[str, int | float]:
    return {name: value for name, value in options.items() if isinstance(value, int | float)}
