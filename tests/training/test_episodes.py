"""Returns and lengths of episodes: raw, complete, and each counted once."""

import gymnasium
import numpy as np
import pytest

from training.stream.collect import Collector
from training.stream.episodes import Episode, EpisodeCounter, EpisodeHistory, shown_return

LIMIT_4 = "{_target_: gymnasium.wrappers.TimeLimit, max_episode_steps: 4}"
CLIPPED = "{_target_: gymnasium.wrappers.ClipReward, min_reward: 0.0, max_reward: 0.1}"


def played(run, rollouts: int = 4) -> list[Episode]:
    episodes = []
    for _ in range(rollouts):
        run.agent.learn(run.collector.collect(run.agent))
        episodes += run.collector.episodes
    return episodes


COUNTING = ["env.id=neurl/Counting-v0", "+env.kwargs.lengths=[3,5,2]"]


def test_every_episode_is_counted_once_by_environment(build) -> None:
    run = build(*COUNTING, "env.num_envs=3", "agent.num_minibatches=1")
    episodes = played(run)
    # 3 + 5 + 2 steps and three that only reset: 64 steps are five rounds but for the last reset
    expected = [3, 5, 2] * 5
    for environment in range(3):
        own = [episode for episode in episodes if episode.environment == environment]
        assert [episode.length for episode in own] == expected
        assert [episode.episode_return for episode in own] == expected
    assert {type(field) for episode in episodes for field in episode[:3]} == {int, float}


@pytest.mark.parametrize("ending", ["terminated", "truncated", "both"])
def test_returns_are_raw_whatever_wrappers_do_to_rewards(build, ending) -> None:
    run = build(*COUNTING, f"+env.kwargs.ending={ending}", f"env.wrappers=[{CLIPPED}]")
    trajectory = run.collector.collect(run.agent)
    assert trajectory.rewards.max() == np.float32(0.1)
    episodes = played(run)
    assert episodes
    assert all(episode.episode_return == episode.length for episode in episodes)
    assert {episode.length for episode in episodes} == {2, 3, 5}


def test_episodes_that_a_wrapper_cuts_are_counted_raw_too(build) -> None:
    run = build(*COUNTING, f"env.wrappers=[{CLIPPED},{LIMIT_4}]")
    episodes = played(run)
    for environment in range(2):
        own = [e for e in episodes if e.environment == environment]
        # 64 steps: five rounds of 3 + 4 + 2 steps and three resets, and 3 steps and a reset more
        assert [e.length for e in own] == [3, 4, 2] * 5 + [3]
        assert all(e.episode_return == e.length for e in own)
    assert run.collector.env_steps == sum(e.length for e in episodes)


def test_reward_normalisation_leaves_reported_returns_alone(build) -> None:
    run = build(*COUNTING, "normalize_rewards=true")
    assert all(episode.episode_return == episode.length for episode in played(run))


def test_many_small_rewards_add_up_in_double_precision(vectorized, random_agent) -> None:
    class Drip(gymnasium.Env):
        """Pays a tenth per step."""

        observation_space = gymnasium.spaces.Box(0, 1, (1,))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.steps = 0
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.steps += 1
            return np.zeros(1, np.float32), 0.1, self.steps == 5000, False, {}

    environments = vectorized(Drip())
    collector = Collector(environments, rollout_length=5000, seeds=[0])
    collector.collect(random_agent(environments.single_action_space))
    (episode,) = collector.episodes
    assert episode.episode_return == pytest.approx(500.0, abs=1e-9)


def test_history_reports_what_is_new_and_averages_the_latest() -> None:
    history = EpisodeHistory(window=2)
    assert history.return_mean is None
    assert history.report() == {}
    history.extend([Episode(0, 1.0, 10), Episode(1, 2.0, 20)])
    history.extend([Episode(0, 6.0, 30)])
    assert history.return_mean == 4.0
    assert history.report() == {"episode/return": 3.0, "episode/length": 20.0}
    assert history.report() == {}
    assert history.return_mean == 4.0


def test_episodes_go_on_from_what_was_saved_and_begin_where_they_are_forgotten(vectorized) -> None:
    environments = vectorized(*(gymnasium.make("CartPole-v1") for _ in range(3)))
    nobody, second = np.zeros(3, dtype=bool), np.array([False, True, False])
    counter = EpisodeCounter(environments)
    for rewards, ended in ((1.0, nobody), (2.0, second)):
        (*episodes,) = counter.add(np.full(3, rewards), ended, {})
    assert episodes == [Episode(1, 3.0, 2)]
    again = EpisodeCounter(environments)
    again.load_state_dict(counter.state_dict())
    again.forget(np.array([False, False, True]))
    # The second environment only resets, the third opens an episode with this step.
    again.add(np.array([1.0, 0.0, 5.0]), nobody, {})
    assert again.lengths.tolist() == [3, 0, 1]
    assert again.add(np.ones(3), ~nobody, {}) == [
        Episode(0, 5.0, 4),
        Episode(1, 1.0, 1),
        Episode(2, 6.0, 2),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (475.0, "475.00"),
        (-0.125, "-0.12"),
        (1e-5, "1e-05"),
        (-0.0444, "-0.0444"),
        (1234567891.2, "1.23e+09"),
    ],
)
def test_small_and_large_returns_keep_their_digits(value: float, text: str) -> None:
    assert shown_return(value) == text
