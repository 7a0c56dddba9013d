"""Behaviour cloning of a run's policy, acting in separate environments."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn

from agents.agent import Agent
from agents.learning.sequences import to_sequences
from agents.mathematics.losses import masked_mean
from agents.trajectory import Trajectory
from conf.checking.steps import training_sequence_length
from networks.observations import Observations, map_observations
from training.building.instantiation import plain
from training.pretraining.fitting import HELD_OUT_LOSS
from training.pretraining.frames import STRETCHES, named, observations_of
from training.pretraining.stages import Task
from training.stream.collect import Collector, Player

_MEASURED = 1024
"""Approximate number of steps measured at once."""


class Cloning(Task):
    """Trains an agent's actor on sequences of a policy's observations and actions.

    Each sequence starts with the memory state that the actor itself would have there. It is
    recomputed after every epoch, by reading the whole stream with the current weights.
    """

    key, source_key = "cloning", "source"
    copies = 2  # the stream, and the sequences cut from it

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Clone into this agent; a batch is of whole sequences."""
        super().__init__(config, agent)
        self._actor, self._head = agent.actor, agent.policy_head
        self.module = nn.ModuleDict({"actor": self._actor, "policy_head": self._head})
        self._length = training_sequence_length(plain(config))
        self.items_per_batch = max(1, self.options.batch_size // self._length)

    def rollout_length(self, num_envs: int) -> int:
        """Return the steps for at least the wanted frames, in whole sequences."""
        frames: int = self.options.frames
        return ceil(frames / num_envs / self._length) * self._length

    def record(self, player: Player, collector: Collector) -> dict[str, Tensor]:
        """Let the source act, for the same number of steps in all environments."""
        return to_tensors(collector.collect(player))

    def prepare(self, recording: Mapping[str, Tensor]) -> None:
        """Cut the demonstration into sequences and hold out some contiguous stretches.

        Raises:
            ValueError: the demonstration is too short.
        """
        demonstration = from_tensors(recording)
        self._stream = demonstration.to(self.agent.device)
        self._hold_out(_stretches(demonstration, self._length))
        self._observe(demonstration)
        self._steps: dict[str, Any] = {
            name: map_observations(lambda part: to_sequences(part, self._length), step)
            for name, step in (
                ("observations", self._stream.step_observations),
                ("is_first", self._stream.is_first[:-1]),
                ("actions", self._stream.actions),
                ("valid", self._stream.valid),
            )
        }

    def _observe(self, demonstration: Trajectory) -> None:
        """Set the observation statistics from the training data."""
        is_learnt = torch.zeros(len(self._learnt) + len(self._held), dtype=torch.bool)
        is_learnt[self._learnt] = True
        by_window = is_learnt.view(-1, demonstration.valid.shape[1])  # [W, B]
        learnt = by_window.repeat_interleave(self._length, 0).to(self._stream.valid.device)
        self._actor.observe(self._stream.step_observations, self._stream.valid & learnt)

    def refresh(self) -> None:
        """Recompute the memory state before each sequence."""
        stream, memory = self._stream, self._actor.memory
        first = memory.initial_state(stream.valid.shape[1]).to(stream.valid.device)
        if memory.state_size == 0:  # no states to compute
            self._states = first.new_zeros(self.size + len(self._held), 0)
            return
        features = self._actor.features(stream.step_observations)
        _, states, _ = memory.unroll(
            features, first, stream.is_first[:-1], sequence_length=self._length
        )
        self._states = states.flatten(0, 1)  # [W, B, S] -> [N, S]

    def loss(self, items: Int[Tensor, " M"]) -> Float[Tensor, ""]:
        """Negative log-likelihood of the actions taken."""
        actions, valid, distribution = self._read(self._learnt[items])
        return -masked_mean(distribution.log_prob(actions), valid)

    def measure(self) -> dict[str, float]:
        """Measure the loss, and the accuracy (or squared error) of the mode."""
        totals: dict[str, float] = {}
        steps = 0
        for items in self._held.split(max(1, _MEASURED // self._length)):
            actions, valid, distribution = self._read(items)
            values = {HELD_OUT_LOSS: -distribution.log_prob(actions)}
            mode = distribution.mode()
            if actions.is_floating_point():
                values["action_squared_error"] = (mode - actions).square().mean(-1)
            else:
                alike = mode == actions
                whole = alike.flatten(2).all(-1) if alike.ndim > 2 else alike
                values["accuracy"] = whole.float()
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + float(value[valid].double().sum())
            steps += int(valid.sum())
        return {name: total / max(1, steps) for name, total in totals.items()}

    def weights(self) -> dict[str, Tensor]:
        """Return the actor by the agent's names, and the critic's parts that are built alike."""
        agent: Any = self.agent
        shared = ["critic."] if self.config.share_backbone else []
        names = ("actor.", "policy_head.", *shared)
        weights = {
            f"agent.{name}": tensor
            for name, tensor in agent.state_dict().items()
            if name.startswith(names)
        }
        if not shared and self.config.critic.extractor is None:
            extractor = agent.actor.extractor.state_dict()
            weights |= {f"agent.critic.extractor.{k}": v.clone() for k, v in extractor.items()}
        return weights

    def _read(self, items: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Return actions, validity and policy of some sequences, `[L, M]` each."""
        chosen = items.to(self._states.device)

        def pick(part: Tensor) -> Tensor:
            return part.index_select(1, chosen)

        observations: Observations = map_observations(pick, self._steps["observations"])
        state = self._states.index_select(0, chosen)
        summary, _ = self._actor(observations, state, pick(self._steps["is_first"]))
        return pick(self._steps["actions"]), pick(self._steps["valid"]), self._head(summary)


def to_tensors(demonstration: Trajectory) -> dict[str, Tensor]:
    """Convert a demonstration to named tensors."""
    others = ("is_first", "actions", "rewards", "terminated", "truncated", "state")
    return named(demonstration.observations) | {
        name: getattr(demonstration, name) for name in others
    }


def from_tensors(tensors: Mapping[str, Tensor]) -> Trajectory:
    """Convert named tensors to a demonstration."""
    fields: dict[str, Any] = {k: v for k, v in tensors.items() if "." not in k}
    return Trajectory(observations=observations_of(tensors), **fields)


def _stretches(demonstration: Trajectory, sequence_length: int) -> Int[Tensor, " N"]:
    """Number the contiguous stretches of the sequences, each of one environment."""
    steps, num_envs = demonstration.valid.shape
    windows = steps // sequence_length
    each = ceil(windows * num_envs / STRETCHES)
    numbers = torch.arange(windows)[:, None] // each * num_envs + torch.arange(num_envs)  # [W, B]
    return numbers.flatten()
