"""One optimizer for all parts of an agent: flat storage, routed gradients, clipping, gates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.schedules import Schedule
from agents.learning.update_rules import TorchRule, UpdateRule

RuleFactory = Callable[[Tensor, float], UpdateRule]
"""`parameters [P], weight_decay -> rule` for one group."""


@dataclass(frozen=True)
class Group:
    """How parts move; parts with the same options move together.

    Attributes:
        frozen_until: environment steps before which nothing of it moves: no weight, no moment.
    """

    learning_rate: Schedule
    weight_decay: float
    frozen_until: int


@dataclass(frozen=True)
class Pace:
    """How the groups of parts move in one gradient step, one entry each.

    Attributes:
        rates: learning rates.
        weights: 1, or 0 for a group that is frozen.
    """

    rates: Float[Tensor, " G"]
    weights: Float[Tensor, " G"]


class Optimizer(nn.Module):
    """Moves the parameters of several parts, all of them views of one flat vector.

    Small networks have a dozen small tensors, and an optimizer that visits each spends its time on
    bookkeeping. Packed into one vector (part after part), clipping and the update are a few
    operations whatever the number of layers. Parts with options of their own form further groups:
    slices of the same vector.

    Args:
        parts: parameters by part; each parameter belongs to exactly one part. Those that take no
            gradient (`requires_grad` is False) are left alone.
        rule: makes the update rule of a group.
        default: how parts without a group of their own move.
        groups: those of single parts.
        routes: the losses that train a part, by part; a part that is not named is trained by every
            loss that reaches it.
        max_grad_norm: global gradient norm above which gradients are scaled down; inf for none.
    """

    flat: Tensor

    def __init__(
        self,
        parts: Mapping[str, Sequence[nn.Parameter]],
        *,
        rule: RuleFactory,
        default: Group,
        groups: Mapping[str, Group],
        routes: Mapping[str, Sequence[str]],
        max_grad_norm: float,
    ) -> None:
        """Pack the parameters and build the rules."""
        super().__init__()
        _check_parts(parts, groups)
        self.parameters_by_part = {
            part: [parameter for parameter in parameters if parameter.requires_grad]
            for part, parameters in parts.items()
        }
        self.default, self.max_grad_norm = default, max_grad_norm
        self.routes = {part: frozenset(losses) for part, losses in routes.items()}
        self.register_buffer("flat", self._pack(), persistent=False)
        self._slices = self._slice_parts()
        self._own_groups = dict(groups)
        self._groups = self._merge(groups)
        self.rules = nn.ModuleList(
            rule(self.flat[where], group.weight_decay) for where, group in self._groups
        )

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

    def _merge(self, groups: Mapping[str, Group]) -> list[tuple[slice, Group]]:
        """Join neighbouring parts of equal options, so that the usual case is one group."""
        merged: list[tuple[slice, Group]] = []
        for part, where in self._slices.items():
            group = groups.get(part, self.default)
            if merged and merged[-1][1] == group:
                where = slice(merged.pop()[0].start, where.stop)
            merged.append((where, group))
        return merged

    # ---- a gradient step

    def pace(self, progress: float, env_steps: int) -> Pace:
        """Tell how every group moves at a point of the run."""
        groups = [group for _, group in self._groups]
        return Pace(
            rates=self.flat.new_tensor([group.learning_rate(progress) for group in groups]),
            weights=self.flat.new_tensor(
                [float(env_steps >= group.frozen_until) for group in groups]
            ),
        )

    def descend(
        self, losses: Mapping[str, Float[Tensor, ""]], pace: Pace, active: Bool[Tensor, ""]
    ) -> tuple[Float[Tensor, "2"], Float[Tensor, " P"]]:
        """Move the parameters against the gradients of losses, as `step` does.

        Args:
            losses: by the names that `routes` knows.

        Returns:
            1 if the step counted, and 1 if it did not though it was active; and the gradients
            before clipping, packed.
        """
        gradients = self._gradients(losses)
        with torch.no_grad():
            counted, packed = self.step(gradients, pace, active)
            skipped = active.to(counted.dtype) - counted
            return torch.stack([counted, skipped]), packed

    def _gradients(self, losses: Mapping[str, Float[Tensor, ""]]) -> list[Tensor]:
        """Sum the gradients of all losses, each in the parts alone that it may train.

        Losses that may train the same parts share a backward pass; usually all of them do.
        """
        sums: dict[frozenset[str], Tensor] = {}
        for name, loss in losses.items():
            if not loss.requires_grad:
                continue  # of features that are frozen
            closed = frozenset(part for part, trained in self.routes.items() if name not in trained)
            sums[closed] = sums[closed] + loss if closed in sums else loss
        trainable = self.trainable
        total: list[Tensor | None] = [None] * len(trainable)
        for number, (closed, loss) in enumerate(sums.items(), start=1):
            wanted = self._open(closed) if closed else range(len(trainable))
            gradients = torch.autograd.grad(
                loss,
                [trainable[index] for index in wanted],
                retain_graph=number < len(sums),
                allow_unused=True,
            )
            for index, gradient in zip(wanted, gradients, strict=True):
                if gradient is not None:
                    before = total[index]
                    total[index] = gradient if before is None else before + gradient
        # Contiguous, as those of a memory are not where sequences have resets, and are elsewhere:
        # a compiled update would be compiled for both.
        return [
            torch.zeros_like(parameter) if gradient is None else gradient.contiguous()
            for parameter, gradient in zip(trainable, total, strict=True)
        ]

    def _open(self, closed: frozenset[str]) -> Sequence[int]:
        """Number the parameters that do not lie in closed parts."""
        numbers: list[int] = []
        start = 0
        for part, parameters in self.parameters_by_part.items():
            stop = start + len(parameters)
            numbers += [] if part in closed else range(start, stop)
            start = stop
        return numbers

    def step(
        self, gradients: Sequence[Tensor], pace: Pace, active: Bool[Tensor, ""]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " P"]]:
        """Clip the gradients to `max_grad_norm` over all parts and move the parameters.

        Nothing moves when `active` is False or a gradient is not finite.

        Args:
            gradients: one per entry of `trainable`.

        Returns:
            1 if the step counted, else 0; and the gradients before clipping, packed.
        """
        packed = torch.cat([gradient.reshape(-1) for gradient in gradients])
        norm = torch.linalg.vector_norm(packed)
        counts = active & (norm < torch.inf)  # neither is nan
        weight = counts.to(packed.dtype)
        scale = (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        clipped = packed * scale
        rates, weights = pace.rates.unbind(), pace.weights.unbind()
        for number, (rule, (where, group)) in enumerate(zip(self.rules, self._groups, strict=True)):
            assert isinstance(rule, UpdateRule)
            own = weight * weights[number] if group.frozen_until else weight
            rule.update(self.flat[where], clipped[where], rates[number], own)
        return weight, packed

    # ---- telling

    def learning_rates(self, progress: float) -> dict[str, Float[Tensor, ""]]:
        """Tell the learning rates, as TensorBoard's tags: the base rate, and those of groups."""
        rates = {"schedule/learning_rate": self.default.learning_rate(progress)}
        for part, group in self._own_groups.items():
            if group.learning_rate is not self.default.learning_rate:
                rates[f"schedule/learning_rate/{part}"] = group.learning_rate(progress)
        return {tag: torch.tensor(rate) for tag, rate in rates.items()}

    def norms(self, packed: Float[Tensor, " P"]) -> dict[str, Float[Tensor, ""]]:
        """Norm of a packed vector by part; parts without parameters are left out."""
        return {
            part: packed[where].norm()
            for part, where in self._slices.items()
            if where.stop > where.start
        }


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
