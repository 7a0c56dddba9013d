"""Update rules of optimizers as tensor functions: a step can be called off without a branch.

Each rule moves one flat parameter vector in place, with the arithmetic of the `torch.optim` class
it is named after where there is one (the tests hold them together). `weight` is 1, or 0 for a step
that must change nothing: parameters, moments and step count stay, and no branch on data is needed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Vector = Float[Tensor, " P"]
Scalar = Float[Tensor, ""]


class UpdateRule(nn.Module):
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

    def update(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Update `parameters` in place; weight 0 changes nothing, even with nan gradients."""
        # masked, because 0 * nan is nan
        gradients = gradients.masked_fill(weight == 0, 0.0)
        if self.weight_decay:
            gradients = gradients + self.weight_decay * parameters
        self._move(parameters, gradients, learning_rate, weight)

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Update `parameters` in place by finite gradients."""
        raise NotImplementedError


class _Moments(UpdateRule):
    """Running means of the gradients and of their squares, with the number of steps."""

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(
        self, parameters: Vector, *, betas: Sequence[float], eps: float, weight_decay: float
    ) -> None:
        super().__init__(
            weight_decay=weight_decay,
            first=torch.zeros_like(parameters),
            second=torch.zeros_like(parameters),
            count=parameters.new_zeros(()),
        )
        self.betas, self.eps = tuple(betas), eps


class Adam(_Moments):
    """Adam and, with `decoupled`, AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019).

    Steps along `m / (sqrt(v) + eps)` with bias-corrected moments m and v.
    """

    def __init__(
        self, parameters: Vector, *, weight_decay: float, decoupled: bool, **options: Any
    ) -> None:
        super().__init__(parameters, weight_decay=0.0 if decoupled else weight_decay, **options)
        self._shrinkage = weight_decay if decoupled else 0.0
        # PyTorch's fused kernel takes a tenth of the time of the separate operations.
        self._fused = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def update(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Update `parameters` in place; weight 0 changes nothing, even with nan gradients."""
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
            weight_decay=self.weight_decay + self._shrinkage,  # one of them is 0
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            found_inf=(1 - weight).float(),  # 1 skips the step
        )


_ADAPTIVE_FROM = 5.0
"""Value of rho_t above which steps are adaptive: 5 as in torch.optim.RAdam (4 in the paper)."""


class RAdam(_Moments):
    """Rectified Adam: plain momentum until the average of squared gradients is reliable.

        rho_inf = 2 / (1 - beta_2) - 1
        rho_t = rho_inf - 2 t beta_2^t / (1 - beta_2^t)
        r_t = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))

    With bias-corrected m and v, the step is `r_t m / sqrt(v)` where `rho_t > 5`, and `m` before.
    No learning rate warm-up is needed.

    Source: Liu et al. (2020), arXiv:1908.03265, algorithm 2.
    """

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        beta1, beta2 = self.betas
        self.count.add_(weight)
        self.first.lerp_(gradients, (1 - beta1) * weight)
        self.second.lerp_(gradients.square(), (1 - beta2) * weight)
        # At least 1, against 0 / 0 before the first step that counts; in double precision, because
        # rho_t is at first a small difference of large numbers.
        count = self.count.clamp(min=1.0).double()
        rate = (learning_rate * weight / (1 - beta1**count)).to(parameters.dtype)
        deviation = self.second.sqrt().add_(self.eps)
        parameters.sub_(self.first * rate * self._adaptation(deviation, count))

    def _adaptation(self, deviation: Vector, count: Float[Tensor, ""]) -> Float[Tensor, " P"]:
        """Return the factor of the first moment: `r_t sqrt(1 - beta_2^t) / deviation`, or 1."""
        beta2 = self.betas[1]
        bias = 1 - beta2**count
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * count * (1 - bias) / bias
        is_adaptive = length > _ADAPTIVE_FROM
        safe = length.clamp(min=_ADAPTIVE_FROM)  # no root of a negative number
        ratio = (safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe)
        scale = (ratio * bias).sqrt().to(deviation.dtype)
        return torch.where(is_adaptive, scale / deviation, 1.0)


def _zeros(parameters: Vector, needed: bool) -> Tensor:
    """State for every parameter; empty if the options do not use it."""
    return torch.zeros_like(parameters) if needed else parameters.new_zeros(0)


class RMSprop(UpdateRule):
    """RMSprop, optionally centred and with momentum (Tieleman & Hinton 2012; Graves 2013).

    Steps along `g / (sqrt(E[g^2]) + eps)`.
    """

    square: Tensor
    mean: Tensor
    velocity: Tensor

    def __init__(
        self,
        parameters: Vector,
        *,
        alpha: float,
        eps: float,
        momentum: float,
        centered: bool,
        weight_decay: float,
    ) -> None:
        super().__init__(
            weight_decay=weight_decay,
            square=torch.zeros_like(parameters),
            mean=_zeros(parameters, centered),
            velocity=_zeros(parameters, momentum > 0),
        )
        self.alpha, self.eps, self.momentum, self.centered = alpha, eps, momentum, centered

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        self.square.lerp_(gradients.square(), (1 - self.alpha) * weight)
        variance = self.square
        if self.centered:
            self.mean.lerp_(gradients, (1 - self.alpha) * weight)
            variance = variance - self.mean.square()
        direction = gradients / (variance.clamp(min=0.0).sqrt() + self.eps)
        if self.momentum:
            self.velocity.lerp_(self.momentum * self.velocity + direction, weight)
            direction = self.velocity
        parameters.sub_(learning_rate * weight * direction)


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

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        self.square.lerp_(gradients.square(), (1 - self.alpha) * weight)
        parameters.sub_(learning_rate * weight * gradients * (self.square + self.eps).rsqrt())


class SGD(UpdateRule):
    """Stochastic gradient descent, optionally with (Nesterov) momentum."""

    velocity: Tensor

    def __init__(
        self, parameters: Vector, *, momentum: float, nesterov: bool, weight_decay: float
    ) -> None:
        super().__init__(weight_decay=weight_decay, velocity=_zeros(parameters, momentum > 0))
        self.momentum, self.nesterov = momentum, nesterov

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        direction = gradients
        if self.momentum:
            self.velocity.lerp_(self.momentum * self.velocity + direction, weight)
            direction = self.velocity
            if self.nesterov:
                direction = gradients + self.momentum * self.velocity
        parameters.sub_(learning_rate * weight * direction)


class TorchRule(UpdateRule):
    """Wraps any other optimizer class; the flat vector is its only parameter.

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

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
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
