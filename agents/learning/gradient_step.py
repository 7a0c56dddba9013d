"""The gradient step of every agent: from losses to updated parameters and metrics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.optimizer import Optimizer, Pace
from agents.learning.parts import AUXILIARY
from networks.autoencoding.losses import Reading
from networks.memory.memories import Memory

if TYPE_CHECKING:
    from agents.agent import Agent

COUNTS = ("update/steps", "update/skipped")
"""Gradient steps taken, and gradient steps skipped because a gradient was not finite."""

_Pass = tuple[tuple[str, ...], tuple[int, ...], list[nn.Parameter]]
"""A backward pass: its losses, and the indices and parameters that it differentiates."""

Step = TypeVar("Step", bound=Callable[..., object])


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


@dataclass(frozen=True)
class _Result:
    """Result of one step; `gradients` are packed and before clipping."""

    metrics: dict[str, Float[Tensor, ""]]
    counts: Bool[Tensor, ""]
    gradients: Float[Tensor, " P"]
    active: Bool[Tensor, ""] | None
    priorities: Float[Tensor, " N"] | None


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
        self._has_auxiliary = len(agent.networks.auxiliary) > 0
        self.renew()

    def renew(self) -> None:
        """Reset cached state after the networks were moved, copied or unfrozen."""
        self._step: Callable[..., _Result] | None = None
        self._plan: list[_Pass] | None = None
        self._auxiliary_weights: Tensor | None = None

    # ---- the steps of one learn()

    def begin(self, progress: float, env_steps: int, *, measures: bool) -> None:
        """Prepare the steps of one `learn`.

        Args:
            measures: whether `report` returns metrics, not only counts.
        """
        self._progress, self._measures = progress, measures
        self._pace = self._optimizer.pace(progress, env_steps)
        if self._has_auxiliary:
            weights = self._networks.auxiliary.weights(progress)
            self._auxiliary_weights = self._optimizer.flat.new_tensor(weights)
        self._active: Tensor | None = None
        self._metrics: list[dict[str, Tensor]] = []
        self._counts: list[Tensor] = []
        self._actives: list[Tensor] = []
        self._before = self._optimizer.flat.clone() if measures else self._optimizer.flat

    def __call__(self, *inputs: Any, **scheduled: Tensor) -> _Result:
        """Take one gradient step; the arguments are those of `Agent.losses`."""
        if self._plan is None:
            self._plan = self._find_plan(inputs, scheduled)
        if self._step is None:
            step = self._take
            self._step = compiled(step, self._agent.modules()) if self._compile else step
        result = self._step(self._pace, self._auxiliary_weights, self._active, *inputs, **scheduled)
        self._active, self._gradients_taken = result.active, result.gradients
        self._counts.append(result.counts)
        if result.active is not None:
            self._actives.append(result.active)
        if self._measures:
            self._metrics.append(result.metrics)
        return result

    @property
    def is_stopped(self) -> bool:
        """Whether a loss has set `stop`; synchronises with the device."""
        return self._active is not None and not self._active

    def report(self) -> dict[str, Tensor]:
        """Return metrics by tag: means over the steps, counts as sums, and `Optimizer.movement`."""
        counts = torch.stack(self._counts)
        skipped = ~counts if self._active is None else torch.stack(self._actives) & ~counts
        report = dict(zip(COUNTS, (counts.sum().float(), skipped.sum().float()), strict=True))
        if not self._measures:
            return report
        for tag in self._metrics[0]:
            report[tag] = torch.stack([metrics[tag] for metrics in self._metrics]).mean()
        return report | self._optimizer.movement(
            gradients=self._gradients_taken, before=self._before, progress=self._progress
        )

    # ---- one step

    def _take(
        self,
        pace: Pace,
        auxiliary_weights: Float[Tensor, " K"] | None,
        active: Bool[Tensor, ""] | None,
        *inputs: Any,
        **scheduled: Tensor,
    ) -> _Result:
        found = self._agent.losses(*inputs, **scheduled)
        losses, metrics = found.losses, found.metrics
        if auxiliary_weights is not None:
            losses, metrics = self._with_auxiliary(found, auxiliary_weights)
        if found.stop is not None:
            active = ~found.stop if active is None else active & ~found.stop
        gradients = self._gradients(losses)
        counts, packed = self._optimizer.step(gradients, pace, active)
        return _Result(metrics, counts, packed, active, found.priorities)

    def _with_auxiliary(
        self, found: Losses, weights: Float[Tensor, " K"]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        own = self._networks.auxiliary(found.readings)
        total = torch.stack(list(own.values())) @ weights
        tags = {f"loss/{name}": loss.detach() for name, loss in own.items()}
        return {**found.losses, AUXILIARY: total}, {**found.metrics, **tags}

    def _gradients(self, losses: Mapping[str, Float[Tensor, ""]]) -> list[Any]:
        assert self._plan is not None
        found = self._nothing.copy()
        for number, (names, wanted, parameters) in enumerate(self._plan, start=1):
            total = losses[names[0]]
            for name in names[1:]:
                total = total + losses[name]
            retain = number < len(self._plan)
            gradients = torch.autograd.grad(total, parameters, retain_graph=retain)
            for index, gradient in zip(wanted, gradients, strict=True):
                before = found[index]
                # A memory's gradients are contiguous only in sequences without resets. Without
                # this, a compiled update would be compiled for both cases.
                found[index] = gradient.contiguous() if before is None else before + gradient
        for index in self._unreached:
            found[index] = torch.zeros_like(self._optimizer.trainable[index])
        return found

    def _find_plan(self, inputs: Sequence[Any], scheduled: Mapping[str, Tensor]) -> list[_Pass]:
        """Group losses into backward passes.

        Losses that reach only what they train share one pass, which is the common case. The graph
        does not depend on data, so it is inspected once.
        """
        agent, is_training = self._agent, self._agent.training
        with torch.random.fork_rng(), torch.enable_grad():
            agent.train(False)  # no statistics of batch normalisation may change
            found = agent.losses(*inputs, **scheduled)
            losses, weights = found.losses, self._auxiliary_weights
            if weights is not None:
                losses, _ = self._with_auxiliary(found, weights)
            agent.train(is_training)
        numbers = {id(p): number for number, p in enumerate(self._optimizer.trainable)}
        part_of = self._optimizer.part_of
        groups: dict[frozenset[int] | None, tuple[list[str], set[int]]] = {}
        for name, loss in losses.items():
            reached = {numbers[p] for p in _leaves(loss) if p in numbers}
            trained = {n for n in reached if name in agent.routes[part_of[n]]}
            allowed = frozenset(n for n, part in enumerate(part_of) if name in agent.routes[part])
            if trained:
                names, wanted = groups.setdefault(
                    None if trained == reached else allowed, ([], set())
                )
                names.append(name)
                wanted |= trained
        every = self._optimizer.trainable
        self._nothing: list[Any] = [None] * len(every)
        self._unreached = set(range(len(every))).difference(*(w for _, w in groups.values()))
        return [
            (tuple(names), tuple(sorted(wanted)), [every[number] for number in sorted(wanted)])
            for names, wanted in groups.values()
        ]


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


def compiled(step: Step, modules: Iterable[nn.Module]) -> Step:
    """Return `step` compiled by `torch.compile` at its first call, for fixed shapes.

    Fused recurrent kernels are not compiled: Dynamo cannot trace them, and the number of null steps
    changes from batch to batch, which must not trigger recompilation.

    Args:
        modules: all modules that the step calls, at any depth.
    """
    import torch._dynamo

    # Makes autograd.grad part of the graph: forward, backward, clipping and update are one.
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        torch._dynamo.config.trace_autograd_ops = True
    for module in modules:
        # Bound to this module: a copied agent must not keep the original's wrapper.
        if isinstance(module, Memory) and not module.compilable:
            forward = type(module).forward.__get__(module)
            module.forward = torch.compiler.disable(forward)  # type: ignore[method-assign]
        if isinstance(module, Optimizer) and not module.compilable:
            step_of = type(module).step.__get__(module)
            module.step = torch.compiler.disable(step_of)  # type: ignore[method-assign]
    # Inductor's own tanh is a library call per element. Written with exp it is vectorised, which
    # saves a quarter of a small network's gradient step (measured), with errors within 1e-7.
    traced: Any = torch.compile(step, dynamic=False, options={"cpp.use_decompose_tanh": True})
    return cast("Step", traced)
