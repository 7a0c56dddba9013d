"""What collectors yield, replayed: windows are what environments emitted, stacks and all."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.replay.replay import Replay
from agents.replay.ring import StepLayout
from agents.replay.samplers import UniformSampler
from envs.vector.base import SlotVectorEnv
from envs.wrappers.frame_stack import FrameStack, frame_stacks
from training.stream.collect import Collector


class Overwriting(gymnasium.Env):
    """Shows `(game, step)` in one array, as long as it lives; loses lives, ends, is cut."""

    observation_space = spaces.Box(0, 255, (2,), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.shown = np.zeros(2, np.uint8)
        self.game = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.game, self.left = self.game + 1, 3
        self.shown[:] = self.game, 0
        return self.shown, {"lives": self.left}

    def step(self, action):
        self.shown[1] += 1
        self.left -= self.np_random.random() < 0.2
        is_cut = self.np_random.random() < 0.05
        return self.shown, 1.0, self.left == 0, bool(is_cut), {"lives": self.left}


def games() -> Any:
    pytest.importorskip("ale_py")
    from envs.games.atari_native import AtariGames

    return AtariGames(
        2,
        "breakout",
        frame_skip=4,
        sticky_actions=0.0,
        max_noops=3,
        fire_on_reset=True,
        all_actions=False,
        size=24,
        num_threads=1,
        max_episode_steps=20,
        frame_stack=4,
    )


def overwriting() -> Any:
    makers = [lambda: FrameStack(Overwriting(), size=3)] * 2
    return SlotVectorEnv(makers, on_failure="stop")


@pytest.mark.parametrize(
    ("make", "life_loss"), [(games, True), (overwriting, False), (overwriting, True)]
)
def test_windows_are_what_environments_emitted(make, life_loss: bool, random_agent: Any) -> None:
    environments = make()
    stacks = frame_stacks(environments.single_observation_space)
    assert stacks == {"": environments.single_observation_space.shape[0]}
    agent = random_agent(environments.single_action_space)
    collector = Collector(environments, rollout_length=9, seeds=[0, 1], life_loss=life_loss)
    layout = StepLayout.of(
        environments.single_observation_space, stacks, agent.policy_head, state_size=0
    )
    replay = Replay(
        layout,
        buffer_size=120,
        num_envs=2,
        window_length=3,
        stride=1,
        valid_step=0,
        state_horizon=1,
        sampler=UniformSampler(),
    )
    origin = replay.cursor
    emitted: list[torch.Tensor] = []
    names = ("actions", "rewards", "terminated", "truncated", "valid")
    log: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    generator = np.random.default_rng(0)
    for _ in range(15):
        trajectory = collector.collect(agent)
        replay.add(trajectory, None)
        emitted = emitted[: len(log["actions"])] + list(trajectory.observations.clone())
        for name in names:
            log[name] += list(getattr(trajectory, name).clone())
        sample = replay.sample(20, generator, importance_exponent=0.0)
        steps, columns = np.divmod(sample.starts, 2)
        for number, (step, column) in enumerate(zip(steps - origin, columns, strict=True)):
            expected = torch.stack(emitted[step : step + 4])[:, column]
            assert torch.equal(sample.window.observations[:, number], expected)
            for name in names:
                expected = torch.stack(log[name][step : step + 3])[:, column]
                assert torch.equal(getattr(sample.window, name)[:, number], expected)
    environments.close()
    ends = torch.stack(log["terminated"]) | torch.stack(log["truncated"])
    assert ends.sum() > 4
