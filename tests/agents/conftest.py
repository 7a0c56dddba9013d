"""Agents, environments and trajectories in few words."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from torch import Tensor, nn

from agents.a2c import A2C
from agents.learning.actor_critic import ActorCritic
from agents.learning.on_policy import Preparation
from agents.learning.optimizer import Group, Optimizer
from agents.learning.parts import AuxiliaryLosses
from agents.learning.schedules import schedule
from agents.learning.sequences import Batch
from agents.learning.update_rules import Adam
from agents.ppo import PPO
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.extractors.mlp import Flatten
from networks.heads.policy import make_policy_head
from networks.heads.values import MSEValueHead, StateLayers
from networks.inputs import make_input
from networks.memory.memories import CellMemory, Memory
from networks.normalization import NoNormalization, NoRewardScaling

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
OF_PPO_ALONE = (*OF_EPOCHS, "clip_range", "value_clip_range", "target_kl")


def defaults_for(overrides: Sequence[str]) -> list[str]:
    """The defaults that the overrides leave alone and the parts that they choose can take."""
    given = dict(word.split("=", 1) for word in overrides)
    defaults = dict(word.split("=", 1) for word in SMALL)
    if given.get("agent", "ppo") not in ("ppo", "pqn"):
        defaults = {k: v for k, v in defaults.items() if k.split(".")[-1] not in OF_EPOCHS}
    if given.get("agent") == "dqn":
        del defaults["agent.rollout_length"]
        defaults |= dict(word.split("=", 1) for word in SMALL_DQN)
    if given.get("extractor", "mlp") != "mlp":
        del defaults["extractor.hidden_sizes"]
    if given.get("memory", "none") != "none":
        defaults["memory.hidden_size"] = "5"
    if "env.id" not in given:
        defaults["env.time_limit"] = "7"
    return [f"{key}={value}" for key, value in defaults.items() if key not in given]


@pytest.fixture
def build(build_run: Callable[..., Any]) -> Callable[..., Any]:
    """Builds what a command line asks for, small: `config, environments, agent, collector`.

    CartPole of at most 7 steps, so that episodes begin and end within every rollout.
    """
    return lambda *overrides: build_run([*defaults_for(overrides), *overrides])


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


def build_around(
    kind: type[PPO] | type[A2C],
    memories: Sequence[Memory],
    inputs: nn.Module,
    action_space: gymnasium.Space[Any],
    **changes: Any,
) -> PPO | A2C:
    """Builds an agent around memories (one: shared; two: actor's and critic's), without layers."""
    normalization = changes.pop("normalization", NoNormalization())
    backbones = [
        Backbone(
            inputs=inputs,
            normalization=normalization,
            extractor=(extractor := Flatten(inputs.shape)),
            feature_size=extractor.output_size,
            memory=memory,
            frozen_until=0.0,
            half_precision=False,
        )
        for memory in memories
    ]
    layers: dict[str, Any] = {
        "hidden_sizes": [],
        "activation": "tanh",
        "initialization": "orthogonal",
        "gain": 0.1,
    }
    torch.manual_seed(0)
    networks = ActorCritic(
        backbones[0],
        backbones[-1],
        make_policy_head(action_space, memories[0].output_size, **layers, initial_log_std=0.0),
        MSEValueHead(partial(StateLayers, memories[-1].output_size, **layers)),
        AuxiliaryLosses({}, {}),
    )
    of_the_returns: dict[str, Any] = {
        "reward_scaling": NoRewardScaling(),
        "num_envs": 3,
        "sequence_length": 4,
        "discount": 0.9,
        "gae_lambda": 0.8,
    }
    of_the_returns |= {key: changes.pop(key) for key in of_the_returns.keys() & changes.keys()}
    options: dict[str, Any] = {
        "networks": networks,
        "preparation": Preparation(networks, **of_the_returns),
        "optimizer": lambda parts: Optimizer(
            parts,
            rule=lambda parameters, decay: Adam(
                parameters, betas=(0.9, 0.999), eps=1e-5, weight_decay=decay, decoupled=False
            ),
            default=Group(schedule("constant", 1e-3, 0.0), weight_decay=0.0, frozen_until=0),
            groups={},
            routes={},
            max_grad_norm=0.5,
        ),
        "generator": np.random.default_rng(0),
        "num_epochs": 2,
        "num_minibatches": 3,
        "clip_range": schedule("constant", 0.2, 0.0),
        "value_clip_range": None,
        "value_coefficient": 0.5,
        "entropy_coefficient": schedule("constant", 0.0, 0.0),
        "normalize_advantages": True,
        "target_kl": None,
        "compile": False,
    }
    if kind is not PPO:
        options = {key: value for key, value in options.items() if key not in OF_PPO_ALONE}
    return kind(**{**options, **changes})


def build_ppo(
    memories: Sequence[Memory],
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    **changes: Any,
) -> PPO:
    """Builds PPO around given memories, for what its environments emit."""
    return build_around(PPO, memories, make_input(observation_space), action_space, **changes)


def prepared(agent: PPO | A2C, trajectory: Trajectory) -> Batch:
    """The batch that the agent learns from, as it prepares it."""
    return agent.preparation(trajectory)


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
    """Stands in for an agent's gradient step and keeps its arguments and results."""

    def __init__(self, agent: PPO) -> None:
        self.calls: list[Any] = []
        self._step = agent._gradient_step
        agent._gradient_step = self

    def __call__(
        self, batch, sequences, active, pace, auxiliary_weights, clip_range, entropy_coefficient
    ):
        result = self._step(
            batch, sequences, active, pace, auxiliary_weights, clip_range, entropy_coefficient
        )
        self.calls.append(
            SimpleNamespace(
                batch=batch,
                sequences=sequences,
                learning_rate=pace.rates[0].item(),
                clip_range=clip_range.item(),
                entropy_coefficient=entropy_coefficient.item(),
                counted=bool(result[0][-2]),
            )
        )
        return result


@pytest.fixture
def counting_memory() -> type[CountingMemory]:
    return CountingMemory


@pytest.fixture(name="build_ppo")
def build_ppo_fixture() -> Callable[..., PPO]:
    return build_ppo


@pytest.fixture(name="build_around")
def build_around_fixture() -> Callable[..., PPO | A2C]:
    return build_around


@pytest.fixture(name="prepared")
def prepared_fixture() -> Callable[..., Batch]:
    return prepared


@pytest.fixture(params=["terminated", "truncated", "both"])
def counting(request) -> Iterator[SyncVectorEnv]:
    environments = counting_environments(request.param)
    yield environments
    environments.close()


@pytest.fixture
def trajectory() -> Callable[..., Trajectory]:
    return make_trajectory


@pytest.fixture
def spy_on_steps() -> Callable[[PPO], StepSpy]:
    return StepSpy
