"""Agents, environments and trajectories in few words."""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from torch import Tensor

from agents.trajectory import Trajectory
from networks.memory.memories import CellMemory
from networks.mirror import Array
from networks.observations import map_observations

SMALL = [
    "device=cpu",
    "env.num_envs=3",
    "extractor.hidden_sizes=[8]",
    "agent.rollout_length=12",
    "agent.num_minibatches=3",
    "agent.num_epochs=2",
]


SMALL_DQN = [
    "agent.buffer_size=600",
    "agent.batch_size=8",
    "agent.learning_starts=24",
]
OF_EPOCHS = ("num_epochs", "num_minibatches")
CRITICS_OF_ACTIONS = ("ddpg", "td3", "sac")
SMALL_HEADS = [
    "env.id=Pendulum-v1",
    "env.time_limit=7",
    "agent.replay_ratio=0.25",
    "policy_head.hidden_sizes=[8]",
    "value_head.hidden_sizes=[8]",
]


def defaults_for(overrides: Sequence[str]) -> list[str]:
    """The defaults that the overrides leave alone and the parts that they choose can take."""
    given = dict(word.split("=", 1) for word in overrides)
    defaults = dict(word.split("=", 1) for word in SMALL)
    if given.get("agent", "ppo") not in ("ppo", "pqn"):
        defaults = {k: v for k, v in defaults.items() if k.split(".")[-1] not in OF_EPOCHS}
    kind = given.get("agent", "ppo")
    if kind in ("dqn", *CRITICS_OF_ACTIONS):
        del defaults["agent.rollout_length"]
        defaults |= dict(word.split("=", 1) for word in SMALL_DQN)
    if kind in CRITICS_OF_ACTIONS:
        defaults |= dict(word.split("=", 1) for word in SMALL_HEADS)
    if given.get("extractor", "flatten" if kind in CRITICS_OF_ACTIONS else "mlp") != "mlp":
        del defaults["extractor.hidden_sizes"]
    if given.get("memory", "none") != "none":
        defaults["memory.hidden_size"] = "5"
    if "env.id" not in given:
        defaults["env.time_limit"] = "7"
    elif kind in CRITICS_OF_ACTIONS:
        del defaults["env.time_limit"]
    return [f"{key}={value}" for key, value in defaults.items() if key not in given]


@pytest.fixture
def build(build_run: Callable[..., Any]) -> Callable[..., Any]:
    """Builds what a command line asks for, small: `config, environments, agent, collector`.

    CartPole of at most 7 steps, so that episodes begin and end within every rollout. Of words for
    one key the last counts.
    """

    def build(*overrides: str, **given: Any) -> SimpleNamespace:
        words = {word.partition("=")[0]: word for word in overrides}
        return build_run([*defaults_for(overrides), *words.values()], **given)

    return build


class CountingMemory(CellMemory):
    """Counts the steps of the episode, appends the count, and notes where it disagrees.

    It reads `[episode, step]` of `neurl/Counting-v0`: its count before a step is that step's number
    exactly if no state was lost, shifted, mixed up or carried over an episode's start.
    """

    state_size = 1

    def __init__(self, input_size: int = 2) -> None:
        super().__init__()
        self.output_size = input_size + 1
        self.steps = 0
        self.disagreements: list[tuple[float, float]] = []

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        for count, shown in zip(state[:, 0].tolist(), inputs[:, 1].tolist(), strict=True):
            self.steps += 1
            if count != shown:
                self.disagreements.append((count, shown))
        return torch.cat([inputs, state], dim=-1), state + 1


class Forgetful(CellMemory):
    """Hands on what it reads; its state is empty of meaning, and cleared at each step."""

    state_size = 1

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, torch.zeros_like(state)


FORGETFUL = ["memory._target_=tests.agents.conftest.Forgetful", "trusted_packages=[tests]"]
COUNTING = [
    "extractor=flatten",
    "memory._target_=tests.agents.conftest.CountingMemory",
    "trusted_packages=[tests]",
    "env.id=neurl/Counting-v0",
]
"""Words for an agent whose memory, or memories, count; without layers before them."""


