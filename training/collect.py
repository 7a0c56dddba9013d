"""Collects the stream: steps vector environments with an agent into preallocated storage."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from agents.agent import Agent
from agents.trajectory import Trajectory
from envs.seeding import reset_with_seeds
from networks.mirror import Array
from training.episodes import Episode, EpisodeCounter, InvalidExperience


class Collector:
    """Steps environments with an agent, `rollout_length` steps at a time.

    The environments run with Gymnasium's `NEXT_STEP` autoreset: the step after an episode's end
    only resets, and is marked by `is_first` on the observation that it leads to. The memory's state
    and the episodes under way go on from one trajectory to the next.

    Attributes:
        env_steps: valid steps taken so far, over all environments.
        episodes: episodes that the latest trajectory finished.
        seconds: of the latest trajectory, by phase (`environment`, `acting`).
    """

    def __init__(
        self, environments: VectorEnv[Any, Any, Any], *, rollout_length: int, seeds: Sequence[int]
    ) -> None:
        """Allocate storage and reset every environment with its seed."""
        self.environments = environments
        self.env_steps = 0
        self.episodes: list[Episode] = []
        self.seconds = {"environment": 0.0, "acting": 0.0}
        first, _ = reset_with_seeds(environments, seeds)
        size = environments.num_envs
        space = environments.single_observation_space
        assert space.shape is not None
        self._storage = _Storage(rollout_length, size, space.shape, _storage_dtype(space.dtype))
        self._storage.observations[-1].copy_(torch.as_tensor(np.asarray(first)))
        self._storage.is_first[-1] = True
        self._ended = np.zeros(size, dtype=bool)
        self._counter = EpisodeCounter(environments)
        self._state: Tensor | None = None

    def collect(self, agent: Agent) -> Trajectory:
        """Take `rollout_length` steps in every environment.

        The trajectory is a view of storage that the next call overwrites.

        Raises:
            InvalidExperience: a reward or observation was not finite.
        """
        storage = self._storage
        storage.rewind()
        state = self._state
        if state is None:
            state = agent.initial_state(self.environments.num_envs)
        storage.allocate_actions(agent)
        before = state
        self.episodes = []
        self.seconds = {"environment": 0.0, "acting": 0.0}
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            for step in range(storage.length):
                state = self._step(agent, step, state)
        self._state = state
        trajectory = Trajectory(
            observations=storage.observations,
            is_first=storage.is_first,
            actions=storage.actions,
            rewards=storage.rewards,
            terminated=storage.terminated,
            truncated=storage.truncated,
            state=before,
        )
        _refuse_non_finite(trajectory)
        self.env_steps += int(trajectory.valid.sum())
        return trajectory

    def _step(self, agent: Agent, step: int, state: Tensor) -> Tensor:
        storage = self._storage
        started = time.perf_counter()
        actions, state = agent.act(
            storage.observations_at[step], state, storage.is_first_at[step], explore=True
        )
        sent = agent.to_environment(actions)
        acted = time.perf_counter()
        observations, rewards, terminated, truncated, infos = self.environments.step(sent)
        stepped = time.perf_counter()
        storage.action_array[step] = actions.numpy()
        storage.observation_array[step + 1] = observations
        storage.reward_array[step] = rewards
        storage.terminated_array[step] = terminated
        storage.truncated_array[step] = truncated
        # An episode that ended one step earlier opens anew with this step's observation.
        storage.is_first_array[step + 1] = self._ended
        ended = terminated | truncated
        self.episodes += self._counter.add(rewards, self._ended, ended, infos)
        self._ended = ended
        self.seconds["acting"] += acted - started
        self.seconds["environment"] += stepped - acted
        return state


class _Storage:
    """One trajectory's preallocated tensors and views: indexing a tensor costs microseconds."""

    def __init__(
        self, length: int, num_envs: int, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self.length = length
        size = (length, num_envs)
        self.observations = torch.zeros(length + 1, num_envs, *shape, dtype=dtype)
        self.is_first = torch.zeros(length + 1, num_envs, dtype=torch.bool)
        self.rewards = torch.zeros(size)
        self.terminated = torch.zeros(size, dtype=torch.bool)
        self.truncated = torch.zeros(size, dtype=torch.bool)
        self.actions = torch.zeros(0)
        self.observations_at = self.observations.unbind()
        self.is_first_at = self.is_first.unbind()
        self.observation_array = self.observations.numpy()
        self.action_array: Array = self.actions.numpy()
        self.is_first_array = self.is_first.numpy()
        self.reward_array = self.rewards.numpy()
        self.terminated_array = self.terminated.numpy()
        self.truncated_array = self.truncated.numpy()

    def rewind(self) -> None:
        """Begin with the observation that the last trajectory ended on."""
        self.observations[0] = self.observations[-1]
        self.is_first[0] = self.is_first[-1]

    def allocate_actions(self, agent: Agent) -> None:
        """Allocate actions as the agent's policy makes them, once."""
        head = agent.policy_head
        size = (*self.rewards.shape, *head.action_shape)
        if self.actions.shape != size or self.actions.dtype != head.action_dtype:
            self.actions = torch.zeros(size, dtype=head.action_dtype)
            self.action_array = self.actions.numpy()


def _storage_dtype(dtype: Any) -> torch.dtype:
    """Keep the environment's own dtype, but no float64: networks compute in float32."""
    stored: torch.dtype = torch.from_numpy(np.zeros((), dtype)).dtype
    return torch.float32 if stored == torch.float64 else stored


def _refuse_non_finite(trajectory: Trajectory) -> None:
    # An observation's row is one ahead of the step that led to it; the first came with a reset.
    rewards, observations = trajectory.rewards, trajectory.observations
    assert isinstance(observations, Tensor)
    for name, rows, ahead in (("reward", rewards, 0), ("observation", observations, 1)):
        if not rows.is_floating_point() or rows.isfinite().all():
            continue
        row, environment, *_ = (~rows.isfinite()).nonzero()[0].tolist()
        step = row - ahead
        when = "at its reset"
        if step >= 0:
            action = trajectory.actions[step, environment].tolist()
            when = f"at step {step} of the rollout, after action {action}"
        raise InvalidExperience(
            f"environment {environment} sent a {name} that is not finite "
            f"({rows[row, environment].tolist()}) {when}; mend it or wrap it (env.wrappers)"
        )
