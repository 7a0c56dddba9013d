"""Diagnostics of the networks' representations, at each evaluation.

The networks read the latest trajectory again with the current weights. Nothing is changed: no
weight, no statistic, no random number.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from agents.agent import Agent
from agents.trajectory import Trajectory
from envs.spaces import one_line
from networks.backbone import Backbone
from networks.memory.memories import Memory
from networks.observations import Observations, map_observations

_DORMANT = 0.025
"""Share of its layer's mean activation up to which a unit is dormant."""
_LEFT_OUT = 0.01
"""Share of the singular values' sum that the effective rank leaves out."""
_SATURATED = 0.99
_OF_NO_UNIT = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin)
"""Modules among PyTorch's activations that do not act unit by unit."""


def dormant_share(layers: Sequence[Float[Tensor, " K"]]) -> Float[Tensor, ""]:
    """Share of dormant units over several layers.

        s_i = mean |h_i| / mean_k mean |h_k|,   dormant if s_i <= 0.025

    Source: Sokar et al. (2023), arXiv:2302.12902, definitions 3.1 and 3.2.

    Args:
        layers: mean absolute activation of each unit.
    """
    scores = [sizes / (sizes.mean() + 1e-9) for sizes in layers]
    return (torch.cat(scores) <= _DORMANT).float().mean()


def effective_rank(features: Float[Tensor, "N F"]) -> Float[Tensor, ""]:
    """Effective rank of features; nan if they are not finite.

        min k:  sum_{i <= k} sigma_i / sum_i sigma_i >= 1 - 0.01,   singular values in falling order

    Source: Kumar et al. (2021), arXiv:2010.14498, srank in section 3.
    """
    if not features.isfinite().all():
        return features.new_tensor(torch.nan)
    wide = features.double()
    # Eigenvalues of the smaller product: twenty times faster than singular values.
    gram = wide.T @ wide if wide.shape[0] > wide.shape[1] else wide @ wide.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0.0).sqrt().flip(0)
    needed: Tensor = values.cumsum(0) < (1 - _LEFT_OUT) * values.sum()
    rank: Tensor = needed.sum() + (values.sum() > 0)
    return rank.float()


def mean_norm(rows: Float[Tensor, "*N F"]) -> Float[Tensor, ""]:
    """Mean Euclidean norm of rows."""
    norms: Tensor = rows.norm(dim=-1)
    return norms.mean()


def saturation(state: Float[Tensor, "*N S"]) -> Float[Tensor, ""]:
    """Share of a state's entries at one of the ends of [-1, 1]."""
    return (state.abs() > _SATURATED).float().mean()


