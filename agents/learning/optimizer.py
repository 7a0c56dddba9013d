"""One optimizer for all parts of an agent: flat storage, gradient clipping, freezing."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.schedules import Schedule
from agents.learning.update_rules import UpdateRule
from networks.ranks import average

_THIN = 32
"""Inputs up to which weights are stored by input. PyTorch computes a weight's gradient in the order
in which the weight is stored; with few inputs that takes MKL a third of the time."""
RuleFactory = Callable[[Tensor, float], UpdateRule]
"""`parameters [P], weight_decay -> update rule` of one group."""


def _is_thin(weight: Tensor) -> bool:
    """Whether a weight `[O, I]` has few inputs."""
    return weight.ndim == 2 and weight.shape[1] <= min(_THIN, weight.shape[0])


def _by_input(weight: Tensor) -> Tensor:
    """View a tensor in the order of the flat vector: weights with few inputs by input."""
    return weight.movedim(-1, 0) if _is_thin(weight) else weight


def as_stored(gradient: Tensor) -> Tensor:
    """Return a gradient with the strides of its parameter."""
    rows = _by_input(gradient).contiguous()
    return rows.movedim(0, -1) if _is_thin(gradient) else rows


@dataclass(frozen=True)
class Group:
    """Optimizer options of a parameter group.

    Attributes:
        frozen_until: environment steps before which neither weights nor moments are updated.
        is_delayed: whether some gradient steps do not train it, as their losses are not due.
    """

    learning_rate: Schedule
    weight_decay: float
    frozen_until: int
    is_delayed: bool = False


@dataclass(frozen=True)
class Pace:
    """Learning rates and freezing of every group in one gradient step.

    Attributes:
        rates: learning rates, 0-d.
        weights: 0-d, 1, or 0 while the group is not trained; None for a group that always is.
    """

    rates: tuple[Float[Tensor, ""], ...]
    weights: tuple[Float[Tensor, ""] | None, ...]


class Optimizer(nn.Module):
    """Updates the parameters of several parts, which are views of one flat vector.

    Small networks have many small tensors, and visiting each one is mostly overhead. On one vector
    (part after part), clipping and the update take a few operations, whatever the number of layers.
    Parts with their own options form further groups: slices of the same vector.

    Args:
        parts: parameters by part; each parameter belongs to exactly one part. Those without
            `requires_grad` are left out.
        rule: makes the update rule of a group.
        default: group of all other parts.
        groups: groups of single parts, by part.
        max_grad_norm: global gradient norm above which gradients are clipped; inf for none.

    Attributes:
        trainable: all parameters, in the order of the flat vector.
        part_of: the part of each of them.
    """

    flat: Tensor

    def __init__(
        self,
        parts: Mapping[str, Sequence[nn.Parameter]],
        *,
        rule: RuleFactory,
        default: Group,
        groups: Mapping[str, Group],
        max_grad_norm: float,
    ) -> None:
        super().__init__()
        _check_parts(parts, groups)
        rows = [(p, part) for part, own in parts.items() for p in own if p.requires_grad]
        if not rows:
            raise ValueError("gradients: nothing is left to train")
        self.trainable = [parameter for parameter, _ in rows]
        self.part_of = [part for _, part in rows]
        self.default, self.max_grad_norm = default, max_grad_norm
        self.register_buffer("flat", self._pack(), persistent=False)
        sizes: Counter[str] = Counter()
        for parameter, part in rows:
            sizes[part] += parameter.numel()
        ends = zip(sizes, accumulate(sizes.values()), strict=True)
        self._slices = {n: slice(end - sizes[n], end) for n, end in ends if sizes[n]}
        self._own_groups = dict(groups)
        # Neighbouring parts with equal options are one group, which is the usual case.
        of_groups = groupby(self._slices, lambda part: groups.get(part, default))
        merged = [(group, sum(sizes[part] for part in own)) for group, own in of_groups]
        self._groups, self._sizes = [group for group, _ in merged], [size for _, size in merged]
        self._flat_groups = self.flat.split(self._sizes)
        self._pace: Pace | None = None
        self._update_rules = [
            rule(parameters, group.weight_decay)
            for parameters, group in zip(self._flat_groups, self._groups, strict=True)
        ]
        self.rules = nn.ModuleList(self._update_rules)

    def repack(self) -> None:
        """Rebuild the flat vector after the parameters were moved (to another device)."""
        self.flat = self._pack()
        self._flat_groups = self.flat.split(self._sizes)
        self._pace = None

    def _pack(self) -> Float[Tensor, " P"]:
        flat = torch.cat([_by_input(each.detach()).flatten() for each in self.trainable])
        parts = flat.split([parameter.numel() for parameter in self.trainable])
        for parameter, part in zip(self.trainable, parts, strict=True):
            rows = part.view(_by_input(parameter).shape)
            parameter.data = rows.movedim(0, -1) if _is_thin(parameter) else rows
        return flat

    # ---- a gradient step

    def pace(self, progress: float, env_steps: int, *, skips_delayed: bool = False) -> Pace:
        """Return learning rates and freezing of every group, in tensors that are used again."""
        key: list[tuple[float, float]] = []
        for group in self._groups:
            trains = env_steps >= group.frozen_until and not (skips_delayed and group.is_delayed)
            key.append((group.learning_rate(progress), float(trains)))
        if self._pace is None:
            numbers = self.flat.new_zeros(len(key), 2)
            # On the CPU written as an array, without operations on tensors.
            self._numbers: Any = numbers.numpy() if numbers.is_cpu else numbers
            rates, weights = numbers.unbind(1)
            can_freeze = [each.frozen_until > 0 or each.is_delayed for each in self._groups]
            pairs = zip(weights.unbind(), can_freeze, strict=True)
            weighed = tuple(weight if own else None for weight, own in pairs)
            self._pace, self._pace_key = Pace(rates.unbind(), weighed), [(0.0, 0.0)] * len(key)
        if self._pace_key != key:
            self._pace_key = key
            self._numbers[:] = key if isinstance(self._numbers, np.ndarray) else torch.tensor(key)
        return self._pace

    def clip(
        self, gradients: Sequence[Tensor], active: Bool[Tensor, ""] | None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " P"], Float[Tensor, " P"]]:
        """Pack the gradients, average them over ranks, and clip their norm to `max_grad_norm`.

        Args:
            gradients: one per entry of `trainable`.
            active: False for a step that must change nothing; None for True.

        Returns:
            1, or 0 for a step that must change nothing (as if a gradient is not finite); the packed
            gradients before and after clipping.
        """
        packed = average(torch.cat([_by_input(gradient).flatten() for gradient in gradients]))
        norm = torch.linalg.vector_norm(packed)
        is_taken = norm < torch.inf  # False for nan
        if active is not None:
            is_taken = is_taken & active
        clipped = packed
        if self.max_grad_norm < torch.inf:
            clipped = packed * (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        return is_taken.to(packed.dtype), packed, clipped

    def step(self, taken: Float[Tensor, ""], clipped: Float[Tensor, " P"], pace: Pace) -> None:
        """Update the parameters by clipped gradients, unless `taken` is 0."""
        parts = [clipped] if len(self._groups) == 1 else clipped.split(self._sizes)
        for rule, parameters, own, rate, weight in zip(
            self._update_rules, self._flat_groups, parts, pace.rates, pace.weights, strict=True
        ):
            rule.update(parameters, own, rate, taken if weight is None else taken * weight)

    # ---- metrics

    def movement(
        self, *, gradients: Float[Tensor, " P"], before: Float[Tensor, " P"], progress: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Return learning rates and, by part, gradient norms and update ratios.

        Args:
            gradients: of the last step, packed.
            before: the parameters before the first step; `update_ratio/<part>` is the norm of the
                change since then, relative to theirs.
        """
        metrics = {"schedule/learning_rate": self.default.learning_rate(progress)}
        for part, group in self._own_groups.items():
            if group.learning_rate is not self.default.learning_rate:
                metrics[f"schedule/learning_rate/{part}"] = group.learning_rate(progress)
        found = {tag: torch.tensor(rate) for tag, rate in metrics.items()}
        moved = self.flat - before
        for part, where in self._slices.items():
            found[f"gradient_norm/{part}"] = gradients[where].norm()
            size = before[where].norm().clamp(min=1e-12)
            found[f"update_ratio/{part}"] = moved[where].norm() / size
        return found


def _check_parts(parts: Mapping[str, Sequence[nn.Parameter]], groups: Mapping[str, Group]) -> None:
    everything = [id(parameter) for parameters in parts.values() for parameter in parameters]
    if len(everything) != len(set(everything)):
        raise ValueError("a parameter belongs to two parts; each may be trained by one group only")
    unknown = sorted(set(groups) - set(parts))
    if unknown:
        raise ValueError(f"optimizer.groups: no part {unknown[0]!r}; parts are {', '.join(parts)}")
    empty = sorted(part for part in groups if not any(p.requires_grad for p in parts[part]))
    if empty:
        raise ValueError(f"optimizer.groups.{empty[0]}: this part has nothing to train here")
