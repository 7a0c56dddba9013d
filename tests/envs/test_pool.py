"""EnvPool's environments, where the extra is installed."""

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from conf.checking.refusals import InvalidConfiguration
from conf.composing.configuration import load
from training.building.environments import build_environments

pytest.importorskip("envpool")
pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered")


def make(*words: str, num_envs: int = 3) -> Any:
    config = load(["env=envpool", *words])
    return build_environments(config, num_envs=num_envs)


def played(environments: Any, seeds: list[int], steps: int) -> list[np.ndarray]:
    """Observations, rewards and flags of a reset and some steps."""
    observations, _ = environments.reset(seed=seeds)
    found = [observations]
    for step in range(steps):
        actions = np.full(environments.num_envs, step % 2)
        found += environments.step(actions)[:4]
    return found


def test_seeds_decide_and_each_environment_has_its_own() -> None:
    environments = make()
    one = played(environments, [3, 4, 5], 60)
    assert all(map(np.array_equal, one, played(environments, [3, 4, 5], 60)))
    other = played(environments, [3, 9, 5], 60)
    assert np.array_equal(one[0][0], other[0][0])
    assert not np.array_equal(one[0][1], other[0][1])
    environments.close()


def test_the_step_after_an_end_only_resets() -> None:
    environments = make("env.time_limit=4")
    assert environments.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    environments.reset(seed=[0, 1, 2])
    ends = [environments.step(np.arange(3) % 2) for _ in range(6)]
    assert [each[3].any() for each in ends] == [False, False, False, True, False, False]
    assert not ends[4][1].any()
    assert np.abs(ends[4][0]).max() <= 0.05  # CartPole's first observations
    environments.close()


def test_the_first_frame_of_an_episode_fills_its_stack() -> None:
    """As replay rebuilds it, which keeps the newest frame alone."""
    environments = make("env.id=envpool/Pong-v5", "env.frame_stack=4", "env.time_limit=3")
    first, _ = environments.reset(seed=[0, 1, 2])
    for _ in range(3):
        environments.step(np.zeros(3, np.int64))
    for stacks in (first, environments.step(np.zeros(3, np.int64))[0]):
        assert np.array_equal(stacks, np.broadcast_to(stacks[:, -1:], stacks.shape))
        assert stacks.any()
    environments.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+env.kwargs.options.frameskip=2"], "CartPole-v1 has no frameskip"),
        (["env.frame_stack=4"], "env.frame_stack=4: CartPole-v1 stacks no frames"),
        (["pomdp=mask_velocity"], "not possible with env.vectorization=native"),
        (["env.vectorization=sync"], "it has a vector form alone"),
        (["+env.kwargs.options.batch_size=2"], "CartPole-v1 has no batch_size"),
        (["env.kwargs.num_threads=-1"], "env.kwargs.num_threads=-1: expected at least 0"),
    ],
)
def test_what_a_pool_cannot_do_is_refused(words: list[str], message: str) -> None:
    with pytest.raises((ValueError, InvalidConfiguration), match=message):
        make(*words)
