"""Bytes: what is predicted is what is allocated, and what cannot fit is refused beforehand."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.replay.replay import Replay
from agents.replay.ring import StepLayout, in_words
from agents.replay.samplers import PrioritizedSampler, Sampler, UniformSampler
from agents.trajectory import Trajectory
from networks.heads import CategoricalHead
from networks.observations import map_observations
from tests.building import build

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)
CARTPOLE = spaces.Box(-1, 1, (4,), np.float32)
PARTS = spaces.Dict(
    {"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8), "code": spaces.Discrete(5), "x": CARTPOLE}
)


def make(buffer_size: int, sampler: Sampler, layout: StepLayout, **changed: Any) -> Replay:
    settings: dict[str, Any] = {
        "num_envs": 1,
        "window_length": 1,
        "stride": 1,
        "valid_step": 0,
        "state_horizon": 1,
    }
    return Replay(layout, buffer_size=buffer_size, sampler=sampler, **{**settings, **changed})


def layout_of(space: gymnasium.Space[Any], stacks: dict[str, int], size: int = 0) -> StepLayout:
    layers = {"hidden_sizes": [], "activation": "tanh", "initialization": "default", "gain": 1.0}
    head = build(CategoricalHead, spaces.Discrete(2), 1, **layers)
    return StepLayout.of(space, stacks, head, size)


def empty(space: gymnasium.Space[Any], num_envs: int = 1, size: int = 0) -> Trajectory:
    """One step of zeros."""

    def rows(part: gymnasium.Space[Any]) -> torch.Tensor:
        return torch.from_numpy(np.zeros((2, num_envs, *part.shape), part.dtype))

    step = torch.zeros(1, num_envs)
    return Trajectory(
        observations=map_observations(
            rows, dict(space) if isinstance(space, spaces.Dict) else space
        ),
        is_first=torch.zeros(2, num_envs, dtype=torch.bool),
        actions=step.long(),
        rewards=step,
        terminated=step.bool(),
        truncated=step.bool(),
        state=torch.zeros(num_envs, size),
    )


@pytest.mark.parametrize("space", [CARTPOLE, PARTS, ATARI], ids=["vector", "parts", "stacks"])
@pytest.mark.parametrize("sampler", [UniformSampler(), PrioritizedSampler(priority_exponent=1.0)])
@pytest.mark.parametrize("keeps_state", [False, True])
def test_predicted_are_the_bytes_that_are_allocated(
    space: gymnasium.Space[Any], sampler: Sampler, keeps_state: bool
) -> None:
    layout = layout_of(space, {"": 4} if space is ATARI else {}, 7 * keeps_state)
    replay = make(12_000, sampler, layout, num_envs=2, stride=4)
    replay.add(empty(space, 2, 7), torch.zeros(1, 2, 7) if keeps_state else None)
    assert replay._ring is not None
    tables = [sampler._drawable] if isinstance(sampler, UniformSampler) else sampler._tree._levels
    allocated = replay._ring.allocated_bytes + sum(table.nbytes for table in tables)
    assert replay.predicted_bytes == pytest.approx(allocated, rel=0.01)


@pytest.mark.parametrize("sampler", [UniformSampler(), PrioritizedSampler(priority_exponent=1.0)])
def test_a_transition_takes_its_observation_its_action_and_its_scalars(sampler: Sampler) -> None:
    scalars = 4 + 3  # reward and three flags
    for space, observation in ((CARTPOLE, 16), (PARTS, 192 + 8 + 16)):
        predicted = make(100_000, sampler, layout_of(space, {})).predicted_bytes
        assert predicted / 100_000 <= 1.05 * (observation + 8 + scalars)
    predicted = make(1_000_000, sampler, layout_of(ATARI, {"": 4})).predicted_bytes
    assert predicted / 1_000_000 <= 1.002 * (84 * 84 + 8 + scalars)
    assert predicted < 8e9


def test_float64_is_stored_as_it_is_collected() -> None:
    layout = layout_of(spaces.Box(-1, 1, (3,), np.float64), {})
    assert layout.parts[""].dtype == np.float32


def test_what_does_not_fit_is_refused_with_what_does() -> None:
    space = spaces.Box(0, 255, (4, 512, 512), np.uint8)
    layout = layout_of(space, {"": 4})
    replay = make(1_000_000, UniformSampler(), layout)
    with pytest.raises(ValueError, match=r"takes 262 GB .*8 GB of memory are free") as refusal:
        replay.refuse_too_large(available=8 * 10**9)
    message = str(refusal.value)
    assert "262,156 bytes for each step" in message
    assert message.endswith("use agent.buffer_size=30000 or less")
    assert make(30_000, UniformSampler(), layout).predicted_bytes < 8e9
    replay.refuse_too_large(available=3 * 10**11)
    replay.refuse_too_large(available=None)
    assert replay._ring is None  # nothing was allocated
    with pytest.raises(ValueError, match=r"takes 1\.05 TB"):
        make(1_000_000, UniformSampler(), layout_of(space, {})).refuse_too_large(available=10**9)


def test_sizes_are_written_in_words() -> None:
    assert [in_words(size) for size in (0, 999, 2_500, 7_070_000_000, 2 * 10**12, 3 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "2.5 kB",
        "7.07 GB",
        "2 TB",
        "3 PB",
    ]


def test_memory_is_taken_as_it_is_written() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    replay = make(100_000, UniformSampler(), layout_of(ATARI, {"": 4}))  # 0.7 GB
    replay.add(empty(ATARI), None)
    assert resident() - before < 64 * 2**20
