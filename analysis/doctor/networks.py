"""Checks of the networks: acting and learning must compute the same, and episodes stay apart."""

from collections.abc import Callable, Iterator
from functools import wraps

import numpy as np
import torch
from torch import Tensor

from analysis.doctor.patient import COLUMNS, STEPS, Check, Patient, row_of
from networks.backbone import Backbone
from networks.observations import Observations, map_observations, parts_of

_TOLERANCE = 1e-4


def _of_each(check: Callable[[Patient, Backbone], Iterator[str]]) -> Check:
    """Make a check of one network a check of all."""

    @wraps(check)
    def of_all(patient: Patient) -> Iterator[str]:
        for name, backbone in patient.agent.networks.backbones.items():
            yield from (f"{name}: {problem}" for problem in check(patient, backbone))

    return of_all


@torch.no_grad()
def _run(
    patient: Patient,
    backbone: Backbone,
    seen: Observations | None = None,
    state: Tensor | None = None,
    steps: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Return outputs and the last state, of what was seen or of something else."""
    state = backbone.memory.initial_state(COLUMNS) if state is None else state
    seen = patient.observations if seen is None else seen
    shown = map_observations(lambda part: part[steps], seen)
    outputs, after = backbone(shown, state.to(patient.is_first.device), patient.is_first[steps])
    return outputs, after


def _are_close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0.0, atol=_TOLERANCE)


def outputs_are_finite(patient: Patient, backbone: Backbone) -> Iterator[str]:
    """Outputs are finite numbers of float32."""
    outputs, _ = _run(patient, backbone)
    if outputs.dtype != torch.float32:
        yield f"outputs have dtype {outputs.dtype}, expected float32"
    if not outputs.isfinite().all():
        yield "an output is not finite; normalize_observations=true scales inputs"


def single_steps_are_the_sequence(patient: Patient, backbone: Backbone) -> Iterator[str]:
    """Step by step, as in acting, outputs and states are those of the whole sequence."""
    outputs, after = _run(patient, backbone)
    state, stepped = backbone.memory.initial_state(COLUMNS), list[Tensor]()
    for t in range(STEPS):
        step = slice(t, t + 1)
        output, state = _run(patient, backbone, None, state, step)
        stepped.append(output)
    expected = (STEPS, COLUMNS, backbone.memory.output_size)
    if outputs.shape != expected:
        yield f"outputs have shape {tuple(outputs.shape)}, expected {expected}"
    if not _are_close(outputs, torch.cat(stepped)):
        told = "outputs must depend on this step and the state alone, time is the first dimension"
        yield f"single steps and the sequence differ: {told}, batch the second"
    if not _are_close(after, state):
        yield "the returned state is not the last step's"


def no_leak_over_resets(patient: Patient, backbone: Backbone) -> Iterator[str]:
    """Nothing from before an episode's start reaches it."""
    second = patient.is_first.cumsum(0) == 2
    mixed = map_observations(torch.clone, patient.observations)
    for part in parts_of(mixed):
        part[~second] = part.flip(0, 1)[~second]
    noise = torch.Generator().manual_seed(1)
    state = 5 * torch.randn(COLUMNS, backbone.memory.state_size, generator=noise)
    outputs, _ = _run(patient, backbone)
    changed, _ = _run(patient, backbone, mixed, state)
    if not _are_close(outputs[second], changed[second]):
        remedy = "a memory clears its state where is_first is True, before it reads"
        yield f"an earlier episode changes outputs; {remedy} (CellMemory does)"


def environments_stay_apart(patient: Patient, backbone: Backbone) -> Iterator[str]:
    """An environment's outputs do not depend on what the others show."""
    outputs, _ = _run(patient, backbone)
    for kept in (0, COLUMNS - 1):  # in either order of swapped dimensions
        same = map_observations(lambda part: part[:, [kept] * COLUMNS], patient.observations)  # noqa: B023
        changed, _ = _run(patient, backbone, same)
        if not _are_close(outputs[:, kept], changed[:, kept]):
            told = "time and batch are swapped, or a layer mixes rows"
            yield f"other environments change an output: {told} (batch normalisation in training)"


def gradients_reach_the_past(patient: Patient, backbone: Backbone) -> Iterator[str]:
    """A memory's last output has a gradient with respect to the first step's features."""
    memory = backbone.memory
    if not memory.state_size:
        return
    steps = backbone.features(patient.observations)[:8].detach().requires_grad_()
    never = torch.zeros_like(patient.is_first[:8])
    outputs, _ = memory(steps, memory.initial_state(COLUMNS).to(steps.device), never)
    if not outputs.requires_grad:
        yield "the memory's outputs are detached from the graph"
    weights = torch.randn(outputs[-1].shape, generator=torch.Generator().manual_seed(2))
    (found,) = torch.autograd.grad((outputs[-1] * weights.to(outputs)).sum(), steps)
    for k in range(7, -1, -1):
        if not found[7 - k].any():
            yield f"no gradient {k} steps into the past: a state is detached"


def acting_is_what_is_learnt(patient: Patient) -> Iterator[str]:
    """The agent acts by the same networks as it learns with."""
    agent, acted = patient.agent, []
    state = agent.initial_state(COLUMNS)
    for t in range(STEPS):
        first = patient.is_first[t].cpu().numpy()
        actions, state = agent.act(row_of(patient, t), state, first, explore=False)
        acted.append(actions)
    outputs, _ = _run(patient, agent.actor)
    with torch.no_grad():
        legal = agent.networks.legal(patient.observations)
        expected = agent.networks.policy(outputs, legal).mode().cpu().numpy()
    agree = np.isclose(acted, expected, atol=1e-3).mean()
    # Two choices may be equally good but for rounding.
    if agree < (1.0 if expected.dtype.kind == "f" else 0.95):
        yield "acting step by step chooses other actions than learning computes: is a mirror wrong?"


_OF_ONE = (
    outputs_are_finite, single_steps_are_the_sequence, no_leak_over_resets,
    environments_stay_apart, gradients_reach_the_past,
)  # fmt: skip
NETWORKS: tuple[Check, ...] = (*map(_of_each, _OF_ONE), acting_is_what_is_learnt)
