"""Optimizers as tensor functions: whole gradient steps can be compiled and gated.

Each rule moves one flat parameter vector in place, with the arithmetic of the `torch.optim` class
it is named after where there is one (the tests hold them together). `weight` is 1, or 0 for a step
that must change nothing: parameters, moments and step count stay, and no branch on data is needed.
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
    """State of one optimizer over one flat vector; the state tensors are buffers."""

    def update(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move `parameters` in place; gradients may be anything where the weight is 0."""
        # masked, because 0 * nan is nan
        kept = gradients.masked_fill(weight == 0, 0.0)
        self._move(parameters, kept, learning_rate, weight)

    @abstractmethod
    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move `parameters` in place by finite gradients, which are zero where the weight is."""


def _zeros(parameters: Vector, needed: bool) -> Tensor:
    """State for every parameter, or none where the options make no use of it."""
    return torch.zeros_like(parameters) if needed else parameters.new_zeros(0)


class Adam(UpdateRule):
    """Adam and, with `decoupled`, AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019)."""

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(
        self,
        parameters: Vector,
        *,
        betas: Sequence[float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        """Start with zero moments."""
        super().__init__()
        self.betas, self.eps = tuple(betas), eps
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.register_buffer("first", torch.zeros_like(parameters))
        self.register_buffer("second", torch.zeros_like(parameters))
        self.register_buffer("count", parameters.new_zeros(()))

    def update(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move along `m / (sqrt(v) + eps)` with bias-corrected moments m and v."""
        if torch.compiler.is_compiling() or parameters.dtype != torch.float32:
            super().update(parameters, gradients, learning_rate, weight)
            return
        self.count.add_(weight)
        # PyTorch's own kernel: a tenth of the time of the operations that it stands for.
        update = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        update(
            [parameters],
            [gradients],
            [self.first],
            [self.second],
            [],
            [self.count],
            lr=learning_rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            found_inf=1 - weight,  # 1 leaves everything as it is
        )

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move by operations that a compiler makes one of."""
        if self.weight_decay and self.decoupled:
            parameters.mul_(1 - weight * learning_rate * self.weight_decay)
        elif self.weight_decay:
            gradients = gradients + self.weight_decay * parameters
        beta1, beta2 = self.betas
        self.count.add_(weight)
        self.first.lerp_(gradients, (1 - beta1) * weight)
        self.second.lerp_(gradients.square(), (1 - beta2) * weight)
        # Before the first step that counts, 0 / 0 is avoided by correcting as for step 1.
        count = self.count.clamp(min=1.0)
        scale = learning_rate * weight / (1 - beta1**count)
        deviation = self.second.sqrt().mul_((1 - beta2**count).rsqrt()).add_(self.eps)
        parameters.sub_(self.first.div(deviation).mul_(scale))


class RMSprop(UpdateRule):
    """RMSprop, optionally centred and with momentum (Tieleman & Hinton 2012; Graves 2013)."""

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
        """Start with zero moments."""
        super().__init__()
        self.alpha, self.eps, self.momentum = alpha, eps, momentum
        self.centered, self.weight_decay = centered, weight_decay
        self.register_buffer("square", torch.zeros_like(parameters))
        self.register_buffer("mean", _zeros(parameters, centered))
        self.register_buffer("velocity", _zeros(parameters, momentum > 0))

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move along `g / (sqrt(E[g^2]) + eps)`."""
        if self.weight_decay:
            gradients = gradients + self.weight_decay * parameters
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
    """RMSprop in TensorFlow's form: eps inside of the root, the running square starts at 1.

    Early steps are smaller than in PyTorch's form, where they are of the size of the learning rate
    whatever the gradient.
    """

    square: Tensor

    def __init__(
        self, parameters: Vector, *, alpha: float, eps: float, weight_decay: float
    ) -> None:
        """Start as if gradients had been 1."""
        super().__init__()
        self.alpha, self.eps, self.weight_decay = alpha, eps, weight_decay
        self.register_buffer("square", torch.ones_like(parameters))

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move along `g / sqrt(E[g^2] + eps)`."""
        if self.weight_decay:
            gradients = gradients + self.weight_decay * parameters
        self.square.lerp_(gradients.square(), (1 - self.alpha) * weight)
        parameters.sub_(learning_rate * weight * gradients * (self.square + self.eps).rsqrt())


class SGD(UpdateRule):
    """Stochastic gradient descent, optionally with (Nesterov) momentum."""

    velocity: Tensor

    def __init__(
        self, parameters: Vector, *, momentum: float, nesterov: bool, weight_decay: float
    ) -> None:
        """Start at rest."""
        super().__init__()
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.register_buffer("velocity", _zeros(parameters, momentum > 0))

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move along the gradient or the velocity."""
        direction = gradients
        if self.weight_decay:
            direction = direction + self.weight_decay * parameters
        if self.momentum:
            self.velocity.lerp_(self.momentum * self.velocity + direction, weight)
            direction = (
                direction + self.momentum * self.velocity if self.nesterov else self.velocity
            )
        parameters.sub_(learning_rate * weight * direction)


