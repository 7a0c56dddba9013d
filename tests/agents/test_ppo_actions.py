"""What the policy draws is stored as drawn; what the environment receives lies in its space."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

SPACES = {
    "start": spaces.Discrete(3, start=5),
    "negative_start": spaces.Discrete(2, start=-1),
    "uneven": spaces.Box(np.float32([-3, 0]), np.float32([1, 5])),
    "half_bounded": spaces.Box(np.float32([0, -1]), np.float32([np.inf, 1])),
    "unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "float64": spaces.Box(-0.1, 0.3, (2,), np.float64),
}


class Recorder(gymnasium.Env[Any, Any]):
    """Keeps the actions it receives; episodes of three steps."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space
        self.received: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.received.append(np.array(action))
        self._steps += 1
        return np.zeros(1, np.float32), 1.0, self._steps == 3, False, {}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_environments_receive_the_image_of_what_is_stored(space, build) -> None:
    recorders = [Recorder(space) for _ in range(3)]
    environments = SyncVectorEnv([lambda one=one: one for one in recorders])
    run = build("extractor=flatten", "agent.rollout_length=40", environments=environments)
    agent, trajectory = run.agent, run.collector.collect(run.agent)
    stored, valid = trajectory.actions, trajectory.valid
    for environment, recorder in enumerate(recorders):
        kept = stored[:, environment][valid[:, environment]].numpy()
        received = np.array(recorder.received)
        np.testing.assert_array_equal(agent.policy_head.to_environment(kept), received)
        assert len(np.unique(received)) > 1
    if isinstance(space, spaces.Discrete):
        assert set(stored.unique().tolist()) == set(range(int(space.n)))
    else:
        assert (stored.abs() > 1).any()  # drawn beyond the bounds, and kept so

    batch, _ = agent.prepare(trajectory)
    with torch.no_grad():
        log_probs = agent.policy_head(trajectory.observations[:-1]).log_prob(stored)
    torch.testing.assert_close(batch.old_log_probs.flatten(), log_probs.flatten())
    agent.learn(trajectory)
    environments.close()
