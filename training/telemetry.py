"""What networks make of what they observe, measured where a run is evaluated.

The latest trajectory is read once more, by the weights as they are. Nothing is changed: no weight,
no statistic, no random number.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from omegaconf import DictConfig
from torch import Tensor, nn

from agents.agent import Agent
from agents.trajectory import Trajectory
from envs.spaces import one_line
from networks.auxiliary import AuxiliaryLoss
from networks.backbone import Backbone
from networks.observations import map_observations
from training.representation import (
    Activations,
    dormant_share,
    effective_rank,
    mean_norm,
    saturation,
)

_ROWS = 512
"""Observations that are looked at."""
_ROWS_AT_ONCE = 64
_STEPS = 64
"""Steps through which memories are followed at most, unless there are few environments."""
_PICTURES = 8
_PICTURE = "images/reconstruction"
"""Tag of an observation without parts, said again from the actor's features."""


@dataclass(frozen=True)
class Look:
    """What was seen of an agent's networks, by TensorBoard's tags.

    Attributes:
        pictures: `uint8 [H, W, 3]`.
    """

    scalars: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


class Representation:
    """Measures an agent's networks, and draws what they can say again of what they saw.

    What goes wrong with it must not end training: it is reported as a warning.
    """

    def look(self, agent: Agent, trajectory: Trajectory) -> Look:
        """Look at the agent as it is, on the trajectory that it learnt from last."""
        try:
            return look_at(agent, trajectory)
        except Exception as error:  # of networks and losses of the user's, whatever they raise
            message = f"networks not measured: {one_line(error)}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return Look()


class NoRepresentation:
    """Measures nothing."""

    def look(self, agent: Agent, trajectory: Trajectory) -> Look:
        """See nothing."""
        return Look()


def build_telemetry(config: DictConfig) -> Representation | NoRepresentation:
    """Build what `tracking.representation` asks for; without curves there is nobody to see it."""
    is_wanted = config.tracking.representation and config.tracking.tensorboard
    return Representation() if is_wanted else NoRepresentation()


@torch.no_grad()
def look_at(agent: Agent, trajectory: Trajectory) -> Look:
    """Measure every backbone of an agent and every part's weights."""
    scalars = {
        f"weight_norm/{part}": torch.stack([each.norm() for each in parameters]).norm()
        for part, parameters in agent.parts().items()
        if parameters
    }
    pictures: dict[str, npt.NDArray[np.uint8]] = {}
    # A network of the user's may draw even where nothing is learnt.
    with torch.random.fork_rng(devices=[agent.device] if agent.device.type == "cuda" else []):
        for name, backbone in agent.networks.backbones.items():
            reading = _Reading(backbone, trajectory, agent.device, is_actor=backbone is agent.actor)
            scalars |= {f"representation/{name}/{tag}": m for tag, m in reading.measures().items()}
            pictures |= _pictures(agent, name, reading)
    return Look({tag: float(value) for tag, value in scalars.items()}, pictures)


class _Reading:
    """One backbone's reading of a part of a trajectory, chosen by its shape alone.

    Without a memory: observations evenly spread over it. With one: its first steps, of environments
    evenly spread; the actor's memory goes on from where it was, a critic's own begins empty.
    """

    def __init__(
        self, backbone: Backbone, trajectory: Trajectory, device: torch.device, *, is_actor: bool
    ) -> None:
        self._memory = backbone.memory
        self._extractor = backbone.extractor
        steps, num_envs = trajectory.rewards.shape
        chosen = _spread(steps * num_envs, _ROWS)
        if self._memory.state_size:
            envs = _spread(num_envs, _ROWS // min(steps, _STEPS))
            steps = min(steps, max(_ROWS // len(envs), 1))
            chosen = (num_envs * torch.arange(steps)[:, None] + envs).flatten()
            self._is_first = trajectory.is_first[:steps, envs].to(device)
            initial = self._memory.initial_state(len(envs))
            self._state = (trajectory.state[envs] if is_actor else initial).to(device)
        self.rows = backbone.rows(
            map_observations(
                lambda part: part.flatten(0, 1)[chosen][None].to(device), trajectory.observations
            )
        )
        self._activations = Activations()
        features = []
        for start in range(0, len(chosen), _ROWS_AT_ONCE):
            with self._activations.watching(self._extractor):
                some = slice(start, start + _ROWS_AT_ONCE)
                features.append(backbone.extract(map_observations(lambda p: p[some], self.rows)))  # noqa: B023
        self.features = torch.cat(features)

    def measures(self) -> dict[str, Tensor]:
        """Measure the extractor, where there is something to learn in it, and the memory."""
        measures: dict[str, Tensor] = {}
        if any(True for _ in self._extractor.parameters()):
            layers = self._activations.means() or [self.features.abs().mean(0)]
            measures["dormant_units"] = dormant_share(layers)
            measures["effective_rank"] = effective_rank(self.features)
            measures["feature_norm"] = mean_norm(self.features)
        return measures | (self._measures_of_memory() if self._memory.state_size else {})

    def _measures_of_memory(self) -> dict[str, Tensor]:
        """Measure the states of the second half of the steps."""
        steps, num_envs = self._is_first.shape
        _, before, last = self._memory.unroll(
            self.features.view(steps, num_envs, -1),
            self._state,
            self._is_first,
            sequence_length=max(1, steps // 8),
        )
        states = torch.cat([before, last[None]])
        parts = self._memory.split(states[len(states) // 2 :])
        measures = {f"{name}_norm": mean_norm(part) for name, part in parts.items()}
        if self._memory.saturates:
            measures["state_saturation"] = saturation(parts["state"])
        return measures


def _spread(count: int, wanted: int) -> Int[Tensor, " n"]:
    """Number some of `count` things, evenly spread."""
    number = max(1, min(count, wanted))
    return torch.linspace(0, count - 1, number, dtype=torch.float64).long()


def _pictures(agent: Agent, backbone: str, reading: _Reading) -> dict[str, npt.NDArray[np.uint8]]:
    """Draw what was observed, above what auxiliary losses reconstruct of it."""
    if backbone not in agent.auxiliary.by_backbone:
        return {}
    losses = agent.auxiliary.by_backbone[backbone]
    assert isinstance(losses, nn.ModuleDict)
    chosen = _spread(len(reading.features), _PICTURES).to(reading.features.device)
    rows = map_observations(lambda part: part[chosen], reading.rows)
    found = {}
    for name, loss in losses.items():
        assert isinstance(loss, AuxiliaryLoss)
        for part, picture in loss.pictures(rows, reading.features[chosen]).items():
            usual = ("reconstruction", "actor", "observation")
            words = zip((name, backbone, part), usual, strict=True)
            found["/".join([_PICTURE, *(word for word, left in words if word != left)])] = (
                picture.detach().cpu().numpy()
            )
    return found
