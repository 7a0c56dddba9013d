"""Evaluation: a fair number of episodes, the same every time, and no trace in training."""

import contextlib
import json
from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import training.evaluation.evaluation
from envs.seeding import environment_seeds
from envs.vector.base import SlotVectorEnv
from envs.vector.failures import EnvironmentFailure
from envs.wrappers.adapters import ScaleReward
from tests.envs.conftest import make_with
from tests.playing import evaluate
from training.evaluation.evaluation import Evaluation, Evaluator
from training.stream.collect import InvalidExperience
from training.stream.episodes import Abandoned


def evaluator(run, *, deterministic: bool = True, seed: int = 0) -> Evaluator:
    return Evaluator(run.environments, seed=seed, deterministic=deterministic)


def play(agent, environments, episodes: int, **options: Any) -> Evaluation:
    return evaluate(
        agent,
        environments,
        episodes=episodes,
        seeds=range(environments.num_envs),
        generator=np.random.default_rng(0),
        deterministic=False,
        **options,
    )


class TwoAtOnce(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes two steps of the environment in one."""

    def step(self, action: Any) -> Any:
        super().step(action)
        return super().step(action)


class Actor(torch.nn.Module):
    """What evaluation needs of an agent, around the stand-in."""

    behaviour = None
    evaluated = ("policy",)

    def __init__(self, random_agent) -> None:
        super().__init__()
        self.random_agent = random_agent

    def using(self, generator):
        return contextlib.nullcontext()

    def __getattr__(self, name):
        if name in ("initial_state", "act", "policy_head"):
            return getattr(self.random_agent, name)
        return super().__getattr__(name)


@pytest.fixture
def actor(random_agent):
    return Actor(random_agent(spaces.Discrete(2)))


def test_short_episodes_count_no_more_than_long_ones(actor, counting) -> None:
    result = play(actor, counting([1], [100]), 10)
    assert sorted(result.lengths) == [1] * 5 + [100] * 5
    assert result.returns == tuple(map(float, result.lengths))
    assert result.return_mean == 50.5
    assert result.return_std == 49.5
    assert result.length_mean == 50.5


@pytest.mark.parametrize(
    ("episodes", "expected"),
    [(1, [5]), (2, [3, 5]), (3, [1, 3, 5]), (4, [1, 3, 5, 5]), (7, [1, 1, 3, 3, 5, 5, 5])],
)
def test_episodes_are_shared_out_evenly(actor, counting, episodes, expected) -> None:
    result = play(actor, counting([1], [3], [5]), episodes)
    assert sorted(result.lengths) == expected


def test_summary_is_plain_and_says_everything() -> None:
    summary = Evaluation(returns=(1.0, 3.0), lengths=(1, 4), unfinished=0, unplayed=0).summary()
    assert summary == {
        "return_mean": 2.0,
        "return_std": 1.0,
        "length_mean": 2.5,
        "episodes": 2,
        "unfinished": 0,
        "returns": [1.0, 3.0],
    }


def test_equal_calls_give_equal_results_and_others_differ(build) -> None:
    run = build("env.id=CartPole-v1", "policy_head.gain=1.0")
    evaluate_run = evaluator(run, deterministic=False)
    first = evaluate_run(run.agent, episodes=6, index=3)
    assert evaluate_run(run.agent, episodes=6, index=4) != first
    assert evaluate_run(run.agent, episodes=6, index=3) == first
    assert evaluator(run, deterministic=False, seed=1)(run.agent, episodes=6, index=3) != first


def test_every_index_has_episodes_and_draws_of_its_own(build) -> None:
    """Seeds of environments and numbers of policies, apart from each other's and training's."""
    run = build("env.id=CartPole-v1", "policy_head.gain=1.0")
    environments, head = run.environments, run.agent.policy_head
    reset, noise, seeds, drawn = environments.reset, head.noise, [], []

    def note_seeds(*, seed: Any = None, options: Any = None) -> Any:
        seeds.append(tuple(seed))
        return reset(seed=seed, options=options)

    def note_draws(generator: np.random.Generator, batch_size: int) -> Any:
        drawn.append(generator.bit_generator.state["state"]["state"])
        return noise(generator, batch_size)

    environments.reset, head.noise = note_seeds, note_draws
    firsts = []
    for index in (3, 4, 3):
        drawn.clear()
        evaluator(run, deterministic=False)(run.agent, episodes=2, index=index)
        firsts.append(drawn[0])
    assert seeds[0] == seeds[2] != seeds[1]
    assert firsts[0] == firsts[2] != firsts[1]
    training = tuple(environment_seeds(0, 2, purpose="train"))
    assert len({*training, *seeds[0], *seeds[1]}) == 6
    for own, first in zip(seeds, firsts, strict=True):
        assert np.random.default_rng(own).bit_generator.state["state"]["state"] != first


@pytest.mark.parametrize("ending", ["terminated", "truncated", "both"])
def test_every_end_is_an_end(actor, counting, ending: str) -> None:
    """Of whatever kind: memories are told, scores are whole."""
    result = play(actor, counting([2], [3], ending=ending), 4)
    assert sorted(result.lengths) == [2, 2, 3, 3]
    calls = actor.random_agent.calls
    assert [bool(call.is_first[0]) for call in calls[:7]] == [1, 0, 0, 1, 0, 0, 1]


def test_results_do_not_depend_on_what_training_drew(build) -> None:
    results = []
    for draws in (0, 5):
        run = build("env.id=CartPole-v1", "memory=gru", "memory.hidden_size=4")
        run.agent.generator.random(draws)
        torch.rand(draws)
        np.random.random(draws)  # noqa: NPY002  (the global generator is what must not matter)
        results.append(evaluator(run, deterministic=False)(run.agent, episodes=4, index=0))
    assert results[0] == results[1]


def test_deterministic_evaluation_takes_the_most_likely_action(actor, counting) -> None:
    for deterministic in (True, False):
        actor.random_agent.calls.clear()
        environments = counting([2])
        evaluate(
            actor,
            environments,
            episodes=2,
            seeds=[0],
            generator=np.random.default_rng(0),
            deterministic=deterministic,
        )
        assert {call.explore for call in actor.random_agent.calls} == {not deterministic}


def test_the_memory_is_told_where_episodes_begin(actor, counting) -> None:
    play(actor, counting([1, 2], [3]), 6)
    assert len(actor.random_agent.calls) > 6
    for call in actor.random_agent.calls:
        assert torch.equal(call.is_first, call.observations[:, 1] == 0)


def test_only_gradient_steps_are_in_training_mode(build) -> None:
    run = build("env.id=neurl/Counting-v0", "extractor.activation=gelu")  # acts in torch
    run.agent.actor.extractor.layers.append(torch.nn.Dropout(0.0))  # else modes mean nothing
    modes = []
    run.agent.actor.extractor.register_forward_hook(
        lambda module, inputs, output: modes.append((module.training, torch.is_grad_enabled()))
    )
    evaluator(run)(run.agent, episodes=2, index=0)
    assert set(modes) == {(False, False)}
    run.agent.learn(run.collector.collect(run.agent))
    modes.clear()  # of a look at what each loss reaches, before the first step
    run.agent.learn(run.collector.collect(run.agent))
    assert set(modes) == {(False, False), (True, True)}


def test_episodes_that_never_end_are_cut_and_told(monkeypatch, actor, vectorized) -> None:
    monkeypatch.setattr(training.evaluation.evaluation, "MAX_EPISODE_STEPS", 50)
    environments = vectorized(
        *(
            gymnasium.make("neurl/Endless-v0", limit=limit, disable_env_checker=True)
            for limit in (None, 50, 49, 10)
        )
    )
    result = play(actor, environments, 8)
    # an episode that would never end counts once, whatever its environment owes
    assert sorted(result.lengths) == [10, 10, 49, 49, 50, 50, 50]
    assert (result.unfinished, result.unplayed) == (1, 1)
    assert result.returns == tuple(map(float, result.lengths))
    assert str(result).endswith(
        "over 7 episodes; 1 cut after 50 steps, 1 more not played (set env.time_limit)"
    )


def factor(environment: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    return ScaleReward(environment, factor=0.01)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_episodes_that_are_cut_count_by_raw_rewards_too(actor, vectorization) -> None:
    environments = make_with(
        id="neurl/Endless-v0",
        kwargs={"limit": None},
        wrappers=[TwoAtOnce, factor],
        vectorization=vectorization,
    )
    with contextlib.closing(environments):
        result = play(actor, environments, 5, max_episode_steps=6)
    assert result.returns == (12, 12)
    assert result.lengths == (12, 12)
    assert (result.unfinished, result.unplayed) == (2, 3)


def test_normalisation_stands_still(build) -> None:
    run = build("env.id=CartPole-v1", "normalize_observations=true", "normalize_rewards=true")
    run.agent.learn(run.collector.collect(run.agent))
    before = {name: value.clone() for name, value in run.agent.state_dict().items()}
    assert before["actor.normalization.count"] > 0
    other = build("env.id=CartPole-v1")
    evaluator(other)(run.agent, episodes=4, index=0)
    for name, value in run.agent.state_dict().items():
        assert torch.equal(value, before[name]), name


class BrokenReward(gymnasium.Env):
    """Pays nan at once."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), np.nan, True, False, {}


def test_a_score_is_never_nan(actor, vectorized) -> None:
    """It would be the best there ever was: nothing is greater or equal."""
    with pytest.raises(EnvironmentFailure, match=r"environment 0 .* the reward is not finite"):
        play(actor, vectorized(BrokenReward()), 1)
    unguarded = gymnasium.vector.SyncVectorEnv([BrokenReward])
    with pytest.raises(InvalidExperience, match="environment 0 sent a reward"):
        play(actor, unguarded, 1)


class Parts(gymnasium.Env):
    """Shows its step in two parts; overwrites one of them in place."""

    observation_space = spaces.Dict(
        position=spaces.Box(0, 99, (3,), np.float64), phase=spaces.Discrete(9)
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.step_number, self.position = 0, np.zeros(3)
        return {"position": self.position, "phase": 0}, {}

    def step(self, action):
        self.step_number += 1
        self.position += 1
        observation = {"position": self.position, "phase": self.step_number}
        return observation, 1.0, self.step_number == 3, False, {}


class ByParts(Actor):
    """Keeps what it read, to look at afterwards."""

    def __init__(self, random_agent) -> None:
        super().__init__(random_agent)
        self.given: list[dict[str, np.ndarray]] = []

    def act(self, observations, state, is_first, *, explore):
        self.given.append({name: part.copy() for name, part in observations.items()})
        return self.random_agent.act(observations["phase"], state, is_first, explore=explore)


def test_observations_by_name_are_carried_part_by_part(random_agent) -> None:
    agent = ByParts(random_agent(spaces.Discrete(2)))
    environments = gymnasium.vector.SyncVectorEnv([Parts, Parts], copy=False)
    result = play(agent, environments, 4)
    environments.close()
    assert result.lengths == (3, 3, 3, 3)
    assert {name: part.dtype for name, part in agent.given[0].items()} == {
        "position": np.float32,
        "phase": np.int64,
    }
    steps = [0, 1, 2, 3, 0, 1, 2]
    assert [given["phase"].tolist() for given in agent.given] == [[s, s] for s in steps]
    for given, step in zip(agent.given, steps, strict=True):
        assert np.array_equal(given["position"], np.full((2, 3), float(step)))


class BreakingOnce(gymnasium.Env):
    """Episodes of five steps; raises at the third step that any of it takes."""

    observation_space = spaces.Box(0, 9, (2,))
    action_space = spaces.Discrete(2)
    taken = 0

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.array([0, self.steps], np.float32), {}

    def step(self, action):
        BreakingOnce.taken += 1
        if BreakingOnce.taken == 3:
            raise RuntimeError("broken")
        self.steps += 1
        return np.array([0, self.steps], np.float32), 1.0, self.steps == 5, False, {}


class Steady(BreakingOnce):
    """Episodes of four steps."""

    def step(self, action):
        self.steps += 1
        return np.array([0, self.steps], np.float32), 1.0, self.steps == 4, False, {}


def test_the_episode_of_an_environment_that_broke_is_lost(actor, monkeypatch) -> None:
    monkeypatch.setattr(BreakingOnce, "taken", 0)
    environments = SlotVectorEnv([BreakingOnce, Steady], on_failure="restart")
    result = play(actor, environments, 4)
    environments.close()
    # both play two whole episodes; two steps of the first environment's first count for nothing
    assert sorted(result.lengths) == [4, 4, 5, 5]
    assert result.returns == tuple(map(float, result.lengths))
    calls = actor.random_agent.calls
    assert [i for i, call in enumerate(calls) if call.is_first[0]] == [0, 3, 9]
    assert [i for i, call in enumerate(calls) if call.is_first[1]][:3] == [0, 5, 10]
    for call in calls:
        assert torch.equal(call.is_first, call.observations[:, 1] == 0)


def test_an_evaluation_can_be_given_up(build) -> None:
    run = build("env.id=CartPole-v1")
    evaluate_run = evaluator(run)
    asked = []
    evaluate_run.should_abandon = lambda: len(asked) == 5 or asked.append(1)
    before = run.agent.generator
    with pytest.raises(Abandoned):
        evaluate_run(run.agent, episodes=2, index=0)
    assert run.agent.generator is before
    evaluate_run.should_abandon = lambda: False
    assert len(evaluate_run(run.agent, episodes=2, index=0).returns) == 2


def test_whoever_watches_sees_the_reset_and_every_step(actor, counting) -> None:
    seen = []
    evaluate(
        actor,
        counting([3]),
        episodes=2,
        seeds=[0],
        generator=np.random.default_rng(0),
        deterministic=False,
        watch=lambda play: seen.append((len(actor.random_agent.calls), len(play.episodes))),
    )
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 1), (7, 2)]