class TorchRule(UpdateRule):
    """Any other optimizer class, handed the flat vector as its only parameter.

    Not compilable, and meant for optimizers that work element by element. What it keeps is in
    `state_dict()` as plain tensors: `state.*`, `number.*` for what it keeps as Python numbers, and
    `option.*` for options that it has changed itself.
    """

    def __init__(self, parameters: Vector, *, factory: Any, weight_decay: float) -> None:
        """Build the optimizer; `factory(params, lr=..., weight_decay=...)` as in `torch.optim`."""
        super().__init__()
        options = {"weight_decay": weight_decay} if weight_decay else {}
        self.optimizer = factory([parameters], lr=1.0, **options)  # the rate comes with each step
        self._options = _numbers(self.optimizer.param_groups[0])

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Step, unless the step must not count."""
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
            else:  # of another optimizer
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


_ADAPTIVE_FROM = 5.0
"""Length of the average from which its variance is tractable: torch.optim.RAdam's, the paper's 4
made safer."""


class RAdam(UpdateRule):
    """Adam whose first steps are plain momentum, until enough squares are averaged to divide by.

        rho_inf = 2 / (1 - beta_2) - 1
        rho_t = rho_inf - 2 t beta_2^t / (1 - beta_2^t)
        r_t = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))

    With m and v corrected for their bias, the step is `r_t m / sqrt(v)` where `rho_t > 5`, and `m`
    before: no warm-up of the learning rate is needed.

    Source: Liu et al. (2020), arXiv:1908.03265, algorithm 2.
    """

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(
        self, parameters: Vector, *, betas: Sequence[float], eps: float, weight_decay: float
    ) -> None:
        """Start with zero moments."""
        super().__init__()
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay
        self.register_buffer("first", torch.zeros_like(parameters))
        self.register_buffer("second", torch.zeros_like(parameters))
        self.register_buffer("count", parameters.new_zeros(()))

    def _move(
        self, parameters: Vector, gradients: Vector, learning_rate: Scalar, weight: Scalar
    ) -> None:
        """Move along `m`, or along `r_t m / sqrt(v)`."""
        if self.weight_decay:
            gradients = gradients + self.weight_decay * parameters
        beta1, beta2 = self.betas
        self.count.add_(weight)
        self.first.lerp_(gradients, (1 - beta1) * weight)
        self.second.lerp_(gradients.square(), (1 - beta2) * weight)
        # Before the first step that counts, 0 / 0 is avoided by correcting as for step 1. In double
        # precision, because rho_t is a small difference of large numbers at first.
        count = self.count.clamp(min=1.0).double()
        rate = (learning_rate * weight / (1 - beta1**count)).to(parameters.dtype)
        deviation = self.second.sqrt().add_(self.eps)
        parameters.sub_(self.first * rate * self._adaptation(deviation, count))

    def _adaptation(self, deviation: Vector, count: Float[Tensor, ""]) -> Float[Tensor, " P"]:
        """Return what multiplies the first moment: `r_t sqrt(1 - beta_2^t) / deviation`, or 1."""
        beta2 = self.betas[1]
        bias = 1 - beta2**count
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * count * (1 - bias) / bias
        is_adaptive = length > _ADAPTIVE_FROM
        safe = length.clamp(min=_ADAPTIVE_FROM)  # no root of a negative number on the other side
        ratio = (safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe)
        scale = (ratio * bias).sqrt().to(deviation.dtype)
        return torch.where(is_adaptive, scale / deviation, 1.0)
