"""Lost lives end episodes of the stream; games and their scores go on."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs.vector.base import SlotVectorEnv
from training.stream.collect import Collector, Lives


class Game(gymnasium.Env):
    """Shows `[game, step]`, pays 1, loses a life after each of the given numbers of steps."""

    observation_space = spaces.Box(-1, 1e6, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, lives: list[int], limit: int | None = None) -> None:
        self.lives, self.limit = lives, limit
        self.game = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.game, self.steps, self.left = self.game + 1, 0, len(self.lives)
        return self.shown(), {"lives": self.left}

    def step(self, action):
        self.steps += 1
        lost_at = np.cumsum(self.lives)
        self.left = int((lost_at > self.steps).sum())
        is_cut = self.steps == self.limit
        return self.shown(), 1.0, self.left == 0, is_cut, {"lives": self.left}

    def shown(self):
        return np.float32([self.game, self.steps])


def collect(
    games: list[Game], random_agent: Any, *, steps: int, rollouts: int = 1, life_loss: bool = True
) -> tuple[list[dict[str, list[Any]]], list[Any], Collector]:
    """Plays; returns each environment's stream by name, and the episodes that were reported."""
    environments = SlotVectorEnv([lambda g=game: g for game in games], on_failure="stop")
    collector = Collector(
        environments, rollout_length=steps, seeds=range(len(games)), life_loss=life_loss
    )
    agent = random_agent(environments.single_action_space)
    names = ("rewards", "terminated", "truncated", "valid")
    streams: list[dict[str, list[Any]]] = [
        {name: [] for name in (*names, "seen", "first")} for _ in games
    ]
    episodes = []
    for _ in range(rollouts):
        trajectory = collector.collect(agent)
        episodes += collector.episodes
        for index, stream in enumerate(streams):
            for name in names:
                stream[name] += getattr(trajectory, name)[:, index].int().tolist()
            stream["seen"] += trajectory.observations[:-1, index].int().tolist()
            stream["first"] += trajectory.is_first[:-1, index].int().tolist()
    return streams, episodes, collector


@pytest.mark.parametrize("rollouts", [1, 3, 12])
def test_a_lost_life_ends_an_episode_of_the_stream_alone(random_agent, rollouts: int) -> None:
    """Lives of 3, 2 and 3 steps: the step after a lost life opens the next episode."""
    (stream,), episodes, collector = collect(
        [Game([3, 2, 3])], random_agent, steps=12 // rollouts, rollouts=rollouts
    )
    assert stream["seen"] == [[0, step] for step in range(9)] + [[1, 0], [1, 1], [1, 2]]
    assert stream["terminated"] == [0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1]
    assert stream["first"] == [1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0]
    assert stream["valid"] == [1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1]
    assert stream["rewards"] == stream["valid"]
    assert not any(stream["truncated"])
    assert [(each.episode_return, each.length) for each in episodes] == [(8, 8)]
    assert collector.env_steps == sum(stream["valid"])


def test_what_the_environments_say_stands_without_it(random_agent) -> None:
    (stream,), episodes, _ = collect([Game([3, 2, 3])], random_agent, steps=12, life_loss=False)
    assert stream["terminated"] == [0] * 7 + [1, 0, 0, 0, 0]
    assert sum(stream["valid"]) == 11
    assert [each.length for each in episodes] == [8]


def test_every_end_is_followed_by_an_opening_whatever_comes_together(random_agent) -> None:
    """Lives of one step, games that end or are cut in the very step that opens an episode."""
    games = [Game([1, 1, 1]), Game([2, 1, 4]), Game([2, 5], limit=3), Game([3, 4], limit=3)]
    streams, episodes, _ = collect(games, random_agent, steps=60)
    for stream in streams:
        ended = np.array(stream["terminated"]) | np.array(stream["truncated"])
        np.testing.assert_array_equal(stream["first"][2:], ended[:-2])
        np.testing.assert_array_equal(stream["valid"][:-1], 1 - np.array(stream["first"][1:]))
        assert stream["rewards"] == stream["valid"]
        for step in range(59):  # what is learnt from never links two games
            is_linked = stream["seen"][step][0] != stream["seen"][step + 1][0]
            assert not (is_linked and stream["valid"][step])
    # The step that opens the second of three lives loses it too, and ends nothing.
    assert streams[0]["terminated"][:8] == [1, 0, 1, 0] * 2
    lengths = {environment: set() for environment in range(4)}
    for episode in episodes:
        assert episode.episode_return == episode.length
        lengths[episode.environment].add(episode.length)
    assert lengths == {0: {3}, 1: {7}, 2: {3}, 3: {3}}


def test_a_collector_goes_on_exactly(random_agent) -> None:
    games = [Game([3, 2, 3]), Game([4, 1])]
    agents = [random_agent(Game.action_space) for _ in range(2)]

    def made() -> Collector:
        fresh = [lambda lives=game.lives: Game(lives) for game in games]
        environments = SlotVectorEnv(fresh, on_failure="stop")
        return Collector(environments, rollout_length=5, seeds=[0, 1], life_loss=True)

    whole, other = made(), made()
    for _ in range(3):
        whole.collect(agents[0])
        tensors, state = whole.state_dict()
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        expected = whole.collect(agents[0])
        # These count their games, which playing again cannot bring back: each goes on anew.
        exact = other.load_state_dict(tensors, state, seed=0)
        assert exact == [False, False]
        assert state["lives"] != [0, 0]
        found = other.collect(agents[1])
        assert found.is_first[0].all()
        assert expected.valid.any()


def test_lives_are_compared_where_they_are_told() -> None:
    lives = Lives(3, {"lives": np.array([3, 3, 3])})
    assert lives.lost({"lives": np.array([3, 2, 4])}).tolist() == [False, True, False]
    masked = {"lives": np.array([0, 0, 3]), "_lives": np.array([False, True, True])}
    assert lives.lost(masked).tolist() == [False, True, True]
    assert lives.lost({}).tolist() == [False, False, False]
    assert lives.left.tolist() == [3, 0, 3]
    lives.forget(np.array([True, False, False]))
    assert lives.lost({"lives": np.array([5, 0, 2])}).tolist() == [False, False, True]


def test_environments_without_lives_are_refused(counting) -> None:
    with pytest.raises(ValueError, match=r"^env.life_loss=true: .* use env.life_loss=false$"):
        Collector(counting([3]), rollout_length=4, seeds=[0], life_loss=True)


@pytest.mark.parametrize("vectorization", ["sync", "native"])
def test_breakout_is_scored_as_a_whole(build_run, vectorization: str) -> None:
    """Five lives make five episodes of the stream, and one score."""
    pytest.importorskip("ale_py")
    run = build_run(
        [
            "env=atari",
            "env.id=Atari/Breakout-v0",
            "env.life_loss=true",
            "env.num_envs=1",
            f"env.vectorization={vectorization}",
            "env.kwargs.size=36",
            "env.frame_stack=1",
            "extractor=flatten",
            "agent.rollout_length=300",
            "agent.num_minibatches=1",
            "num_threads=1",
        ]
    )
    trajectory = run.collector.collect(run.agent)
    (episode, *_) = run.collector.episodes
    ends = torch.nonzero(trajectory.terminated[:, 0]).flatten().tolist()
    # The last life ends with the game; the steps between lives are of the game, not of the stream.
    assert ends[4] + 1 == episode.length
    assert int(trajectory.valid[: ends[4] + 1].sum()) == episode.length - 4
    assert trajectory.is_first[:, 0].nonzero().flatten().tolist()[1:5] == [e + 2 for e in ends[:4]]