def test_a_saved_evaluation_is_the_same() -> None:
    evaluation = Evaluation(returns=(1.5, -3.0), lengths=(1, 4), unfinished=1, unplayed=2)
    stored = json.loads(json.dumps(asdict(evaluation)))
    assert Evaluation.from_dict(stored) == evaluation


RUN = ["total_env_steps=800", "env.id=CartPole-v1", "normalize_observations=true"]
WATCHED = {
    "evaluations": "evaluation.interval=100",
    "sampled": "evaluation.deterministic=false",
    "checkpoints": "checkpoint.interval=100",
    "logs": "tracking.interval=1",
    "no tensorboard": "tracking.tensorboard=false",
    "progress": "tracking.progress=true",
    "more environments": "evaluation.num_envs=3",
    "videos": "evaluation.video=true",
}


OF_VALUES = {
    "dqn": [
        "agent=dqn",
        "memory=gru",
        "memory.hidden_size=4",
        "agent.sequence_length=6",
        "agent.noisy=true",
        "agent.prioritized=true",
        "value_head=c51",
        "value_head.bins=7",
        "total_env_steps=240",
    ],
    "pqn": ["agent=pqn", "value_head=hl_gauss", "value_head.bins=7", "total_env_steps=240"],
}
AGENTS = {"ppo": RUN, **{name: [*RUN[1:], *words] for name, words in OF_VALUES.items()}}
WAYS = [("ppo", way) for way in WATCHED]
WAYS += [("dqn", way) for way in ("evaluations", "logs", "no tensorboard")]
WAYS += [("pqn", way) for way in ("evaluations", "no tensorboard")]


