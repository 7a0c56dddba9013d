"""Observations by name: whatever holds of one tensor holds of a dictionary of its parts."""

from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from agents.trajectory import Trajectory
from conf.composing.command_line import load
from networks.inputs import BoxInput
from tests.agents.conftest import defaults_for, has_mirror
from training.building.build import build_agent

WHOLE = spaces.Box(-np.inf, np.inf, (5,))
ACTIONS: list[gymnasium.Space[Any]] = [spaces.Discrete(3), spaces.Box(-1.0, 1.0, (2,))]


class Joined(BoxInput):
    """Reads `camera [2, 1]`, `speed []` and `goal/place [2]` side by side."""

    def __init__(self) -> None:
        super().__init__(WHOLE)

    def forward(self, parts: dict[str, Tensor]) -> Tensor:
        return torch.cat([part.reshape(len(part), -1) for part in named(parts)], dim=1)

    def mirror(self) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
        return lambda parts: np.concatenate(
            [part.reshape(len(part), -1) for part in named(parts)], axis=1
        )


class JoinedInTorch(Joined):
    """Has no numpy form: whoever reads through it acts in PyTorch."""

    mirror = None


def named(parts: dict[str, Any]) -> list[Any]:
    assert list(parts) == ["camera", "speed", "goal/place"]
    return list(parts.values())


def split(rows: Tensor) -> dict[str, Tensor]:
    """The same numbers by name, from any `[..., 5]`."""
    camera, speed, place = rows.split([2, 1, 2], dim=-1)
    return {"camera": camera.unsqueeze(-1), "speed": speed.squeeze(-1), "goal/place": place}


MEMORIES = {
    "none": [],
    "lstm": ["memory=lstm", "memory.sequence_length=4"],
    "shared gru": ["memory=gru", "memory.sequence_length=4", "share_backbone=true"],
}


@cache
def configuration(*words: str) -> DictConfig:
    words = ("extractor=flatten", "normalize_observations=true", *words)
    return load([*defaults_for(words), *words])


@pytest.fixture(params=MEMORIES)
def pair(request) -> Callable[..., list[Agent]]:
    """Builds an agent that reads tensors and its twin that reads the parts."""

    def build(kind: str, inputs: Joined, actions=ACTIONS[0]) -> list[Agent]:
        config = configuration(f"agent={kind}", *MEMORIES[request.param])
        agents = [build_agent(config, WHOLE, actions, num_envs=3) for _ in range(2)]
        for backbone in agents[1].networks.backbones.values():
            backbone.inputs = inputs
        return agents

    return build


def streams(make: Callable[..., Trajectory], agent, seed: int) -> list[Trajectory]:
    """Twelve random steps of three environments, whole and by name."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(13, 3, 5, generator=random)
    size = agent.actor.memory.state_size
    state = torch.rand(3, size, generator=random)
    with torch.no_grad():
        noise = torch.rand(
            12, 3, 3 if agent.policy_head.action_shape == () else 2, generator=random
        )
        actions = agent.policy_head(torch.zeros(12, 3, agent.actor.memory.output_size)).sample(
            noise
        )
    terminated, truncated = (torch.rand(2, 12, 3, generator=random) < 0.1).unbind()
    rewards = torch.randn(12, 3, generator=random)
    made = []
    for observations in (rows, split(rows)):
        stream = make(observations, actions, rewards, terminated=terminated, truncated=truncated)
        made.append(Trajectory(**{**vars(stream), "state": state.clone()}))
    return made


@pytest.mark.parametrize("actions", ACTIONS, ids=["discrete", "box"])
@pytest.mark.parametrize("kind", ["ppo", "a2c"])
def test_learning_from_parts_is_learning_from_the_whole(pair, trajectory, kind, actions) -> None:
    agents = pair(kind, Joined(), actions)
    before = agents[0].optimizer.flat.clone()
    for seed in range(3):
        metrics = [
            agent.learn(stream)
            for agent, stream in zip(agents, streams(trajectory, agents[0], seed), strict=True)
        ]
        for tag, value in metrics[0].items():
            torch.testing.assert_close(metrics[1][tag], value, rtol=0, atol=0, msg=tag)
    assert not torch.equal(agents[0].optimizer.flat, before)
    expected, found = (agent.state_dict() for agent in agents)
    assert expected["actor.normalization.count"] > 0
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("inputs", [Joined(), JoinedInTorch()], ids=["numpy", "torch"])
def test_acting_on_parts_is_acting_on_the_whole(pair, inputs) -> None:
    agents = pair("ppo", inputs)
    assert has_mirror(agents[1]) != isinstance(inputs, JoinedInTorch)
    states = [agent.initial_state(3) for agent in agents]
    rows = np.random.default_rng(0).standard_normal((6, 3, 5), np.float32)
    taken = set()
    for step, row in enumerate(rows):
        is_first = np.array([step == 0, step % 3 == 0, step == 4])
        whole, states[0] = agents[0].act(row, states[0], is_first, explore=True)
        named = {name: part.numpy() for name, part in split(torch.from_numpy(row)).items()}
        parts, states[1] = agents[1].act(named, states[1], is_first, explore=True)
        assert np.array_equal(whole, parts)
        torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-6)
        taken.update(whole.tolist())
    assert len(taken) > 1


@pytest.mark.parametrize("pair", ["lstm"], indirect=True)
def test_every_part_is_cut_and_chosen_alike(pair, trajectory) -> None:
    agent = pair("ppo", Joined())[1]
    whole, stream = streams(trajectory, agent, 0)
    steps, after = stream.step_observations, stream.next_observations
    assert torch.equal(Joined()({k: v[-1] for k, v in after.items()}), whole.observations[-1])
    assert {name: part.shape for name, part in steps.items()} == {
        "camera": (12, 3, 2, 1),
        "speed": (12, 3),
        "goal/place": (12, 3, 2),
    }
    chosen = agent.prepare(stream)[0].select(torch.tensor([4, 0]))  # of windows of 4 steps
    assert torch.equal(chosen.observations["speed"][:, 0], whole.observations[4:8, 1, 2])
    assert torch.equal(chosen.observations["goal/place"][:, 1], whole.observations[:4, 0, 3:])
    assert chosen.observations["camera"].shape == (4, 2, 2, 1)


def test_every_part_moves() -> None:
    rows = torch.zeros(3, 2, 5)
    stream = Trajectory(
        observations=split(rows),
        is_first=torch.zeros(3, 2, dtype=torch.bool),
        actions=torch.zeros(2, 2),
        rewards=torch.zeros(2, 2),
        terminated=torch.zeros(2, 2, dtype=torch.bool),
        truncated=torch.zeros(2, 2, dtype=torch.bool),
        state=torch.zeros(2, 1),
    )
    assert stream.to(torch.device("cpu")) is stream
    moved = stream.to(torch.device("meta"))
    assert {part.device.type for part in moved.observations.values()} == {"meta"}
    assert list(moved.observations) == list(stream.observations)
    assert moved.state.device.type == moved.actions.device.type == "meta"
