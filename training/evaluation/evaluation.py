"""Evaluates an agent in separate environments, without changing any state of training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from envs.interface import Environments
from envs.seeding import environment_seeds
from training.stream.collect import Collector
from training.stream.episodes import Episode, EpisodeHistory, InvalidExperience, shown_return

_MAX_LOST_EPISODES = 100
"""Failed episodes allowed in one evaluation, with `env.on_failure=restart`."""
MAX_EPISODE_STEPS = 27_000
"""Steps after which an unfinished episode is cut and counted (30 minutes of Atari)."""
Watch = Callable[["Play"], object]
"""Looks at an evaluation after the reset and after every step."""


def unwatched(play: "Play") -> None:
    """Look at nothing."""


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted raw returns and lengths of episodes.

    Attributes:
        unfinished: episodes that were cut, by default at `MAX_EPISODE_STEPS`.
        unplayed: requested episodes that would have followed them in the same environments.
        info: means of numbers of `info` over the episodes that told them; `success_rate` is one.
        measures: means of `Agent.held_out` over the steps of its behaviour policy.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    unfinished: int
    unplayed: int
    info: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)

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

    def __str__(self) -> str:
        """Describe mean and deviation of the returns, and the number of episodes, in one line."""
        count = len(self.returns)
        return (
            f"{shown_return(self.return_mean)} +- {shown_return(self.return_std)} "
            f"over {count} episode{'' if count == 1 else 's'}{_describe_rest(self)}"
        )

    def scalars(self) -> dict[str, float]:
        """Means by TensorBoard tag."""
        means = {**self.info, **self.measures}
        means |= {"return": self.return_mean, "length": self.length_mean}
        return {f"evaluation/{name}": value for name, value in means.items()}

    def summary(self) -> dict[str, Any]:
        """Plain numbers for `summary.json`."""
        return {
            **self.info,
            **self.measures,
            "return_mean": self.return_mean,
            "return_std": self.return_std,
            "length_mean": self.length_mean,
            "episodes": len(self.returns),
            "unfinished": self.unfinished,
            "returns": list(self.returns),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Evaluation":
        """Restore from what `dataclasses.asdict` returned, after a way through JSON."""
        lists = {name: tuple(state[name]) for name in ("returns", "lengths")}
        return cls(**{**state, **lists})


def describe_score(evaluation: Evaluation) -> str:
    """Describe mean and deviation of the returns, aligned, and what else was measured."""
    score = f"{shown_return(evaluation.return_mean):>9} +- {shown_return(evaluation.return_std)}"
    return score + _describe_rest(evaluation)


def _describe_rest(evaluation: Evaluation) -> str:
    """Describe measures, and how many episodes were cut with the remedy; "" if there are none."""
    told = (f", {name.replace('_', ' ')} {v:.4g}" for name, v in evaluation.measures.items())
    measures = "".join(told)
    if not evaluation.unfinished:
        return measures
    unplayed = f", {evaluation.unplayed} more not played" if evaluation.unplayed else ""
    cut = f"; {evaluation.unfinished} cut after {MAX_EPISODE_STEPS:,} steps"
    return f"{measures}{cut}{unplayed} (set env.time_limit)"


def describe_spread(evaluation: Evaluation) -> str:
    """Describe the median, the extremes and the mean length."""
    median, low, high = map(shown_return, np.quantile(evaluation.returns, (0.5, 0.0, 1.0)))
    info = "".join(f"; {name} {shown_return(value)}" for name, value in evaluation.info.items())
    steps = f"{evaluation.length_mean:.1f} steps per episode"
    return f"median {median}, from {low} to {high}; {steps}{info}"


class Play:
    """The episodes of one evaluation, collected step by step.

    Every environment plays a number of episodes fixed beforehand: counting those that finish first
    would favour short ones. After a cut episode an environment plays no more, as each further
    episode could take as long.

    Attributes:
        collector: takes the steps, one at a time.
        episodes: that count, in the order of their ends.
        wanted: how many there should be.
        unfinished: how many of them were cut.
        unplayed: how many would have followed the cut ones.
    """

    def __init__(self, collector: Collector, episodes: int, limit: int) -> None:
        """Share the episodes out among the environments; cut them after `limit` steps."""
        size = collector.environments.num_envs
        self.collector, self.wanted, self._limit = collector, episodes, limit
        self.episodes: list[Episode] = []
        self.unfinished = self.unplayed = self._steps = 0
        self._measures: list[Mapping[str, Tensor]] = []
        self._left = [(episodes + index) // size for index in range(size)]
        self._restarts = collector.restarts

    @property
    def is_over(self) -> bool:
        """Whether every environment has played its episodes."""
        return max(self._left) <= 0

    def run(self, agent: Agent, generator: np.random.Generator, watch: Watch) -> Evaluation:
        """Play all episodes; stochastic policies sample from `generator`."""
        with agent.using(generator):
            watch(self)
            while not self.is_over:
                self._step(agent)
                watch(self)
        returns = tuple(episode.episode_return for episode in self.episodes)
        lengths = tuple(episode.length for episode in self.episodes)
        history = EpisodeHistory(window=1)
        history.extend(self.episodes)
        means = {tag.removeprefix("episode/"): value for tag, value in history.report().items()}
        info = {name: value for name, value in means.items() if name not in ("return", "length")}
        names = self._measures[0] if self._measures else ()
        steps = {name: torch.cat([each[name] for each in self._measures]) for name in names}
        measures = {name: float(values.double().mean()) for name, values in steps.items()}
        return Evaluation(returns, lengths, self.unfinished, self.unplayed, info, measures)

    def _step(self, agent: Agent) -> None:
        """Step all environments and keep the episodes that count.

        Raises:
            InvalidExperience: a value was not finite, or environments fail too often.
        """
        try:
            self.collector.collect(agent)
        except InvalidExperience as error:
            raise InvalidExperience(f"step {self._steps} of an evaluation: {error}") from None
        self._steps += 1
        if self.collector.behaves and self.collector.trajectory is not None:
            self._measures.append(agent.held_out(self.collector.trajectory))
        for episode in self.collector.episodes:
            self._keep(episode)
        lost = self.collector.restarts - self._restarts  # with each, an episode
        if lost > _MAX_LOST_EPISODES:
            raise InvalidExperience(
                f"environments broke {lost} times in one evaluation, which lost as many "
                "episodes; mend the environment (env.on_failure=stop names the first failure)"
            )
        if self._steps >= self._limit:
            self._cut()

    def _cut(self) -> None:
        """Cut and count episodes that are too long, each once."""
        counter = self.collector.counter
        is_cut = (counter.lengths >= self._limit) & (np.array(self._left) > 0)
        for episode in counter.under_way(np.flatnonzero(is_cut)):
            self.unfinished += 1
            self._keep(episode)
            self.unplayed += self._left[episode.environment]
            self._left[episode.environment] = 0  # it would be reported again

    def _keep(self, episode: Episode) -> None:
        if self._left[episode.environment] > 0:
            self._left[episode.environment] -= 1
            self.episodes.append(episode)


@dataclass
class Evaluator:
    """Owns the environments and seeds of evaluations, or of videos; separate from training's.

    Attributes:
        seed: the run's; each purpose has its own seeds.
        info_keys: numbers of `info` whose means are kept.
        should_abandon: called before every step; True abandons the evaluation.
    """

    environments: Environments
    seed: int
    deterministic: bool
    purpose: str = "evaluation"
    info_keys: Sequence[str] = ()
    should_abandon: Callable[[], bool] = lambda: False

    def __call__(
        self,
        agent: Agent,
        *,
        episodes: int,
        index: int,
        watch: Watch = unwatched,
        max_episode_steps: int | None = None,
    ) -> Evaluation:
        """Play `episodes` complete episodes of each policy that the agent names in `evaluated`.

        Each `index` has its own seeds, so equal calls give equal results. A behaviour policy always
        plays those of index 0, so that all its measures are of the same steps.

        Args:
            max_episode_steps: after which an episode is cut; None is `MAX_EPISODE_STEPS`.

        Raises:
            InvalidExperience: a reward was not finite.
            Abandoned: `should_abandon` returned True.
        """
        limit = max_episode_steps or MAX_EPISODE_STEPS
        found: list[Evaluation] = []
        for policy in agent.evaluated:
            behaves = policy == "behaviour"
            if behaves and not (agent.behaviour and agent.behaviour.is_known):
                continue
            play = Play(self._collector(0 if behaves else index, behaves), episodes, limit)
            # Not the environments' seeds: the policy must not draw the numbers of its environment.
            purpose, own = f"{self.purpose} policy", 0 if behaves else index
            seeds = environment_seeds(self.seed, 2, purpose=purpose, index=own)
            generator = np.random.default_rng(seeds)
            found.append(play.run(agent, generator, unwatched if found else watch))
        return replace(found[0], measures=found[-1].measures)

    def _collector(self, index: int, behaves: bool) -> Collector:
        """Make the collector of one policy's episodes, and reset the environments."""
        environments, size = self.environments, self.environments.num_envs
        seeds = environment_seeds(self.seed, size, purpose=self.purpose, index=index)
        collector = Collector(environments, rollout_length=1, seeds=seeds)
        collector.explores, collector.behaves = not self.deterministic, behaves
        collector.counter.info_keys = self.info_keys
        collector.should_abandon = self.should_abandon
        return collector