@pytest.fixture(scope="module")
def unwatched(train):
    known: dict[str, Any] = {}

    def look_up(agent: str) -> Any:
        if agent not in known:
            words = [*AGENTS[agent], "evaluation.interval=0", "checkpoint.interval=0"]
            known[agent] = train(*words).weights()
        return known[agent]

    return look_up


@pytest.mark.parametrize(("agent", "way"), WAYS)
def test_watching_a_run_does_not_change_it(train, unwatched, agent: str, way: str) -> None:
    """How often one looks, saves or logs must not reach the weights, by a bit."""
    word = WATCHED[way]
    if way == "videos":
        pytest.importorskip("pygame")
    often = [] if way == "evaluations" else ["evaluation.interval=500"]
    found, expected = train(*AGENTS[agent], *often, word).weights(), unwatched(agent)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


class Whims(gymnasium.RewardWrapper):
    """Pays at random, by the generator that a reset seeds."""

    def reward(self, reward):
        return float(self.np_random.random())


def test_equal_calls_are_equal_whatever_a_wrapper_draws(actor, vectorized) -> None:
    """Or a run that goes on, with environments made anew, would see other scores."""
    environments = vectorized(Whims(gymnasium.make("CartPole-v1", max_episode_steps=5)))
    first, second = (play(actor, environments, 3).returns for _ in range(2))
    anew = vectorized(Whims(gymnasium.make("CartPole-v1", max_episode_steps=5)))
    assert len({*first}) == 3
    assert first == second == play(actor, anew, 3).returns
