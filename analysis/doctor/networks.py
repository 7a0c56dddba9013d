"""Checks of the networks: acting and learning must compute the same, and episodes stay apart."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from analysis.doctor.patient import COLUMNS, STEPS, Check, Patient
from networks.backbone import Backbone
from networks.observations import Observations, map_observations, parts_of

_TOLERANCE = 1e-4
_CLEAR = "; a memory clears its state where is_first is True, before it reads (CellMemory does)"


def _each(patient: Patient) -> Iterator[tuple[str, Backbone]]:
    yield from patient.agent.networks.backbones.items()


def _state(backbone: Backbone, scale: float = 0.0) -> Tensor:
    """Return the initial state, or a random one."""
    state = backbone.memory.initial_state(COLUMNS)
    return state + scale * torch.randn(state.shape, generator=torch.Generator().manual_seed(1))


def _run(
    agent: Agent, backbone: Backbone, observations: Observations, state: Tensor, first: Tensor
) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        outputs, after = backbone(observations, state.to(agent.device), first)
    return outputs, after


def _played(patient: Patient, backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Return outputs and the last state of the whole sequence."""
    return _run(patient.agent, backbone, patient.observations, _state(backbone), patient.is_first)


def _stepped(patient: Patient, backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Return outputs and the last state of single steps."""
    state, outputs = _state(backbone), []
    for t in range(STEPS):
        row = map_observations(lambda part: part[t : t + 1], patient.observations)  # noqa: B023
        output, state = _run(patient.agent, backbone, row, state, patient.is_first[t : t + 1])
        outputs.append(output)
    return torch.cat(outputs), state


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) if a.numel() else 0.0


def finite_outputs(patient: Patient) -> str | None:
    """Outputs are finite numbers of float32."""
    for name, backbone in _each(patient):
        outputs, _ = _played(patient, backbone)
        if outputs.dtype != torch.float32:
            return f"{name}: outputs have dtype {outputs.dtype}, expected float32"
        if not outputs.isfinite().all():
            return f"{name}: an output is not finite; normalize_observations=true scales inputs"
    return None


def steps_are_sequences(patient: Patient) -> str | None:
    """Step by step, as in acting, outputs and states are those of the whole sequence."""
    for name, backbone in _each(patient):
        outputs, after = _played(patient, backbone)
        stepped, last = _stepped(patient, backbone)
        expected = (STEPS, COLUMNS, backbone.memory.output_size)
        if outputs.shape != expected:
            return f"{name}: outputs have shape {tuple(outputs.shape)}, expected {expected}"
        if (gap := _gap(outputs, stepped)) > _TOLERANCE:
            return (
                f"{name}: single steps and the sequence differ by {gap:.2g}: outputs must depend "
                "on this step and the state alone, time is the first dimension, batch the second"
            )
        if (gap := _gap(after, last)) > _TOLERANCE:
            return f"{name}: the returned state is not the last step's, it differs by {gap:.2g}"
    return None


def episodes_stay_apart(patient: Patient) -> str | None:
    """Nothing from before an episode's start reaches it."""
    for name, backbone in _each(patient):
        if not backbone.memory.state_size:
            continue
        outputs, _ = _played(patient, backbone)
        for column in range(COLUMNS):
            start = 5 + 3 * column  # its second episode
            mixed = map_observations(
                lambda part: torch.cat([part[:start].flip(0).flip(1), part[start:]]),  # noqa: B023
                patient.observations,
            )
            changed, _ = _run(
                patient.agent, backbone, mixed, _state(backbone, scale=5.0), patient.is_first
            )
            if (gap := _gap(outputs[start:, column], changed[start:, column])) > _TOLERANCE:
                return f"{name}: an earlier episode changes outputs by {gap:.2g}{_CLEAR}"
    return None


def environments_stay_apart(patient: Patient) -> str | None:
    """An environment's outputs do not depend on what the others show."""
    for name, backbone in _each(patient):
        outputs, _ = _played(patient, backbone)
        for kept in (0, COLUMNS - 1):  # in either order of swapped dimensions
            others = [column for column in range(COLUMNS) if column != kept]
            mixed = map_observations(torch.clone, patient.observations)
            for part in parts_of(mixed):
                part[:, others] = part[:, kept, None]
            changed, _ = _run(patient.agent, backbone, mixed, _state(backbone), patient.is_first)
            if (gap := _gap(outputs[:, kept], changed[:, kept])) > _TOLERANCE:
                return (
                    f"{name}: other environments change an output by {gap:.2g}: time and batch are "
                    "swapped, or a layer mixes rows (batch normalisation in training mode)"
                )
    return None


def gradients_reach_the_past(patient: Patient) -> str | None:
    """A memory's last output has a gradient with respect to the first step's features."""
    for name, backbone in _each(patient):
        if not backbone.memory.state_size:
            continue
        with torch.no_grad():
            features = backbone.features(patient.observations)
        steps = features[:8].requires_grad_()
        never = torch.zeros_like(patient.is_first[:8])
        outputs, _ = backbone.memory(steps, _state(backbone).to(features.device), never)
        if not outputs.requires_grad:
            return f"{name}: the memory's outputs are detached from the graph"
        weights = torch.randn(outputs[-1].shape, generator=torch.Generator().manual_seed(2))
        (found,) = torch.autograd.grad((outputs[-1] * weights.to(outputs)).sum(), steps)
        silent = [t for t in range(8) if not found[t].any()]
        if silent:
            return f"{name}: no gradient {7 - silent[0]} steps into the past: a state is detached"
    return None


def acting_is_learning(patient: Patient) -> str | None:
    """The agent acts by the same networks as it learns with."""
    agent, backbone = patient.agent, patient.agent.actor
    outputs, _ = _played(patient, backbone)
    state, acted = agent.initial_state(COLUMNS), []
    for t in range(STEPS):
        row = map_observations(lambda part: part[t].cpu().numpy(), patient.observations)  # noqa: B023
        first = patient.is_first[t].cpu().numpy()
        actions, state = agent.act(row, state, first, explore=False)
        acted.append(actions)
    with torch.no_grad():
        expected = agent.policy_head(outputs).mode().cpu().numpy()
    found = np.stack(acted)
    if found.dtype.kind == "f":
        is_same = np.allclose(found, expected, atol=1e-3)
    else:  # two actions may be equally good but for rounding
        is_same = bool((found == expected).mean() > 0.95)
    if is_same:
        return None
    return "acting step by step chooses other actions than learning computes: is a mirror wrong?"


NETWORKS: dict[str, Check] = {
    "outputs are finite": finite_outputs,
    "single steps are the sequence": steps_are_sequences,
    "no leak over resets": episodes_stay_apart,
    "environments stay apart": environments_stay_apart,
    "gradients reach the past": gradients_reach_the_past,
    "acting is what is learnt": acting_is_learning,
}
