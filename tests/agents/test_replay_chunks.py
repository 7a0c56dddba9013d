"""The replay in pieces: what was saved need not be saved again, and all goes on exactly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.replay.replay import Replay, Sample
from agents.replay.ring import Column, StepLayout
from agents.replay.samplers import PrioritizedSampler, UniformSampler
from tests.agents.streams import Stream


class Disk:
    """Keeps pieces by name, and reads only those it does not have."""

    def __init__(self) -> None:
        self.pieces: dict[str, dict[str, Tensor]] = {}
        self.read: list[str] = []
        self.saved: tuple[Any, ...] = ()

    def save(self, replay: Replay) -> None:
        chunks = replay.chunks()
        self.read = [name for name in chunks if name not in self.pieces]
        # What is new is written; nothing else is kept.
        known = {name: self.pieces[name] for name in chunks if name in self.pieces}
        self.pieces = known | {name: chunks[name]() for name in self.read}
        tensors, state = replay.state_dict()
        self.saved = ({name: each.clone() for name, each in tensors.items()}, state)

    def load(self, replay: Replay, order: Callable[[Any], Any] = sorted) -> None:
        replay.load(*self.saved, {name: self.pieces[name] for name in order(self.pieces)})


def make(kind: str) -> tuple[Callable[[], Replay], Stream]:
    """A replay of each kind, and a stream for it."""
    stacks = {"camera": 3} if "stacks" in kind else {}
    is_recurrent = "sequences" in kind
    stride = {"sequences": 4, "sequences of stacks": 2}.get(kind, 1)

    size = 3 if stacks else 0
    stream = Stream(2, end=0.1, lives=0.1, stride=stride, size=size, parts=bool(stacks))

    def build() -> Replay:
        return Replay(
            stream.layout(keeps_state=is_recurrent),
            buffer_size=2 * (520 if stride == 2 else 130),
            num_envs=2,
            window_length=6 if is_recurrent else 2,
            stride=stride,
            valid_step=None if is_recurrent else 0,
            state_horizon=4,
            sampler=UniformSampler()
            if kind == "uniform"
            else PrioritizedSampler(priority_exponent=0.5),
        )

    return build, stream


def equal(one: Sample, other: Sample) -> bool:
    def tensors(sample: Sample) -> list[Tensor]:
        window = sample.window
        parts = window.observations
        return [
            *(parts.values() if isinstance(parts, dict) else [parts]),
            window.is_first,
            window.actions,
            window.rewards,
            window.terminated,
            window.truncated,
            window.state,
            *([] if sample.weights is None else [sample.weights]),
            sample.age,
            torch.from_numpy(sample.starts),
            *([] if sample.state_after is None else [sample.state_after.nan_to_num(-1)]),
        ]

    return all(torch.equal(*pair) for pair in zip(tensors(one), tensors(other), strict=True))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def learn(replay: Replay, generator: np.random.Generator) -> Sample | None:
    if not replay.num_windows:
        return None
    sample = replay.sample(16, generator, importance_exponent=0.5)
    priorities = torch.from_numpy(generator.random(16, dtype=np.float32) * 3)
    replay.update(sample.starts, priorities)
    return sample


@pytest.mark.parametrize(
    "kind", ["uniform", "prioritized", "sequences", "stacks", "sequences of stacks"]
)
def test_a_loaded_replay_goes_on_exactly(kind: str) -> None:
    build, stream = make(kind)
    replay, disk = build(), Disk()
    draw = np.random.default_rng(0)
    lengths = np.random.default_rng(1)
    is_long = kind == "sequences of stacks"
    for index in range(80 if is_long else 55):  # wraps
        if index % 7 == 0:
            disk.save(replay)
            loaded = build()
            # However a directory lists them.
            disk.load(loaded, sorted if index % 2 else list)
            again = np.random.default_rng(0)
            again.bit_generator.state = draw.bit_generator.state
            assert loaded.num_windows == replay.num_windows
            assert loaded.cursor == replay.cursor
            second = Disk()
            second.save(loaded)
            assert list(second.pieces) == list(replay.chunks())
            for name, read in replay.chunks().items():
                assert same(second.pieces[name], read()), name
        steps = int(lengths.integers(1, 9)) * 2 if is_long else int(lengths.integers(1, 10))
        stream.restart(lengths.random(2) < 0.2)
        stream.fail(lengths.random(2) < 0.2)
        trajectory = stream.collect(steps)
        for each in (replay, loaded):
            each.add(*trajectory)
        for _ in range(2):
            one, other = learn(replay, draw), learn(loaded, again)
            assert (one is None) == (other is None)
            assert one is None or equal(one, other)
        if one is not None:
            stream.check(one.window, one.starts, origin=2 if "stacks" in kind else 0)
    assert stream.begun > (520 if is_long else 260)


@pytest.mark.parametrize("kind", ["sequences", "stacks"])
def test_complete_pieces_never_change_and_are_read_once(kind: str) -> None:
    build, stream = make(kind)
    replay, disk = build(), Disk()
    complete: dict[str, dict[str, Tensor]] = {}
    counts = []
    generator = np.random.default_rng(0)
    for _ in range(110):
        stream.restart(generator.random(2) < 0.2)
        stream.fail(generator.random(2) < 0.2)
        replay.add(*stream.collect(int(generator.integers(1, 6))))
        disk.save(replay)
        for name in disk.read:
            if name.startswith("steps-"):
                assert name not in complete
                complete[name] = disk.pieces[name]
        for name, read in replay.chunks().items():
            if name.startswith("steps-") and generator.random() < 0.2:
                now, before = read(), complete[name]
                for key in set(now) - {"row"}:  # but for rows that were overwritten
                    rows = len(now[key])
                    assert torch.equal(now[key], before[key][len(before[key]) - rows :])
        counts.append(len(disk.read))
        assert len(replay.chunks()) < 80
    assert len(complete) > 70
    assert np.mean(counts) < 5


def test_the_tree_of_a_loaded_replay_is_the_same_bit_for_bit() -> None:
    build, stream = make("prioritized")
    replay, disk = build(), Disk()
    generator = np.random.default_rng(0)
    for _ in range(60):
        replay.add(*stream.collect(4))
        learn(replay, generator)
    disk.save(replay)
    loaded = build()
    disk.load(loaded)
    trees = [each._sampler._tree for each in (replay, loaded)]
    for level, other in zip(*(tree._levels for tree in trees), strict=True):
        np.testing.assert_array_equal(level, other)
    assert replay._sampler._largest == loaded._sampler._largest > 1


def test_an_empty_replay_is_loaded_as_one() -> None:
    build, stream = make("uniform")
    disk, replay = Disk(), build()
    disk.save(replay)
    assert not disk.pieces
    loaded = build()
    disk.load(loaded)
    loaded.add(*stream.collect(5))
    assert loaded.num_steps == 10


def test_missing_pieces_are_told() -> None:
    build, stream = make("uniform")
    replay, disk = build(), Disk()
    replay.add(*stream.collect(50))
    disk.save(replay)
    name = next(iter(disk.pieces))
    del disk.pieces[name]
    with pytest.raises(ValueError, match="2 of the replay's 51 rows are missing"):
        disk.load(build())
    disk.pieces.clear()
    with pytest.raises(ValueError, match="are missing"):
        disk.load(build())


def test_what_is_not_there_yet_is_saved_as_nothing() -> None:
    build, stream = make("stacks")
    replay = build()
    replay.add(*stream.collect(9))
    *_, newest = replay.chunks().values()
    for name in ("rewards", "actions", "terminated", "truncated"):
        assert not newest()[name][-1].any()
    first = next(iter(replay.chunks().values()))()
    assert not any(first[name][0].any() for name in ("rewards", "is_first", "observations.vector"))


def test_states_are_saved_from_the_first_step_on() -> None:
    build, stream = make("sequences of stacks")
    replay = build()
    trajectory, states = stream.collect(30)
    replay.add(trajectory, states)
    saved = [read().get("states", states[:0]) for read in replay.chunks().values()]
    assert torch.equal(torch.cat(saved), states)


def test_records_are_packed_alike_whatever_the_order_of_the_parts() -> None:
    """Gradients from other strides end in other bits: a resumed run would not be the same."""
    parts = {
        "velocity": Column((2,), np.dtype(np.float32)),
        "code": Column((), np.dtype(np.int64)),
        "bits": Column((3,), np.dtype(np.int8)),
    }
    action = Column((), np.dtype(np.int32))
    backwards = dict(reversed(parts.items()))
    assert StepLayout(parts, {}, action, 0).record == StepLayout(backwards, {}, action, 0).record