def counting_environments(ending: str) -> SyncVectorEnv:
    """Environments that count, out of step with each other; episodes of one step among them."""
    lengths = ([3, 5, 2], [1, 4], [1, 1, 9])

    def make(index: int) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(
            "neurl/Counting-v0",
            lengths=lengths[index],
            ending=ending,
            offset=100 * index,
            disable_env_checker=True,
        )

    return SyncVectorEnv([lambda index=index: make(index) for index in range(len(lengths))])


def make_trajectory(
    observations: Tensor,
    actions: Tensor,
    rewards: Tensor,
    *,
    terminated: Tensor | None = None,
    truncated: Tensor | None = None,
    state_size: int = 0,
) -> Trajectory:
    """A stream that opens with first observations; resets follow from the ends."""
    nothing = torch.zeros(rewards.shape, dtype=torch.bool)
    terminated = nothing if terminated is None else terminated
    truncated = nothing if truncated is None else truncated
    opening = torch.ones(1, rewards.shape[1], dtype=torch.bool)
    return Trajectory(
        observations=observations,
        is_first=torch.cat([opening, nothing[:1], (terminated | truncated)[:-1]]),
        actions=actions,
        rewards=rewards,
        terminated=terminated,
        truncated=truncated,
        state=torch.zeros(rewards.shape[1], state_size),
    )


class StepSpy:
    """Stands in for an agent's gradient step, takes it, and keeps what goes in and comes out.

    Args:
        before: called with the step's arguments before each.
    """

    def __init__(self, agent: Any, before: Callable[..., object] | None = None) -> None:
        self.calls: list[Any] = []
        self.agent, self.step, self.before = agent, agent.gradient_step, before
        agent.gradient_step = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)

    def __call__(self, *inputs: Any, **scheduled: Tensor) -> Any:
        if self.before is not None:
            self.before(*inputs, **scheduled)
        pace = self.agent.optimizer.pace(self.agent.progress, self.agent.env_steps)
        result = self.step(*inputs, **scheduled)
        self.calls.append(
            SimpleNamespace(
                inputs=inputs,
                scheduled=scheduled,
                **{name: value.item() for name, value in scheduled.items()},
                learning_rate=pace.rates[0].item(),
                counted=bool(result.taken),
                result=result,
            )
        )
        return result


@torch.no_grad()
def act_in_torch(
    agent: Any, observations: Any, state: Array, is_first: Array, *, explore: bool
) -> tuple[Array, Array]:
    """Choose actions as `Agent.act` does, without a numpy form of anything."""
    noise = agent.policy_head.noise(agent.generator, len(is_first)) if explore else None
    stream = map_observations(lambda part: torch.from_numpy(part)[None], observations)
    with torch.no_grad():
        first = torch.from_numpy(is_first)[None]
        summary, after = agent.actor(stream, torch.from_numpy(state), first)
        policy = agent.policy_head(summary[0])
        noisy = None if noise is None else torch.from_numpy(noise)
        actions = policy.mode() if noisy is None else policy.sample(noisy)
    return actions.numpy(), after.numpy()


def has_mirror(agent: Any) -> bool:
    """Whether all of what acts has a numpy form."""
    return agent.actor.mirror() is not None and agent.policy_head.mirror() is not None


NO_NOISE = (None, None, None)


def targets_of(agent: Any, window: Trajectory, noise: Any = NO_NOISE) -> Tensor:
    """What DQN's values of windows are fitted to, as its losses make it."""
    head, kept = agent.networks.value_head, []
    target = head.target

    def note(*arguments: Any) -> Tensor:
        kept.append(target(*arguments))
        return kept[0]

    head.target = note
    agent.losses(window, None, noise)
    del head.target
    (found,) = kept
    return found


def gradients_of(agent: Any, result: Any) -> list[Tensor]:
    """Gradients of a step before clipping, one for each of `optimizer.trainable`."""
    parameters = agent.optimizer.trainable
    parts = result.gradients.split([parameter.numel() for parameter in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]


@pytest.fixture(params=["terminated", "truncated", "both"])
def counting(request) -> Iterator[SyncVectorEnv]:
    environments = counting_environments(request.param)
    yield environments
    environments.close()


@pytest.fixture
def trajectory() -> Callable[..., Trajectory]:
    return make_trajectory


@pytest.fixture
def spy_on_steps() -> type[StepSpy]:
    return StepSpy
