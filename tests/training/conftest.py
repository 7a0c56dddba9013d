"""Runs, environments and a stand-in for agents, in few words."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import register, registry
from gymnasium.vector import VectorEnv

import training.runs.run
from conf.composing.command_line import load
from conf.schema.heads import GaussianHeadOptions
from envs.vector.base import SlotVectorEnv
from networks.heads.policy import policy_head_class
from tests.training.endings import Killed
from training.building.environments import build_environments
from training.runs.session import train_run

OF_AN_AGENT = {
    "ppo": ["agent.rollout_length=16", "agent.num_minibatches=2", "agent.num_epochs=1"],
    "a2c": ["agent.rollout_length=16"],
    "dqn": [
        "agent.train_frequency=4",
        "agent.learning_starts=40",
        "agent.batch_size=8",
        "agent.buffer_size=96",
    ],
    "pqn": ["agent.rollout_length=16", "agent.num_minibatches=2", "agent.num_epochs=1"],
}
OF_AN_AGENT |= dict.fromkeys(["ddpg", "td3", "sac"], OF_AN_AGENT["dqn"])
SMALL = [
    "device=cpu",
    "num_threads=1",
    "env.num_envs=2",
    "extractor.hidden_sizes=[8]",
    "evaluation.num_envs=2",
    "evaluation.episodes=2",
    "evaluation.final_episodes=2",
    "tracking.progress=false",
]


def small(overrides: Sequence[str]) -> list[str]:
    """The small run's overrides, but for what is given otherwise."""
    given = {word.partition("=")[0]: word.partition("=")[2] for word in overrides}
    usual = [*SMALL, *OF_AN_AGENT[given.get("agent", "ppo")]]
    return [word for word in usual if word.partition("=")[0] not in given] + list(overrides)


HEAD = GaussianHeadOptions(
    hidden_sizes=[],
    activation="tanh",
    initialization="orthogonal",
    gain=0.01,
    initial_log_std=0.0,
)


class RandomAgent:
    """Acts at random, counts in its memory how often it was asked, and writes down what it read."""

    behaviour = None
    evaluated = ("policy",)

    def __init__(self, action_space: gymnasium.Space[Any]) -> None:
        self.policy_head = policy_head_class(None, action_space)(action_space, 1, HEAD)
        self._random = np.random.default_rng(0)
        self._action_space = action_space
        self.calls: list[SimpleNamespace] = []

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.zeros((batch_size, 1), np.float32)

    def act(self, observations, state, is_first, *, explore):
        size = (len(observations), *self.policy_head.action_shape)
        if isinstance(self._action_space, spaces.Discrete):
            chosen = self._random.integers(0, self._action_space.n, size)
        else:
            chosen = self._random.standard_normal(size, np.float32)
        self.calls.append(
            SimpleNamespace(
                observations=torch.from_numpy(observations.copy()),
                state=torch.from_numpy(state),
                is_first=torch.from_numpy(is_first.copy()),
                actions=torch.from_numpy(chosen.copy()),
                explore=explore,
            )
        )
        return chosen, state + 1


@pytest.fixture
def random_agent() -> type[RandomAgent]:
    return RandomAgent


class Drawn(gymnasium.Env[Any, Any]):
    """Draws its step number as a brightness, without pygame; counts how many of it are open."""

    metadata: ClassVar = {"render_modes": ["rgb_array", "human"], "render_fps": 200}
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)
    open_count = 0
    shown: ClassVar[list[int]] = []

    def __init__(self, *, length=8, size=(6, 9), render_mode=None):
        self.length, self.size, self.render_mode = length, size, render_mode
        self.steps = 0
        Drawn.open_count += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self._show()
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        self._show()
        observation = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return observation, float(action), self.steps == self.length, False, {}

    def render(self):
        if self.render_mode != "rgb_array":
            return None
        return np.full((*self.size, 3), 10 * self.steps % 256, np.uint8)

    def close(self):
        Drawn.open_count -= 1

    def _show(self):
        if self.render_mode == "human":
            Drawn.shown.append(self.steps)