class Activations:
    """Mean absolute activation of each unit, over batches; a feature map is one unit."""

    def __init__(self) -> None:
        self._batches: list[list[tuple[Tensor, int]]] = []

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Add the outputs of a module's activation layers during one call."""
        self._batches.append([])
        with ExitStack() as hooks:
            for layer in module.modules():
                is_activation = type(layer).__module__ == "torch.nn.modules.activation"
                if is_activation and not isinstance(layer, _OF_NO_UNIT):
                    hooks.enter_context(layer.register_forward_hook(self._add))
            yield

    def _add(self, layer: nn.Module, inputs: object, output: Tensor) -> None:
        units = 1 if output.dim() > 3 else output.dim() - 1  # [N, C, H, W], or [N, ..., F]
        others = [axis for axis in range(output.dim()) if axis != units]
        sizes = output.detach().abs().float().sum(others)
        self._batches[-1].append((sizes, output.numel() // output.shape[units]))

    def means(self) -> list[Float[Tensor, " K"]]:
        """Return each layer's means, in the order of calls: one that is called twice has two."""
        layers = [zip(*layer, strict=True) for layer in zip(*self._batches, strict=True)]
        return [torch.stack(sizes).sum(0) / sum(counts) for sizes, counts in layers]


_ROWS = 512
"""Maximum number of observations measured."""
_ROWS_AT_ONCE = 64
_STEPS = 64
"""Maximum number of steps for memories, unless there are few environments."""
_PICTURES = 8
_PICTURE = "images/reconstruction"
"""Tag of an observation without parts, reconstructed from the actor's features."""
CAPTION = "observations above their reconstructions"


class Look(NamedTuple):
    """The diagnostics of an agent's networks, by TensorBoard tag.

    Attributes:
        pictures: `uint8 [H, W, 3]`.
    """

    scalars: Mapping[str, float] = MappingProxyType({})
    pictures: Mapping[str, Tensor] = MappingProxyType({})


def look_at(agent: Agent, trajectory: Trajectory) -> Look:
    """Measure an agent's networks on the trajectory that it learnt from last.

    A failure must not end training: it is reported as a warning.
    """
    try:
        return measure(agent, trajectory)
    except Exception as error:  # the user's networks and losses may raise anything
        warnings.warn(f"networks not measured: {one_line(error)}", RuntimeWarning, stacklevel=2)
        return Look()


@torch.no_grad()
def measure(agent: Agent, trajectory: Trajectory) -> Look:
    """Measure every backbone of an agent and every part's weights."""
    scalars: dict[str, Tensor] = {}
    for part, own in agent.parts().items():
        if own:
            scalars[f"weight_norm/{part}"] = torch.stack([each.norm() for each in own]).norm()
    pictures: dict[str, Tensor] = {}
    # A user's network may draw random numbers even in evaluation mode.
    with torch.random.fork_rng(devices=[agent.device] if agent.device.type == "cuda" else []):
        for name, backbone in agent.networks.backbones.items():
            measures, rows, features = _read(agent, backbone, trajectory)
            scalars |= {f"representation/{name}/{tag}": value for tag, value in measures.items()}
            pictures |= _pictures(agent, name, rows, features)
    return Look({tag: float(value) for tag, value in scalars.items()}, pictures)


def _read(
    agent: Agent, backbone: Backbone, trajectory: Trajectory
) -> tuple[dict[str, Tensor], Observations, Float[Tensor, "N F"]]:
    """Read a part of a trajectory, chosen by its shape alone: measures, rows and features.

    Without a memory: observations evenly spread over it. With one: the first steps of evenly
    spread environments; the actor starts from its stored state, a critic's own memory empty.
    """
    memory, device = backbone.memory, agent.device
    steps, num_envs = trajectory.rewards.shape
    chosen = _spread(steps * num_envs, _ROWS)
    envs = _spread(num_envs, _ROWS // min(steps, _STEPS))
    if memory.state_size:
        steps = min(steps, max(_ROWS // len(envs), 1))
        chosen = (num_envs * torch.arange(steps)[:, None] + envs).flatten()
    stream = map_observations(lambda p: p.flatten(0, 1)[chosen], trajectory.observations)
    rows = backbone.rows(map_observations(lambda part: part[None].to(device), stream))
    activations, found = Activations(), []
    for some in torch.arange(len(chosen), device=device).split(_ROWS_AT_ONCE):
        with activations.watching(backbone.extractor):
            found.append(backbone.extract(map_observations(lambda p: p[some], rows)))  # noqa: B023
    features, measures = torch.cat(found), {}
    if any(True for _ in backbone.extractor.parameters()):
        layers = activations.means() or [features.abs().mean(0)]
        measures["dormant_units"] = dormant_share(layers)
        measures["effective_rank"] = effective_rank(features)
        measures["feature_norm"] = mean_norm(features)
    if memory.state_size:
        is_first = trajectory.is_first[:steps, envs].to(device)
        initial = memory.initial_state(len(envs))
        state = (trajectory.state[envs] if backbone is agent.actor else initial).to(device)
        measures |= _states(memory, features.unflatten(0, (steps, -1)), state, is_first)
    return measures, rows, features


def _states(memory: Memory, features: Tensor, state: Tensor, is_first: Tensor) -> dict[str, Tensor]:
    """Measure the states in the second half of the steps."""
    length = max(1, len(features) // 8)
    _, before, last = memory.unroll(features, state, is_first, sequence_length=length)
    states = torch.cat([before, last[None]])
    parts = memory.split(states[len(states) // 2 :])
    measures = {f"{name}_norm": mean_norm(part) for name, part in parts.items()}
    if memory.saturates:
        measures["state_saturation"] = saturation(parts["state"])
    return measures


def _spread(count: int, wanted: int) -> Int[Tensor, " n"]:
    """Choose evenly spread indices below `count`."""
    number = max(1, min(count, wanted))
    return torch.linspace(0, count - 1, number, dtype=torch.float64).long()


def _pictures(agent: Agent, backbone: str, rows: Any, features: Tensor) -> dict[str, Tensor]:
    """Show observations above their reconstructions, by the agent and by auxiliary losses."""
    of_backbones: Any = agent.auxiliary.by_backbone
    chosen = _spread(len(features), _PICTURES).to(features.device)
    shown, found = map_observations(lambda part: part[chosen], rows), {}
    own: Any = agent.networks.own.get("decoder")
    for part, picture in own.pictures(shown).items() if own is not None else ():
        found[f"{_PICTURE}/{part}".removesuffix("/observation")] = picture
    for name, loss in of_backbones[backbone].items() if backbone in of_backbones else ():
        for part, picture in loss.pictures(shown, features[chosen]).items():
            usual = ("reconstruction", "actor", "observation")
            words = zip((name, backbone, part), usual, strict=True)
            found["/".join([_PICTURE, *(word for word, left in words if word != left)])] = picture
    return found
