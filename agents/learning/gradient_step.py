"""The gradient step of every agent: from losses to updated parameters and metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.optimizer import as_stored
from agents.learning.parts import AUXILIARY
from networks.autoencoding.losses import Reading
from networks.memory.memories import Memory

if TYPE_CHECKING:
    from agents.agent import Agent

COUNTS = ("update/steps", "update/skipped")
"""Gradient steps taken, and gradient steps skipped because a gradient was not finite."""


@dataclass(frozen=True)
class Losses:
    """The losses of one batch and its metrics; all numbers are 0-d.

    Attributes:
        losses: by the names in `Agent.trains`. Each loss trains only the parts named there, even if
            its graph reaches others.
        metrics: by TensorBoard tag, without gradient.
        readings: inputs of auxiliary losses, by backbone.
        stop: whether to skip this step and all later ones; None for never.
        priorities: new priorities of the windows, with prioritised replay.
    """

    losses: dict[str, Float[Tensor, ""]]
    metrics: dict[str, Float[Tensor, ""]]
    readings: dict[str, Reading] = field(default_factory=dict)
    stop: Bool[Tensor, ""] | None = None
    priorities: Float[Tensor, " N"] | None = None


class _Result(NamedTuple):
    """The gradients of one batch, and what is told of it.

    Attributes:
        taken, skipped: 1 or 0; both are 0 after a stop.
        gradients, clipped: packed, before and after clipping.
    """

    metrics: dict[str, Float[Tensor, ""]]
    taken: Float[Tensor, ""]
    skipped: Float[Tensor, ""]
    gradients: Float[Tensor, " P"]
    clipped: Float[Tensor, " P"]
    active: Bool[Tensor, ""] | None
    priorities: Float[Tensor, " N"] | None


@dataclass(frozen=True)
class _Plan:
    """How gradients are computed.

    Attributes:
        passes: the losses that share a backward pass, and its parameters by number and as such.
        allow_unused: whether a loss may not reach a parameter of its pass.
        is_complete: whether every trainable parameter gets a gradient.
    """

    passes: list[tuple[tuple[str, ...], list[int], list[nn.Parameter]]]
    allow_unused: bool
    is_complete: bool


class GradientStep:
    """Losses -> gradients of the parts that each loss trains -> clipping -> optimizer.

    A step has no data-dependent control flow, so that it can be compiled. With `stop` or a
    gradient that is not finite, the step changes neither parameters nor optimizer state.

    Args:
        agent: computes the losses; its `routes` say which losses train a part.
        compile: trace the step with `torch.compile`.
    """

    def __init__(self, agent: "Agent", *, compile: bool) -> None:
        self._agent, self._compile = agent, compile
        self._networks, self._optimizer = agent.networks, agent.optimizer
        self._has_auxiliary = not agent.networks.auxiliary.is_empty
        self.renew()

    def renew(self) -> None:
        """Reset cached state after the networks were moved, copied or unfrozen."""
        # By the losses that are due.
        self._steps: dict[tuple[str, ...], Callable[..., _Result]] = {}
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._auxiliary_weights: Tensor | None = None

    # ---- the steps of one learn()

    def begin(self, progress: float, env_steps: int, *, measures: bool) -> None:
        """Prepare the steps of one `learn`.

        Args:
            measures: whether `report` returns metrics, not only counts.
        """
        self._at, self._measures = (progress, env_steps), measures
        self._pace = self._optimizer.pace(progress, env_steps)
        if self._has_auxiliary:
            weights = self._networks.auxiliary.weights(progress)
            self._auxiliary_weights = self._optimizer.flat.new_tensor(weights)
        # A tensor from the first step on, where a loss may end them: one compiled step, not two.
        self._active: Tensor | None = None
        if self._agent.may_stop:
            self._active = torch.ones((), dtype=torch.bool, device=self._optimizer.flat.device)
        self._metrics: list[dict[str, Tensor]] = []
        self._taken: list[Tensor] = []
        self._skipped: list[Tensor] = []
        if measures:
            self._before = self._optimizer.flat.clone()

    def __call__(self, *inputs: Any, **scheduled: Tensor) -> _Result:
        """Take one gradient step; the arguments are those of `Agent.losses`."""
        due = self._agent.due
        if self._agent.delays:
            self._pace = self._optimizer.pace(
                *self._at, skips_delayed=len(due) < len(self._agent.trains)
            )
        if due not in self._steps:
            if self._compile:
                self._look_ahead(inputs, scheduled)
            step = self._differentiate
            self._steps[due] = compiled(step, self._agent) if self._compile else step
        result = self._steps[due](self._auxiliary_weights, self._active, *inputs, **scheduled)
        self._optimizer.step(result.taken, result.clipped, self._pace)
        self._active, self._gradients_taken = result.active, result.gradients
        self._taken.append(result.taken)
        self._skipped.append(result.skipped)
        if self._measures:
            self._metrics.append(result.metrics)
        return result

    @property
    def is_stopped(self) -> bool:
        """Whether a loss has set `stop`; synchronises with the device."""
        return self._active is not None and not self._active

    def report(self) -> dict[str, Tensor]:
        """Return metrics by tag: means over the steps, counts as sums, and `Optimizer.movement`."""
        taken, skipped = self._taken, self._skipped
        counts = sum(taken[1:], start=taken[0]), sum(skipped[1:], start=skipped[0])
        report: dict[str, Tensor] = dict(zip(COUNTS, counts, strict=True))
        if not self._measures:
            return report
        for tag in dict.fromkeys(tag for metrics in self._metrics for tag in metrics):
            found = [metrics[tag] for metrics in self._metrics if tag in metrics]
            report[tag] = torch.stack(found).mean()
        return report | self._optimizer.movement(
            gradients=self._gradients_taken, before=self._before, progress=self._at[0]
        )

    # ---- one step

    def _differentiate(
        self,
        auxiliary_weights: Float[Tensor, " K"] | None,
        active: Bool[Tensor, ""] | None,
        *inputs: Any,
        **scheduled: Tensor,
    ) -> _Result:
        losses, metrics, found = self._losses(inputs, scheduled, auxiliary_weights)
        if self._agent.due not in self._plans:
            self._plans[self._agent.due] = self._plan_of(losses)
        if found.stop is not None:
            active = ~found.stop if active is None else active & ~found.stop
        taken, packed, clipped = self._optimizer.clip(self._gradients(losses), active)
        skipped = 1 - taken if active is None else active.to(taken.dtype) - taken
        return _Result(metrics, taken, skipped, packed, clipped, active, found.priorities)

    def _losses(
        self,
        inputs: Sequence[Any],
        scheduled: Mapping[str, Tensor],
        weights: Float[Tensor, " K"] | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Losses]:
        """Return the losses, auxiliary ones as one, their metrics, and what the algorithm said."""
        found = self._agent.losses(*inputs, **scheduled)
        if weights is None:
            return found.losses, found.metrics, found
        own = self._networks.auxiliary(found.readings)
        total = torch.stack(list(own.values())) @ weights
        tags = {f"loss/{name}": loss.detach() for name, loss in own.items()}
        return {**found.losses, AUXILIARY: total}, {**found.metrics, **tags}, found

    def _gradients(self, losses: Mapping[str, Float[Tensor, ""]]) -> list[Tensor]:
        plan = self._plans[self._agent.due]
        if plan.is_complete and len(plan.passes) == 1 and not self._compile:  # the usual case
            ((names, _, parameters),) = plan.passes
            total = sum((losses[name] for name in names[1:]), start=losses[names[0]])
            return list(torch.autograd.grad(total, parameters))
        found: list[Any] = [None] * len(self._optimizer.trainable)
        for number, (names, wanted, parameters) in enumerate(plan.passes, start=1):
            total = losses[names[0]]
            for name in names[1:]:
                total = total + losses[name]
            gradients = torch.autograd.grad(
                total,
                parameters,
                retain_graph=number < len(plan.passes),
                allow_unused=plan.allow_unused,
            )
            for index, gradient in zip(wanted, gradients, strict=True):
                if gradient is None:
                    continue
                # A memory's gradients are contiguous only in sequences without resets. Without
                # this, a compiled update would be compiled for both cases.
                own, before = as_stored(gradient), found[index]
                found[index] = own if before is None else before + own
        if plan.is_complete:
            return found
        rows = zip(found, self._optimizer.trainable, strict=True)
        return [torch.zeros_like(p) if gradient is None else gradient for gradient, p in rows]

    def _look_ahead(self, inputs: Sequence[Any], scheduled: Mapping[str, Tensor]) -> None:
        """Find the plan before the step is compiled, without a change to statistics or draws."""
        agent, device = self._agent, self._agent.device
        buffers = [(each, each.clone()) for each in agent.buffers()]
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            losses, _, _ = self._losses(inputs, scheduled, self._auxiliary_weights)
            self._plans[agent.due] = self._plan_of(losses)
        for buffer, before in buffers:  # such as the statistics of a batch normalisation
            buffer.copy_(before)

    def _plan_of(self, losses: Mapping[str, Float[Tensor, ""]]) -> _Plan:
        """Group losses into backward passes.

        Losses that reach only what they train share one pass, which is the common case. Which
        parameters a loss reaches does not depend on data, so its graph is inspected once. Modules
        that may skip a layer at random are asked for the gradients of all their parameters.
        """
        agent, is_sure = self._agent, self._agent.is_alike_in_learning
        every, part_of = self._optimizer.trainable, self._optimizer.part_of
        numbers = {id(parameter): number for number, parameter in enumerate(every)}
        groups: dict[frozenset[int], tuple[list[str], set[int]]] = {}
        for name, loss in losses.items():
            reached = {numbers[each] for each in _leaves(loss) if each in numbers}
            allowed = frozenset(n for n, part in enumerate(part_of) if name in agent.routes[part])
            trained = reached & allowed
            if trained:
                shared = frozenset() if trained == reached else allowed
                names, wanted = groups.setdefault(shared, ([], set()))
                names.append(name)
                wanted |= trained if is_sure else allowed
        passes = [
            (tuple(names), sorted(wanted), [every[number] for number in sorted(wanted)])
            for names, wanted in groups.values()
        ]
        asked_for = {number for _, wanted, _ in passes for number in wanted}
        return _Plan(passes, not is_sure, is_sure and len(asked_for) == len(every))


def _leaves(loss: Tensor) -> set[int]:
    """Return the ids of the parameters in a loss's graph."""
    waiting, seen, found = [loss.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.add(id(variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def compiled(step: Callable[..., Any], agent: "Agent") -> Callable[..., Any]:
    """Return the method `step` compiled by `torch.compile` at its first call, for fixed shapes.

    Fused recurrent kernels are not compiled: Dynamo cannot trace them, and the number of null steps
    changes from batch to batch, which must not trigger recompilation.

    Args:
        agent: whose modules the step calls.
    """
    import torch._dynamo

    # Makes autograd.grad part of the graph: forward, backward, clipping and update are one.
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        torch._dynamo.config.trace_autograd_ops = True
    is_whole = True
    for module in agent.modules():
        if isinstance(module, Memory) and not module.compilable:
            # Bound to this module: a copied agent must not keep the original's wrapper.
            module.forward = torch.compiler.disable(type(module).forward.__get__(module))  # type: ignore[method-assign]
            is_whole = False
    # Inductor's own tanh is a library call per element. Written with exp it is vectorised, which
    # saves a quarter of a small network's gradient step (measured), with errors within 1e-7.
    # Calling the kernels from C++ saves a tenth of a small step (measured).
    options: dict[str, Any] = {"cpp.use_decompose_tanh": True, "cpp_wrapper": True}
    is_checked_by_tensors = is_whole and agent.is_alike_in_learning
    if is_checked_by_tensors:
        # Our modules have no attribute that changes between steps. Checking them all takes a sixth
        # of a small step (measured). Compiled code belongs to a code object: this agent needs one
        # of its own, and no further function may be compiled by itself.
        options["guard_filter_fn"] = torch.compiler.keep_tensor_guards_unsafe
        function = step.__func__  # type: ignore[attr-defined]
        own = FunctionType(function.__code__.replace(), function.__globals__)
        step = own.__get__(step.__self__)  # type: ignore[attr-defined]
    return torch.compile(step, dynamic=False, fullgraph=is_checked_by_tensors, options=options)