@pytest.fixture
def drawn() -> Iterator[type[Drawn]]:
    """`test/Drawn-v0`; the class tells what it showed, and none of it stays open."""
    register("test/Drawn-v0", entry_point=Drawn)
    Drawn.open_count, Drawn.shown = 0, []
    yield Drawn
    del registry["test/Drawn-v0"]
    assert Drawn.open_count == 0


class Parts(gymnasium.Env[Any, Any]):
    observation_space = spaces.Dict(
        {"goal": spaces.Box(-1, 1, (2,)), "position": spaces.Box(-1, 1, (3,))}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"goal": np.zeros(2, np.float32), "position": np.ones(3, np.float32)}, {}

    def step(self, action):
        return self.reset()[0], 0.0, False, True, {}


@pytest.fixture
def parts() -> Iterator[str]:
    register("test/Parts-v0", entry_point=Parts)
    yield "test/Parts-v0"
    del registry["test/Parts-v0"]


@pytest.fixture
def vectorized() -> Iterator[Callable[..., VectorEnv[Any, Any, Any]]]:
    """Steps environments side by side, as training does, and closes them after the test."""
    made = []

    def vectorize(*environments: gymnasium.Env[Any, Any]) -> VectorEnv[Any, Any, Any]:
        made.append(SlotVectorEnv([lambda e=e: e for e in environments], on_failure="stop"))
        return made[-1]

    yield vectorize
    for vector in made:
        vector.close()


@pytest.fixture
def counting(vectorized) -> Callable[..., VectorEnv[Any, Any, Any]]:
    """`neurl/Counting-v0`, one for each list of lengths; episodes of environment i from 100 i."""

    def make(*lengths: Sequence[int], **kwargs: Any) -> VectorEnv[Any, Any, Any]:
        return vectorized(
            *(
                gymnasium.make(
                    "neurl/Counting-v0",
                    disable_env_checker=True,
                    **{"lengths": list(each), "offset": 100 * index, **kwargs},
                )
                for index, each in enumerate(lengths)
            )
        )

    return make


@pytest.fixture
def build(build_run: Callable[..., Any]) -> Callable[..., Any]:
    """Builds what a command line asks for, small: `config, environments, agent, collector`."""
    return lambda *overrides: build_run(small(overrides))


@pytest.fixture(scope="session")
def train(tmp_path_factory, finished_run) -> Callable[..., Any]:
    """Trains a small run in this process and looks at what it left."""

    def train(*overrides: str, directory: Path | None = None) -> Any:
        directory = directory or tmp_path_factory.mktemp("run") / "here"
        config = load([*small(overrides), f"run_dir={directory}"])
        environments = build_environments(config, num_envs=config.env.num_envs)
        score = train_run(config, environments)
        return finished_run(directory, score)

    return train


@pytest.fixture(scope="session")
def go_on(finished_run) -> Callable[..., Any]:
    """Goes on with a run in this process."""

    def go_on(directory: Path, *overrides: str) -> Any:
        config = load([f"resume={directory}", *overrides])
        environments = build_environments(config, num_envs=config.env.num_envs)
        return finished_run(directory, train_run(config, environments))

    return go_on


@pytest.fixture
def kill(monkeypatch) -> Callable[[int], None]:
    """Lets runs die after their n-th iteration; 0 lets them live."""
    after = training.runs.run.Run._after

    def kill(iteration: int) -> None:
        left = [iteration]

        def die(run: Any, result: Any) -> None:
            after(run, result)
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        monkeypatch.setattr(training.runs.run.Run, "_after", die if iteration else after)

    return kill


@pytest.fixture(scope="session")
def small_words() -> Callable[..., list[str]]:
    return lambda *overrides: small(overrides)
