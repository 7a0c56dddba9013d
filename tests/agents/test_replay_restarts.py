"""Environments that begin anew without an end, where one trajectory follows another."""

from typing import Any

import numpy as np
import pytest
import torch

from agents.replay.replay import Replay
from agents.replay.samplers import PrioritizedSampler, UniformSampler
from tests.agents.streams import Stream


@pytest.mark.parametrize("sampler", [UniformSampler(), PrioritizedSampler(priority_exponent=0.5)])
@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_cuts_are_marked_where_the_stream_goes_on(sampler: Any, size: int, length: int) -> None:
    stream = Stream(3, seed=length, end=0.3, size=size)
    replay = Replay(
        stream.layout(),
        buffer_size=36,
        num_envs=3,
        window_length=length,
        stride=1,
        valid_step=0,
        state_horizon=1,
        sampler=sampler,
    )
    origin = replay.cursor
    generator = np.random.default_rng(0)
    drawn = np.zeros(0, np.int64)
    for _ in range(60):
        if generator.random() < 0.5:
            stream.restart(generator.random(3) < 0.5)
        if generator.random() < 0.5:
            stream.fail(generator.random(3) < 0.5)
        replay.add(stream.collect(int(generator.integers(1, 4)))[0], None)
        # What was drawn before a restart is updated after it.
        replay.update(drawn, torch.from_numpy(generator.random(len(drawn), dtype=np.float32)))
        is_first = np.array(stream.log["is_first"])
        ended = np.array(stream.log["terminated"]) | np.array(stream.log["truncated"])
        assert (ended[:-1] | ~is_first[2:]).all()  # the log itself is as it should be
        held = range(max(0, stream.begun - 12), stream.begun - length + 1)
        expected = {
            (step + origin) * 3 + index
            for step in held
            for index in np.flatnonzero(~is_first[step + 1])
        }
        assert replay.num_windows == len(expected)
        if not expected:
            continue
        sample = replay.sample(30, generator, importance_exponent=0.5)
        assert set(sample.starts.tolist()) <= expected
        stream.check(sample.window, sample.starts, origin=origin)
        drawn = sample.starts


def test_the_step_before_a_restart_is_one_that_resets() -> None:
    def begin() -> tuple[Replay, Stream]:
        stream = Stream(1, end=0.0)
        replay = Replay(
            stream.layout(),
            buffer_size=10,
            num_envs=1,
            window_length=5,
            stride=1,
            valid_step=0,
            state_horizon=1,
            sampler=UniformSampler(),
        )
        replay.add(stream.collect(3)[0], None)
        return replay, stream

    def window(replay: Replay) -> Any:
        return replay.sample(1, np.random.default_rng(0), importance_exponent=0.0).window

    replay, stream = begin()
    stream.restart(np.array([True]))  # in the place of where step 2 led
    replay.add(stream.collect(2)[0], None)
    drawn = window(replay)
    assert drawn.valid[:, 0].tolist() == [True, True, False, True, True]
    assert drawn.truncated[:, 0].tolist() == [False, True, False, False, False]
    assert not drawn.terminated.any()

    replay, stream = begin()
    trajectory = stream.collect(2)[0]
    trajectory.is_first[1] = True  # step 3 found a failure, and began anew
    replay.add(trajectory, None)
    drawn = window(replay)
    assert drawn.valid[:, 0].tolist() == [True, True, True, False, True]
    assert drawn.truncated[:, 0].tolist() == [False, False, True, False, False]

    replay, stream = begin()
    replay._ring.fields["terminated"][2] = True  # what it led to was the last of an episode
    stream.restart(np.array([True]))
    replay.add(stream.collect(2)[0], None)
    drawn = window(replay)
    assert drawn.valid[:, 0].tolist() == [True, True, False, True, True]
    assert drawn.truncated[:, 0].tolist() == [False, True, False, False, False]
    assert not drawn.terminated.any()
