"""Recordings: each step once, windows of them; who collects; what is held out."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import training.pretraining.recording
from agents.replay.ring import StepLayout
from conf.schema.heads import GaussianHeadOptions
from envs.seeding import environment_seeds
from networks.heads.policy import policy_head_class
from training.pretraining.pretraining import UniformPlayer
from training.pretraining.recording import Recording, refuse_too_many
from training.saving.checkpoint import open_checkpoint, save_checkpoint
from training.stream.collect import Collector

HEAD = GaussianHeadOptions(
    hidden_sizes=[],
    activation="tanh",
    initialization="orthogonal",
    gain=0.01,
    initial_log_std=0.0,
)


def uniform(space: Any, seed: int = 0) -> UniformPlayer:
    head = policy_head_class(None, space)(space, 1, HEAD)
    return UniformPlayer(head, np.random.default_rng(seed))


def record(environments: Any, steps: int, rollout_length: int = 4) -> Recording:
    collector = Collector(environments, rollout_length=rollout_length, seeds=[1, 2])
    player = uniform(environments.single_action_space)
    trajectory = collector.collect(player)
    recording = Recording(StepLayout.of(trajectory, {}), num_rows=3 * steps, num_envs=2)
    recording.add(trajectory)
    while collector.env_steps < steps:
        recording.add(collector.collect(player))
    assert int(recording.valid.sum()) == collector.env_steps
    return recording


def split(recording: Recording, length: int = 1, frames: int = 10**6, share: float = 0.2) -> Any:
    return recording.split(length, frames, share, np.random.default_rng(0))


def observed(recording: Recording, numbers: torch.Tensor) -> list[tuple[int, ...]]:
    rows = recording.windows(numbers, 1).step_observations[0]
    return [tuple(map(int, row)) for row in rows.tolist()]


def test_each_step_s_observation_is_there_once_and_no_reset_s(counting) -> None:
    """`Counting` observes episode and step; of an episode of n steps, 0 to n - 1 are acted on."""
    lengths = ([3, 1, 4], [2, 5])
    recording = record(counting(*lengths), 60)
    learnt, held_out = split(recording, frames=60)
    rows = observed(recording, torch.cat([learnt, held_out]).sort().values)
    assert len(rows) == len(set(rows)) == 60
    seen: dict[int, list[int]] = {}
    for episode, step in rows:
        seen.setdefault(episode, []).append(step)
    for episode, steps in seen.items():
        of_one = lengths[episode // 100]
        length = of_one[(episode % 100) % len(of_one)]
        assert steps == list(range(len(steps)))  # in order, from the first
        assert len(steps) <= length  # the final observation is never acted on


def test_windows_are_consecutive_steps_of_one_environment(counting) -> None:
    recording = record(counting([30], [30]), 50)
    window = recording.windows(torch.tensor([0, 1, 5]), 4)
    assert window.actions.shape == (4, 3)
    assert window.step_observations[:, :, 1].T.tolist() == [
        [0, 1, 2, 3], [0, 1, 2, 3], [8, 9, 10, 11]
    ]  # fmt: skip
    environments = window.step_observations[0, :, 0] // 100
    assert environments.tolist() == [0, 1, 1]


@pytest.mark.parametrize(("length", "share"), [(1, 0.2), (4, 0.2), (1, 0.001), (4, 0.9)])
def test_contiguous_stretches_of_one_environment_are_held_out(counting, length, share) -> None:
    recording = record(counting([9, 30], [25]), 400)
    learnt, held_out = split(recording, length, share=share)
    everything = torch.cat([learnt, held_out])
    used = recording.valid.reshape(-1, length, 2).any(1)
    assert sorted(everything.tolist()) == used.reshape(-1).nonzero()[0].tolist()
    stretches = min(64, len(everything))
    assert len(held_out) == pytest.approx(max(1, share * stretches) * len(everything) / stretches,
                                          abs=len(everything) / stretches)  # fmt: skip
    # Environment by environment, a stretch is held out from its first step to its last.
    in_time = torch.cat([everything[everything % 2 == each].sort().values for each in (0, 1)])
    is_held_out = torch.isin(in_time, held_out)
    changes = int((is_held_out[1:] != is_held_out[:-1]).sum())
    assert changes <= 2 * round(max(1, share * stretches))


def test_what_is_held_out_depends_on_the_generator(counting) -> None:
    recording = record(counting([9], [9]), 200)
    assert split(recording)[1].tolist() == split(recording)[1].tolist()
    other = recording.split(1, 200, 0.2, np.random.default_rng(1))[1]
    assert split(recording)[1].tolist() != other.tolist()


@pytest.mark.parametrize("share", [1e-6, 0.9, 0.999])
def test_neither_side_is_ever_empty(counting, share: float) -> None:
    learnt, held_out = split(record(counting([9], [9]), 8), 4, share=share)
    assert len(learnt) and len(held_out)


def test_one_sequence_cannot_be_split(counting) -> None:
    with pytest.raises(ValueError, match="too few frames to hold some out"):
        split(record(counting([9], [9]), 8), 4, frames=1)


class Picture(gymnasium.Env[Any, Any]):
    observation_space = spaces.Box(0, 255, (4, 4, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full((4, 4, 1), 200, np.uint8), {}

    def step(self, action):
        return np.full((4, 4, 1), 100, np.uint8), 0.0, False, False, {}


def test_dtype_is_the_environment_s(vectorized) -> None:
    recording = record(vectorized(Picture(), Picture()), 8)
    observations = recording.windows(torch.arange(8), 1).step_observations
    assert observations.dtype == torch.uint8
    assert observations.shape == (1, 8, 4, 4, 1)


def test_a_recording_comes_back_from_its_chunks(counting, tmp_path) -> None:
    recording = record(counting([3, 7], [5]), 300)
    save_checkpoint(tmp_path, tensors={}, state={}, step=0, chunks=recording.chunks())
    assert len(list(tmp_path.glob("chunk-*"))) > 2
    back = Recording.load(open_checkpoint(tmp_path).chunks, recording.num_steps)
    numbers = torch.arange(recording.num_steps * 2)
    expected, found = recording.windows(numbers, 1), back.windows(numbers, 1)
    for name, tensor in vars(expected).items():
        assert torch.equal(getattr(found, name), tensor), name
    assert [each.tolist() for each in split(back)] == [each.tolist() for each in split(recording)]


def test_seeds_are_apart_from_training_and_evaluation() -> None:
    purposes = ["train", "evaluation", "pretraining", "resume", "video", "probe", "doctor"]
    seeds = [set(environment_seeds(3, 64, purpose=purpose)) for purpose in purposes]
    assert len(set().union(*seeds)) == 64 * len(purposes)


# ---- who acts


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (spaces.Discrete(3, start=5), {5, 6, 7}),
        (spaces.MultiDiscrete([2, 3]), {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)}),
        (spaces.MultiBinary(2), {(0, 0), (0, 1), (1, 0), (1, 1)}),
    ],
)
def test_every_action_is_as_likely(space: Any, values: set[Any]) -> None:
    player, size = uniform(space), 8000
    actions, _ = player.act(np.zeros(0), np.zeros((size, 0)), np.ones(size), explore=True)
    sent = player.policy_head.to_environment(actions)
    rows = [tuple(row.tolist()) if row.ndim else int(row) for row in sent]
    counts = {value: rows.count(value) for value in values}
    assert sum(counts.values()) == size  # and no other one
    expected = size / len(values)
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


def test_bounded_numbers_are_uniform_and_others_normal() -> None:
    low, high = np.array([-3.0, -np.inf]), np.array([5.0, np.inf])
    space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
    player, size = uniform(space), 20_000
    actions, _ = player.act(np.zeros(0), np.zeros((size, 0)), np.ones(size), explore=True)
    sent = player.policy_head.to_environment(actions)
    shares = np.histogram(sent[:, 0], bins=8, range=(-3, 5))[0] / size
    assert np.abs(shares - 1 / 8).max() < 0.015
    assert abs(sent[:, 1].mean()) < 0.05
    assert abs(sent[:, 1].std() - 1) < 0.05


# ---- memory


def test_more_than_half_of_the_memory_is_refused(monkeypatch) -> None:
    image = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    layout = StepLayout.of_spaces(
        image, {}, action_shape=(), action_dtype=torch.int64, state_size=0
    )
    each = layout.step_bytes
    assert 84 * 84 * 4 < each < 84 * 84 * 4 + 32
    monkeypatch.setattr(training.pretraining.recording, "free_memory", lambda: 10**9)
    fitting = 5 * 10**8 // each
    refuse_too_many("extractor.pretrain.frames", fitting, layout)
    with pytest.raises(ValueError, match=r"^extractor\.pretrain\.frames: 1,000,000 ") as caught:
        refuse_too_many("extractor.pretrain.frames", 10**6, layout)
    assert f"at most {fitting:,} fit" in str(caught.value)
    monkeypatch.setattr(training.pretraining.recording, "free_memory", lambda: None)
    refuse_too_many("extractor.pretrain.frames", 10**12, layout)
