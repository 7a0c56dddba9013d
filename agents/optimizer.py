"""One optimizer for all parts of an agent: flat storage, gradient clipping, groups, gated steps."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.schedules import Schedule
from agents.update_rules import TorchRule, UpdateRule

RuleFactory = Callable[[Tensor, float], UpdateRule]
"""`parameters [P], weight_decay -> rule` for one group."""


class Optimizer(nn.Module):
    """Moves the parameters of several parts, all of them views of one flat vector.

    Small networks have a dozen small tensors, and an optimizer that visits each spends its time on
    bookkeeping. Packed into one vector (part after part), clipping and the update are a few
    operations whatever the number of layers. Parts with options of their own form further groups:
    slices of the same vector.

    Args:
        parts: parameters by part; each parameter belongs to exactly one part.
        rule: makes the update rule of a group.
        learning_rate: schedule of the base learning rate.
        max_grad_norm: global gradient norm above which gradients are scaled down; inf for none.
        weight_decay: of parts without one of their own.
        groups: options of single parts, `{part: {"learning_rate": x, "weight_decay": y}}`; a
            learning rate here follows the same schedule, scaled.
    """

    flat: Tensor

    def __init__(
        self,
        parts: Mapping[str, Sequence[nn.Parameter]],
        *,
        rule: RuleFactory,
        learning_rate: Schedule,
        max_grad_norm: float,
        weight_decay: float,
        groups: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Pack the parameters and build the rules."""
        super().__init__()
        self.parameters_by_part = {part: list(parameters) for part, parameters in parts.items()}
        self.learning_rate, self.max_grad_norm = learning_rate, max_grad_norm
        _check_parts(self.parameters_by_part, groups)
        self.register_buffer("flat", self._pack(), persistent=False)
        self._slices = self._slice_parts()
        base = learning_rate(0.0)
        self._groups: list[tuple[slice, float]] = []
        self.rules = nn.ModuleList()
        for where, options in self._merge(groups):
            decay = options.get("weight_decay", weight_decay)
            self.rules.append(rule(self.flat[where], decay))
            self._groups.append((where, options.get("learning_rate", base) / base))

    @property
    def trainable(self) -> list[nn.Parameter]:
        """All parameters, in the order of the flat vector."""
        return [p for parameters in self.parameters_by_part.values() for p in parameters]

    @property
    def compilable(self) -> bool:
        """Whether `torch.compile` can trace `step`."""
        return not any(isinstance(rule, TorchRule) for rule in self.rules)

    def repack(self) -> None:
        """Pack anew after the parameters were moved to other storage (another device)."""
        self.flat = self._pack()

    def _pack(self) -> Float[Tensor, " P"]:
        flat = torch.cat([parameter.detach().flatten() for parameter in self.trainable])
        offset = 0
        for parameter in self.trainable:
            size = parameter.numel()
            parameter.data = flat[offset : offset + size].view_as(parameter)
            offset += size
        return flat

    def _slice_parts(self) -> dict[str, slice]:
        slices, start = {}, 0
        for part, parameters in self.parameters_by_part.items():
            stop = start + sum(parameter.numel() for parameter in parameters)
            slices[part] = slice(start, stop)
            start = stop
        return slices

    def _merge(
        self, groups: Mapping[str, Mapping[str, float]]
    ) -> list[tuple[slice, Mapping[str, float]]]:
        """Join neighbouring parts with equal options, so that the usual case is one group."""
        merged: list[tuple[slice, Mapping[str, float]]] = []
        for part, where in self._slices.items():
            options = groups.get(part, {})
            if merged and merged[-1][1] == options:
                where = slice(merged.pop()[0].start, where.stop)
            merged.append((where, options))
        return merged

    def descend(
        self,
        loss: Float[Tensor, ""],
        learning_rate: Float[Tensor, ""],
        active: Bool[Tensor, ""],
    ) -> tuple[Float[Tensor, "2"], Float[Tensor, " P"]]:
        """Move the parameters against the gradient of a loss, as `step` does.

        Returns:
            1 if the step counted, and 1 if it did not though it was active; and the gradients
            before clipping, packed.
        """
        gradients = torch.autograd.grad(loss, self.trainable)
        with torch.no_grad():
            counted, packed = self.step(gradients, learning_rate, active)
            skipped = active.to(counted.dtype) - counted
            return torch.stack([counted, skipped]), packed

    def step(
        self,
        gradients: Sequence[Tensor],
        learning_rate: Float[Tensor, ""],
        active: Bool[Tensor, ""],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " P"]]:
        """Clip the gradients to `max_grad_norm` over all parts and move the parameters.

        Nothing moves when `active` is False or a gradient is not finite.

        Args:
            gradients: one per entry of `trainable`.
            learning_rate: base learning rate of this step.

        Returns:
            1 if the step counted, else 0; and the gradients before clipping, packed.
        """
        packed = torch.cat([gradient.reshape(-1) for gradient in gradients])
        norm = packed.norm()
        counts = active & norm.isfinite()
        weight = counts.to(packed.dtype)
        scale = (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        # where(), because 0 * nan is nan
        clipped = torch.where(counts, packed * scale, 0.0)
        for rule, (where, ratio) in zip(self.rules, self._groups, strict=True):
            assert isinstance(rule, UpdateRule)
            rule.update(
                self.flat[where],
                clipped[where],
                learning_rate if ratio == 1.0 else learning_rate * ratio,
                weight,
            )
        return weight, packed

    def norms(self, packed: Float[Tensor, " P"]) -> dict[str, Float[Tensor, ""]]:
        """Norm of packed gradients by part; parts without parameters are left out."""
        return {
            part: packed[where].norm()
            for part, where in self._slices.items()
            if where.stop > where.start
        }


def _check_parts(
    parts: Mapping[str, Sequence[nn.Parameter]], groups: Mapping[str, Mapping[str, float]]
) -> None:
    everything = [id(parameter) for parameters in parts.values() for parameter in parameters]
    if len(everything) != len(set(everything)):
        raise ValueError("a parameter belongs to two parts; each may be trained by one group only")
    unknown = sorted(set(groups) - set(parts))
    if unknown:
        raise ValueError(f"optimizer.groups: no part {unknown[0]!r}; parts are {', '.join(parts)}")
    empty = sorted(part for part in groups if not parts[part])
    if empty:
        raise ValueError(f"optimizer.groups.{empty[0]}: this part has no parameters here")
