"""Replay against a log of everything that happened: every window is a stretch of it."""

from typing import Any

import numpy as np
import pytest

from agents.replay import Replay
from agents.samplers import PrioritizedSampler, Sampler, UniformSampler
from tests.agents.streams import Stream

SAMPLERS = {
    "uniform": UniformSampler,
    "prioritized": lambda: PrioritizedSampler(priority_exponent=0.6),
}


def make(num_envs: int = 1, **changed: Any) -> Replay:
    settings: dict[str, Any] = {
        "buffer_size": 10 * num_envs,
        "num_envs": num_envs,
        "window_length": 1,
        "stride": 1,
        "starts_on_valid_steps": True,
        "state_horizon": 1,
        "frame_stacks": {},
        "keeps_state": False,
        "sampler": UniformSampler(),
    }
    return Replay(**{**settings, **changed})


def drawable(stream: Stream, replay: Replay, length: int, capacity: int, origin: int = 0) -> set:
    """All windows that there are, `step * B + environment`, by definition."""
    oldest = max(0, stream.begun - capacity)
    return {
        (step + origin) * stream.num_envs + index
        for step in range(oldest, stream.begun - length + 1)
        for index in range(stream.num_envs)
        if not stream.log["is_first"][step + 1][index]
    }


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("end", [0.0, 0.3, 1.0], ids=["never ends", "ends", "one step"])
@pytest.mark.parametrize("length", [1, 3])
def test_windows_are_stretches_of_the_log(
    sampler: type[Sampler], num_envs: int, end: float, length: int
) -> None:
    stream = Stream(num_envs, seed=length, end=end)
    replay = make(num_envs, window_length=length, sampler=sampler())
    generator = np.random.default_rng(0)
    for _ in range(25):
        replay.add(stream.collect(int(generator.integers(1, 4)))[0], None)
        expected = drawable(stream, replay, length, 10)
        assert replay.num_windows == len(expected)
        assert replay.num_steps == min(stream.begun, 10) * num_envs
        if not expected:
            continue
        sample = replay.sample(40, generator, importance_exponent=0.5)
        stream.check(sample.window, sample.starts)
        assert set(sample.starts.tolist()) <= expected
        assert sample.window.valid[0].all()
    drawn = [replay.sample(40, generator, importance_exponent=0.0).starts for _ in range(20)]
    assert set(np.concatenate(drawn).tolist()) == expected
