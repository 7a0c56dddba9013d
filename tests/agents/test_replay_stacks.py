"""Stacks of frames, of which only the newest frame is stored: rebuilt they are what was emitted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.replay.replay import Replay
from agents.replay.samplers import PrioritizedSampler, UniformSampler
from tests.agents.streams import Stream

NAMES = {False: "", True: "camera"}


def make(stream: Stream, **changed: Any) -> Replay:
    settings: dict[str, Any] = {
        "layout": stream.layout(),
        "buffer_size": 22,
        "num_envs": stream.num_envs,
        "window_length": 1,
        "stride": 1,
        "valid_step": 0,
        "state_horizon": 1,
        "sampler": UniformSampler(),
    }
    return Replay(**{**settings, **changed})


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize(
    ("size", "length", "stride"), [(2, 1, 1), (4, 1, 1), (4, 3, 1), (5, 5, 4), (2, 5, 4)]
)
@pytest.mark.parametrize(
    ("end", "lives"), [(0.0, 0.0), (0.2, 0.0), (1.0, 0.0), (0.1, 0.2), (0.0, 0.5)]
)
def test_stacks_are_rebuilt_as_they_were_emitted(
    parts: bool, size: int, length: int, stride: int, end: float, lives: float
) -> None:
    stream = Stream(2, seed=size, end=end, lives=lives, size=size, parts=parts)
    replay = make(
        stream,
        window_length=length,
        stride=stride,
        valid_step=0 if stride == 1 else None,
        sampler=PrioritizedSampler(priority_exponent=0.5) if parts else UniformSampler(),
    )
    origin = replay.cursor
    assert origin % stride == 0
    generator = np.random.default_rng(0)
    capacity = 11 // stride * stride
    for _ in range(16):
        replay.add(stream.collect(int(generator.integers(1, 5)))[0], None)
        assert replay.num_steps == min(stream.begun, capacity) * 2
        if replay.num_windows:
            sample = replay.sample(30, generator, importance_exponent=0.0)
            stream.check(sample.window, sample.starts, origin=origin)
            # The oldest step of all that are held is drawn, its stack whole.
            oldest = max(0, stream.begun - capacity) + origin
            assert sample.starts.min() >= oldest * 2
    frames = replay._ring.frames[NAMES[parts]]
    assert frames.shape[2:] == (3,)  # one frame each


def test_a_stream_may_begin_in_the_middle_of_an_episode() -> None:
    stream = Stream(2, end=0.0, size=4)
    stream.collect(9)
    first = stream.begun
    replay = make(stream)
    replay.add(stream.collect(5)[0], None)
    sample = replay.sample(60, np.random.default_rng(0), importance_exponent=0.0)
    stream.check(sample.window, sample.starts, origin=replay.cursor - 5 - first)


def test_numbers_that_are_not_finite_are_frames_too() -> None:
    stream = Stream(1, end=0.0, size=3)
    trajectory = stream.collect(8)[0]
    stacks = trajectory.observations.float()
    stacks[stacks == 4] = torch.nan
    layout = stream.layout()
    floats = replace(layout, parts={"": replace(layout.parts[""], dtype=np.dtype(np.float32))})
    replay = make(stream, layout=floats)
    pieces = [(0, 3), (3, 8)]
    for first, end in pieces:
        replay.add(
            type(trajectory)(
                stacks[first : end + 1],
                trajectory.is_first[first : end + 1],
                *(getattr(trajectory, name)[first:end] for name in ("actions", "rewards")),
                *(getattr(trajectory, name)[first:end] for name in ("terminated", "truncated")),
                trajectory.state,
            ),
            None,
        )
    sample = replay.sample(40, np.random.default_rng(0), importance_exponent=0.0)
    expected = stacks[sample.starts - 2, 0]
    torch.testing.assert_close(
        sample.window.observations[0], expected, equal_nan=True, rtol=0, atol=0
    )
