"""Behaviour cloning of a run's policy, acting in separate environments."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn

from agents.agent import Agent
from agents.learning.sequences import to_sequences
from agents.mathematics.losses import masked_mean
from agents.trajectory import Trajectory
from conf.checking.steps import training_sequence_length
from envs.seeding import environment_seeds
from networks.heads.distributions import DiagonalGaussian
from networks.observations import Observations, map_observations
from training.building.environments import build_environments
from training.building.instantiation import plain
from training.pretraining.fitting import HELD_OUT_LOSS, Objective
from training.pretraining.frames import STRETCHES, hold_out, refuse_too_many
from training.pretraining.players import make_player
from training.pretraining.stages import Recording, Task
from training.saving.checkpoint import part_of
from training.stream.collect import Collector, Player
from training.tracking.tracking import NoTensorBoard, TensorBoard

_MEASURED = 1024
"""Approximate number of steps measured at once."""


class Cloning(Objective):
    """An agent's actor, and sequences of a policy's observations and actions.

    Each sequence starts with the memory state that the actor itself would have there. It is
    recomputed after every epoch, by reading the whole stream with the current weights.
    """

    def __init__(
        self,
        agent: Agent,
        demonstration: Trajectory,
        *,
        sequence_length: int,
        batch_size: int,
        held_out: float,
        seed: int,
    ) -> None:
        """Cut the demonstration into sequences and hold out some contiguous stretches.

        Args:
            batch_size: steps per gradient step, in whole sequences.
            held_out: share of the sequences.

        Raises:
            ValueError: the demonstration is too short.
        """
        self.module = nn.ModuleDict({"actor": agent.actor, "policy_head": agent.policy_head})
        self._actor, self._head = agent.actor, agent.policy_head
        self._length = sequence_length
        self._stream = demonstration.to(agent.device)
        self.items_per_batch = max(1, batch_size // sequence_length)
        self._learnt, self._held = hold_out(
            _stretches(demonstration, sequence_length), held_out, seed
        )
        self.size = len(self._learnt)
        self._observe(demonstration)
        self._steps: dict[str, Any] = {
            name: map_observations(lambda part: to_sequences(part, sequence_length), step)
            for name, step in (
                ("observations", self._stream.step_observations),
                ("is_first", self._stream.is_first[:-1]),
                ("actions", self._stream.actions),
                ("valid", self._stream.valid),
            )
        }
        self._states = torch.zeros(0)

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
            if isinstance(distribution, DiagonalGaussian):
                values["action_squared_error"] = (mode - actions).square().mean(-1)
            else:
                alike = mode == actions
                whole = alike.flatten(2).all(-1) if alike.ndim > 2 else alike
                values["accuracy"] = whole.float()
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + float(value[valid].double().sum())
            steps += int(valid.sum())
        return {name: total / max(1, steps) for name, total in totals.items()}

    def _read(self, items: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Return actions, validity and policy of some sequences, `[L, M]` each."""
        chosen = items.to(self._states.device)

        def pick(part: Tensor) -> Tensor:
            return part.index_select(1, chosen)

        observations: Observations = map_observations(pick, self._steps["observations"])
        state = self._states.index_select(0, chosen)
        summary, _ = self._actor(observations, state, pick(self._steps["is_first"]))
        return pick(self._steps["actions"]), pick(self._steps["valid"]), self._head(summary)


def rollout_length(frames: int, num_envs: int, sequence_length: int) -> int:
    """Return the steps per environment for at least `frames`, in whole sequences."""
    return ceil(frames / num_envs / sequence_length) * sequence_length


def to_tensors(demonstration: Trajectory) -> dict[str, Tensor]:
    """Convert a demonstration to named tensors."""
    parts = demonstration.observations
    named = parts if isinstance(parts, dict) else {"": parts}
    observations = {f"observations.{name}": part for name, part in named.items()}
    others = ("is_first", "actions", "rewards", "terminated", "truncated", "state")
    return observations | {name: getattr(demonstration, name) for name in others}


def from_tensors(tensors: Mapping[str, Tensor]) -> Trajectory:
    """Convert named tensors to a demonstration."""
    observations = part_of(tensors, "observations")
    fields: dict[str, Any] = {k: v for k, v in tensors.items() if "." not in k}
    return Trajectory(observations=observations.get("", observations), **fields)


def _stretches(demonstration: Trajectory, sequence_length: int) -> Int[Tensor, " N"]:
    """Number the contiguous stretches of the sequences, each of one environment."""
    steps, num_envs = demonstration.valid.shape
    windows = steps // sequence_length
    each = ceil(windows * num_envs / STRETCHES)
    window = torch.arange(windows)[:, None].expand(windows, num_envs)
    environment = torch.arange(num_envs)[None].expand(windows, num_envs)
    numbers: Tensor = window // each * num_envs + environment
    return numbers.flatten()


_COPIES = 2
"""The stream, and the sequences cut from it."""


class CloningTask(Task):
    """Trains an agent's actor on the actions of a run."""

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Clone into this agent."""
        self._config, self._agent = config, agent
        self._length = training_sequence_length(plain(config))

    def check(self, environments: VectorEnv[Any, Any, Any]) -> None:
        """Check, before anything is written, that the source can act here and frames fit.

        Raises:
            ValueError: in one line, why not.
        """
        space, frames = environments.single_observation_space, self._config.cloning.frames
        refuse_too_many("cloning.frames", space, frames, copies=_COPIES)
        self._player(environments)

    def _player(self, environments: VectorEnv[Any, Any, Any]) -> Player:
        config, head = self._config, self._agent.policy_head
        is_greedy = config.cloning.deterministic
        return make_player("source", config.source, config, head, environments, is_greedy=is_greedy)

    def collect(self, should_abandon: Callable[[], bool]) -> Recording:
        """Let the source act, for the same number of steps in all environments."""
        config, options = self._config, self._config.cloning
        environments = build_environments(config, num_envs=config.env.num_envs)
        try:
            player = self._player(environments)
            size = environments.num_envs
            collector = Collector(
                environments,
                rollout_length=rollout_length(options.frames, size, self._length),
                seeds=environment_seeds(config.seed, size, purpose="pretraining"),
            )
            collector.should_abandon = should_abandon
            demonstration = collector.collect(player)
        finally:
            environments.close()
        return to_tensors(demonstration), {"env_steps": collector.env_steps}

    def objective(self, recording: Recording) -> Cloning:
        """Build the objective from the actor and the demonstration."""
        options = self._config.cloning
        return Cloning(
            self._agent,
            from_tensors(recording[0]),
            sequence_length=self._length,
            batch_size=options.batch_size,
            held_out=options.held_out,
            seed=self._config.seed,
        )

    def weights(self) -> dict[str, Tensor]:
        """Return the actor by the agent's names, and the critic's parts that are built alike."""
        agent: Any = self._agent
        shared = ["critic."] if self._config.share_backbone else []
        names = ("actor.", "policy_head.", *shared)
        weights = {
            f"agent.{name}": tensor
            for name, tensor in agent.state_dict().items()
            if name.startswith(names)
        }
        if not shared and self._config.critic.extractor is None:
            extractor = agent.actor.extractor.state_dict()
            weights |= {f"agent.critic.extractor.{k}": v.clone() for k, v in extractor.items()}
        return weights

    def show(self, tensorboard: TensorBoard | NoTensorBoard, step: int) -> None:
        """Show no images."""
