"""Evaluates an agent on environments of its own, without touching anything that training uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from agents.agent import Agent
from envs.seeding import environment_seeds, reset_with_seeds
from networks.mirror import Array
from training.episodes import Episode, EpisodeCounter, InvalidExperience

MAX_EPISODE_STEPS = 27_000
"""Steps after which an episode that will not end is counted as it stands (30 minutes of Atari)."""


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted raw returns and lengths of episodes.

    Attributes:
        unfinished: episodes that were cut at `MAX_EPISODE_STEPS`.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    unfinished: int

    @property
    def return_mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def return_std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(np.std(self.returns))

    @property
    def length_mean(self) -> float:
        """Mean number of steps."""
        return float(np.mean(self.lengths))

    def summary(self) -> dict[str, Any]:
        """Plain numbers for `summary.json`."""
        return {
            "return_mean": self.return_mean,
            "return_std": self.return_std,
            "length_mean": self.length_mean,
            "episodes": len(self.returns),
            "unfinished": self.unfinished,
            "returns": list(self.returns),
        }


def evaluate(
    agent: Agent,
    environments: VectorEnv[Any, Any, Any],
    *,
    episodes: int,
    seeds: Sequence[int],
    generator: np.random.Generator,
    deterministic: bool,
) -> Evaluation:
    """Play `episodes` complete episodes.

    Every environment plays a number of episodes fixed beforehand: counting whichever finish first
    would favour short ones. Policies that are sampled draw from `generator`.
    """
    size = environments.num_envs
    quota = np.array([(episodes + index) // size for index in range(size)])
    play = _Play(environments, seeds)
    with agent.using(generator):
        state = agent.initial_state(size)
        while (play.finished < quota).any():
            actions, state = agent.act(
                torch.from_numpy(play.observations),
                state,
                torch.from_numpy(play.is_first),
                explore=not deterministic,
            )
            play.step(agent.to_environment(actions), quota)
    return Evaluation(
        returns=tuple(episode.episode_return for episode in play.episodes),
        lengths=tuple(episode.length for episode in play.episodes),
        unfinished=play.unfinished,
    )


class _Play:
    """The environments of one evaluation and the episodes they have played."""

    def __init__(self, environments: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> None:
        self._environments = environments
        size = environments.num_envs
        observations, _ = reset_with_seeds(environments, seeds)
        self.observations = _own(observations)
        self.is_first = np.ones(size, dtype=bool)
        self.finished = np.zeros(size, np.int64)
        self.episodes: list[Episode] = []
        self.unfinished = 0
        self._ended = np.zeros(size, dtype=bool)
        self._counter = EpisodeCounter(environments)

    def step(self, actions: Array, quota: Array) -> None:
        """Take one step everywhere and keep the episodes that still count."""
        observations, rewards, terminated, truncated, infos = self._environments.step(actions)
        if not np.isfinite(rewards).all():
            wrong = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise InvalidExperience(
                f"environment {wrong} sent a reward that is not finite ({rewards[wrong]}) in an "
                f"evaluation, after action {actions[wrong]}; mend the environment or wrap it "
                "(env.wrappers)"
            )
        self.observations, self.is_first = _own(observations), self._ended
        self._ended = terminated | truncated
        for episode in self._counter.add(rewards, self.is_first, self._ended, infos):
            self._keep(episode, quota)
        returns, lengths = self._counter.running()
        for index in np.flatnonzero(lengths >= MAX_EPISODE_STEPS):
            episode = Episode(int(index), float(returns[index]), int(lengths[index]))
            if self.finished[index] < quota[index]:
                self.unfinished += 1
                self._keep(episode, quota)
                quota[index] = self.finished[index]  # it would only be told again

    def _keep(self, episode: Episode, quota: Array) -> None:
        if self.finished[episode.environment] < quota[episode.environment]:
            self.finished[episode.environment] += 1
            self.episodes.append(episode)


def _own(observations: Any) -> Array:
    """Copy what the environments will overwrite; float64 becomes float32, as in training."""
    array: Array = np.array(observations)
    return array.astype(np.float32) if array.dtype == np.float64 else array


class Evaluator:
    """Owns the evaluation's environments and seeds, both apart from training's."""

    def __init__(
        self, environments: VectorEnv[Any, Any, Any], *, seed: int, deterministic: bool
    ) -> None:
        """Take the environments; `seed` is the run's."""
        self._environments = environments
        self._seed, self._deterministic = seed, deterministic

    def __call__(self, agent: Agent, *, episodes: int, index: int) -> Evaluation:
        """Evaluate; each `index` has seeds of its own, so equal calls give equal results."""
        seeds = environment_seeds(
            self._seed, self._environments.num_envs, purpose="evaluation", index=index
        )
        # Not the environments' own seeds: a policy must not draw what its environment drew.
        policy_seeds = environment_seeds(self._seed, 2, purpose="evaluation policy", index=index)
        return evaluate(
            agent,
            self._environments,
            episodes=episodes,
            seeds=seeds,
            generator=np.random.default_rng(policy_seeds),
            deterministic=self._deterministic,
        )

    def close(self) -> None:
        """Close the environments."""
        self._environments.close()
