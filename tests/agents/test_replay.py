"""Replay against a log of everything that happened: every window is a stretch of it."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.replay.replay import Replay
from agents.replay.ring import Column
from agents.replay.samplers import PrioritizedSampler, Sampler, UniformSampler
from tests.agents.streams import Stream

SAMPLERS = {
    "uniform": UniformSampler,
    "prioritized": lambda: PrioritizedSampler(priority_exponent=0.6),
}


def make(stream: Stream, *, keeps_state: bool = False, **changed: Any) -> Replay:
    settings: dict[str, Any] = {
        "layout": stream.layout(keeps_state=keeps_state),
        "buffer_size": 10 * stream.num_envs,
        "num_envs": stream.num_envs,
        "window_length": 1,
        "stride": 1,
        "valid_step": 0,
        "state_horizon": 1,
        "sampler": UniformSampler(),
    }
    return Replay(**{**settings, **changed})


def drawable(stream: Stream, length: int, capacity: int) -> set[int]:
    """All windows that there are, `step * B + environment`, by definition."""
    oldest = max(0, stream.begun - capacity)
    return {
        step * stream.num_envs + index
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
    replay = make(stream, window_length=length, sampler=sampler())
    generator = np.random.default_rng(0)
    for _ in range(25):
        replay.add(stream.collect(int(generator.integers(1, 4)))[0], None)
        expected = drawable(stream, length, 10)
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


def states_of(steps: np.ndarray, environments: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([steps, environments], 1)).float()


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("collected", [2, 4, 7])
@pytest.mark.parametrize("length", [1, 5, 8])
def test_sequences_start_where_states_are_kept(
    sampler: type[Sampler], num_envs: int, collected: int, length: int
) -> None:
    stream = Stream(num_envs, seed=length, stride=4, parts=True)
    replay = make(
        stream,
        buffer_size=15 * num_envs,  # 12 steps of each
        window_length=length,
        stride=4,
        valid_step=None,
        state_horizon=8,
        keeps_state=True,
        sampler=sampler(),
    )
    generator = np.random.default_rng(0)
    for _ in range(12):
        assert replay.cursor == stream.begun
        replay.add(*stream.collect(collected))
        oldest = max(0, stream.begun - 12)
        steps = [t for t in range(oldest, stream.begun - length + 1) if t % 4 == 0]
        assert replay.num_windows == len(steps) * num_envs
        if not steps:
            continue
        sample = replay.sample(8 * num_envs, generator, importance_exponent=0.5)
        stream.check(sample.window, sample.starts)
        starts, environments = np.divmod(sample.starts, num_envs)
        assert set(starts.tolist()) <= set(steps)
        assert torch.equal(sample.window.state, states_of(starts, environments))
        assert sample.state_after is not None
        is_known = torch.from_numpy(starts + 8 < stream.begun)
        later = states_of(starts + 8, environments)
        assert torch.equal(sample.state_after[is_known], later[is_known])
        assert sample.state_after[~is_known].isnan().all()
        age = stream.begun * num_envs - sample.starts.mean()
        assert float(sample.age) == pytest.approx(age, rel=1e-6)
    assert set(starts.tolist()) == set(steps)


def test_without_kept_states_windows_have_none() -> None:
    stream = Stream(2)
    replay = make(stream, window_length=4, stride=2, valid_step=None)
    replay.add(stream.collect(8)[0], None)
    sample = replay.sample(5, np.random.default_rng(0), importance_exponent=0.0)
    assert torch.equal(sample.window.state, torch.zeros(5, 0))
    assert sample.state_after is None


def test_a_second_state_lies_on_the_stride_or_is_not_there() -> None:
    stream = Stream(1, stride=2)
    replay = make(
        stream,
        window_length=4,
        stride=2,
        valid_step=None,
        keeps_state=True,
        state_horizon=3,
    )
    replay.add(*stream.collect(8))
    sample = replay.sample(5, np.random.default_rng(0), importance_exponent=0.0)
    assert sample.state_after is None


def test_what_is_added_is_copied() -> None:
    stream = Stream(2, parts=True)
    replay = make(stream)
    trajectory, _ = stream.collect(6)
    replay.add(trajectory, None)
    for tensor in (trajectory.rewards, trajectory.actions, *trajectory.observations.values()):
        tensor.fill_(99)
    for tensor in (trajectory.is_first, trajectory.terminated, trajectory.truncated):
        tensor.fill_(True)
    sample = replay.sample(30, np.random.default_rng(0), importance_exponent=0.0)
    stream.check(sample.window, sample.starts)
    for tensor in (sample.window.rewards, *sample.window.observations.values()):
        tensor.fill_(99)  # nor are windows views of what is stored
    sample = replay.sample(30, np.random.default_rng(0), importance_exponent=0.0)
    stream.check(sample.window, sample.starts)


def test_actions_of_several_numbers_keep_their_shape_and_dtype() -> None:
    for actions in (torch.arange(12).reshape(6, 1, 2), torch.arange(12.0).reshape(6, 1, 2) / 7):
        stream, column = Stream(1, end=0.0), Column(tuple(actions.shape[2:]), actions.numpy().dtype)
        replay = make(stream, layout=replace(stream.layout(), action=column), window_length=2)
        replay.add(replace(stream.collect(6)[0], actions=actions), None)
        sample = replay.sample(9, np.random.default_rng(0), importance_exponent=0.0)
        assert sample.window.actions.dtype == actions.dtype
        for column, start in enumerate(sample.starts):
            assert torch.equal(sample.window.actions[:, column], actions[start : start + 2, 0])


def test_the_same_generator_draws_the_same() -> None:
    stream = Stream(1)
    replay = make(stream)
    replay.add(stream.collect(10)[0], None)
    one, other = (
        replay.sample(20, np.random.default_rng(5), importance_exponent=0.0) for _ in range(2)
    )
    np.testing.assert_array_equal(one.starts, other.starts)


def test_the_smallest_buffer_always_has_a_window() -> None:
    for length, stride in ((1, 1), (3, 1), (1, 4), (5, 4), (8, 4), (9, 4)):
        needed = -(-(length + stride - 1) // stride) * stride
        stream, window = Stream(1), {"window_length": length, "stride": stride, "valid_step": None}
        replay = make(stream, buffer_size=needed, **window)
        replay.add(stream.collect(needed)[0], None)
        for _ in range(9):
            assert replay.num_windows > 0
            replay.add(stream.collect(1)[0], None)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_deep_copy_draws_what_is_added_to_it(sampler) -> None:
    stream = Stream(1, end=0.0)
    original = make(stream, buffer_size=40, sampler=sampler())
    original.add(stream.collect(8)[0], None)
    copied = copy.deepcopy(original)
    copied.add(stream.collect(8)[0], None)
    drawn = copied.sample(200, np.random.default_rng(0), importance_exponent=1.0).starts
    assert copied.num_windows == 16 == len(set(drawn.tolist()))
    assert original.num_windows == 8


def test_fractions_of_a_space_of_integers_are_refused() -> None:
    """A native environment may send another dtype than its space has."""
    stream = Stream(2, seed=0, end=0.1)
    layout = stream.layout(keeps_state=False)
    (name, column), *_ = layout.parts.items()
    bytes_ = replace(layout, parts={name: Column(column.shape, np.dtype(np.uint8))})
    trajectory, _ = stream.collect(3)
    halves = replace(trajectory, observations=trajectory.observations.float() / 2)
    with pytest.raises(ValueError, match=r"^observation: .* dtype uint8, .* sends float32; give"):
        make(stream, layout=bytes_).add(halves, None)
    make(stream, layout=layout).add(trajectory, None)
