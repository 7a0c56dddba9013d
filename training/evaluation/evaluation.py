"""Evaluates an agent in separate environments, without changing any state of training."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from agents.agent import Agent
from envs.seeding import environment_seeds, reset_with_seeds
from networks.mirror import Array
from networks.observations import map_observations
from training.stream.episodes import Abandoned, Episode, EpisodeCounter, InvalidExperience

_MAX_LOST_EPISODES = 100
"""Failed episodes allowed in one evaluation, with `env.on_failure=restart`."""
MAX_EPISODE_STEPS = 27_000
"""Steps after which an unfinished episode is cut and counted (30 minutes of Atari)."""


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted raw returns and lengths of episodes.

    Attributes:
        unfinished: episodes that were cut, by default at `MAX_EPISODE_STEPS`.
        unplayed: requested episodes that would have followed them in the same environments.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    unfinished: int
    unplayed: int

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

    def scalars(self) -> dict[str, float]:
        """Means by TensorBoard tag."""
        return {"evaluation/return": self.return_mean, "evaluation/length": self.length_mean}

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

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        lists = {"returns": list(self.returns), "lengths": list(self.lengths)}
        return {**lists, "unfinished": self.unfinished, "unplayed": self.unplayed}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Evaluation":
        """Restore from a saved state."""
        lists = tuple(state["returns"]), tuple(state["lengths"])
        return cls(*lists, state["unfinished"], state["unplayed"])


def describe(evaluation: Evaluation) -> str:
    """Describe mean and deviation of the returns, and the number of episodes, in one line."""
    count = len(evaluation.returns)
    return (
        f"{evaluation.return_mean:.2f} +- {evaluation.return_std:.2f} over {count} "
        f"episode{'' if count == 1 else 's'}{_describe_cuts(evaluation)}"
    )


def describe_score(evaluation: Evaluation) -> str:
    """Describe mean and deviation of the returns, aligned, and how many episodes were cut."""
    score = f"{evaluation.return_mean:9.2f} +- {evaluation.return_std:.2f}"
    return score + _describe_cuts(evaluation)


def _describe_cuts(evaluation: Evaluation) -> str:
    """Say how many episodes were cut, and the remedy; "" if none was."""
    if not evaluation.unfinished:
        return ""
    unplayed = f", {evaluation.unplayed} more not played" if evaluation.unplayed else ""
    return (
        f"; {evaluation.unfinished} cut after {MAX_EPISODE_STEPS:,} steps{unplayed} "
        "(set env.time_limit)"
    )


def describe_spread(evaluation: Evaluation) -> str:
    """Describe the median, the extremes and the mean length."""
    return (
        f"median {np.median(evaluation.returns):.2f}, from {min(evaluation.returns):.2f} to "
        f"{max(evaluation.returns):.2f}; {evaluation.length_mean:.1f} steps per episode"
    )


def evaluate(
    agent: Agent,
    environments: VectorEnv[Any, Any, Any],
    *,
    episodes: int,
    seeds: Sequence[int],
    generator: np.random.Generator,
    deterministic: bool,
    watch: "Callable[[Play], None] | None" = None,
    max_episode_steps: int | None = None,
) -> Evaluation:
    """Play `episodes` complete episodes.

    Every environment plays a number of episodes fixed beforehand: counting those that finish first
    would favour short ones. After a cut episode an environment plays no more, as each further
    episode could take as long. Stochastic policies sample from `generator`.

    Args:
        watch: called after the reset and after every step, before the next.
        max_episode_steps: steps after which an episode is cut; None is `MAX_EPISODE_STEPS`.
    """
    size = environments.num_envs
    quota = np.array([(episodes + index) // size for index in range(size)])
    limit = MAX_EPISODE_STEPS if max_episode_steps is None else max_episode_steps
    play = Play(environments, seeds, quota, limit)
    with agent.using(generator):
        state = agent.initial_state(size)
        if watch is not None:
            watch(play)
        while not play.is_over:
            observations: Any = map_observations(torch.from_numpy, play.observations)
            actions, state = agent.act(
                observations, state, torch.from_numpy(play.is_first), explore=not deterministic
            )
            play.step(agent.to_environment(actions))
            if watch is not None:
                watch(play)
    return Evaluation(
        returns=tuple(episode.episode_return for episode in play.episodes),
        lengths=tuple(episode.length for episode in play.episodes),
        unfinished=play.unfinished,
        unplayed=play.unplayed,
    )


class Play:
    """The environments of one evaluation and their finished episodes.

    Attributes:
        observations: of all environments, an array or arrays by name; copies.
        is_first: `[B]`, whether they are the first of an episode.
        episodes: that count, in the order of their ends.
        unfinished: how many of them were cut.
        unplayed: how many would have followed the cut ones.
    """

    def __init__(
        self,
        environments: VectorEnv[Any, Any, Any],
        seeds: Sequence[int],
        quota: Array,
        max_episode_steps: int,
    ) -> None:
        """Reset the environments; `quota` `[B]` is how many episodes of each one count."""
        self._environments = environments
        size = environments.num_envs
        observations, _ = reset_with_seeds(environments, seeds)
        self.observations = map_observations(_own, observations)
        self.is_first = np.ones(size, dtype=bool)
        self.episodes: list[Episode] = []
        self.unfinished = self.unplayed = 0
        self._lost = 0
        self._left: list[int] = quota.tolist()
        self._limit = max_episode_steps
        self._steps = 0
        self._ended = np.zeros(size, dtype=bool)
        self._counter = EpisodeCounter(environments)

    @property
    def is_over(self) -> bool:
        """Whether every environment has played its episodes."""
        return max(self._left) <= 0

    def step(self, actions: Array) -> None:
        """Step all environments and keep the episodes that count."""
        observations, rewards, terminated, truncated, infos = self._environments.step(actions)
        if not math.isfinite(np.vdot(rewards, rewards)):  # which warns of no overflow
            self._refuse_non_finite(rewards, actions)
        self.observations = map_observations(_own, observations)
        self.is_first = self._ended
        self._ended = terminated | truncated
        self._steps += 1
        for episode in self._counter.add(rewards, self._ended, infos):
            self._keep(episode)
        if "restarted" in infos:  # an environment failed: its episode is lost, another one starts
            self._counter.forget(infos["restarted"])
            self._refuse_more_losses(int(infos["restarted"].sum()))
            self.is_first = self.is_first | infos["restarted"]
        if self._steps >= self._limit:
            self._cut()

    def _refuse_non_finite(self, rewards: Array, actions: Array) -> None:
        for wrong in np.flatnonzero(~np.isfinite(rewards)):
            raise InvalidExperience(
                f"environment {wrong} sent a reward that is not finite ({rewards[wrong]}) in an "
                f"evaluation, after action {actions[wrong]}; mend the environment or wrap it "
                "(env.wrappers)"
            )

    def _refuse_more_losses(self, lost: int) -> None:
        """End an evaluation whose environments fail too often."""
        self._lost += lost
        if self._lost > _MAX_LOST_EPISODES:
            raise InvalidExperience(
                f"environments broke {self._lost} times in one evaluation, which lost as many "
                "episodes; mend the environment (env.on_failure=stop names the first failure)"
            )

    def _cut(self) -> None:
        """Cut and count episodes that are too long, each once."""
        is_cut = (self._counter.lengths >= self._limit) & (np.array(self._left) > 0)
        for episode in self._counter.under_way(np.flatnonzero(is_cut)):
            self.unfinished += 1
            self._keep(episode)
            self.unplayed += self._left[episode.environment]
            self._left[episode.environment] = 0  # it would be reported again

    def _keep(self, episode: Episode) -> None:
        if self._left[episode.environment] > 0:
            self._left[episode.environment] -= 1
            self.episodes.append(episode)


def _own(observation: Any) -> Array:
    """Copy observations, which environments overwrite; float64 becomes float32, as in training."""
    array: Array = np.array(observation)
    return array.astype(np.float32) if array.dtype == np.float64 else array


class Evaluator:
    """Owns the evaluation's environments and seeds, separate from training's.

    Attributes:
        should_abandon: called before every step; True abandons the evaluation.
    """

    def __init__(
        self, environments: VectorEnv[Any, Any, Any], *, seed: int, deterministic: bool
    ) -> None:
        """Take the environments; `seed` is the run's."""
        self._environments = environments
        self._seed, self._deterministic = seed, deterministic
        self.should_abandon: Callable[[], bool] = lambda: False

    def __call__(
        self,
        agent: Agent,
        *,
        episodes: int,
        index: int,
        watch: Callable[[Play], None] | None = None,
    ) -> Evaluation:
        """Evaluate; each `index` has its own seeds, so equal calls give equal results.

        Raises:
            InvalidExperience: a reward was not finite.
            Abandoned: `should_abandon` returned True.
        """
        seeds = environment_seeds(
            self._seed, self._environments.num_envs, purpose="evaluation", index=index
        )
        # Not the environments' seeds: the policy must not draw the same numbers as its environment.
        policy_seeds = environment_seeds(self._seed, 2, purpose="evaluation policy", index=index)
        return evaluate(
            agent,
            self._environments,
            episodes=episodes,
            seeds=seeds,
            generator=np.random.default_rng(policy_seeds),
            deterministic=self._deterministic,
            watch=partial(self._look, watch),
        )

    def _look(self, watch: Callable[[Play], None] | None, play: Play) -> None:
        if self.should_abandon():
            raise Abandoned
        if watch is not None:
            watch(play)

    def close(self) -> None:
        """Close the environments."""
        self._environments.close()
