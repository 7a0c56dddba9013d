"""Frames: each observation once, none of a step that resets; who collects; what is held out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import training.pretraining.frames
from conf.schema.heads import GaussianHeadOptions
from envs.seeding import environment_seeds
from networks.heads.policy import policy_head_class
from training.pretraining.frames import (
    Stretches,
    bytes_per_frame,
    collect_frames,
    hold_out,
    load_recording,
    observations_of,
    refuse_too_many,
    save_recording,
)
from training.pretraining.players import UniformPlayer
from training.stream.collect import Collector
from training.stream.episodes import Abandoned

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


def collect(environments: Any, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the observations and the stretches."""
    collector = Collector(environments, rollout_length=4, seeds=[1, 2])
    player = uniform(environments.single_action_space)
    found = collect_frames(player, collector, count=count, watch=lambda filled: None)
    assert collector.env_steps >= count
    return observations_of(found), found["stretches"]


def test_each_step_s_observation_is_there_once_and_no_reset_s(counting) -> None:
    """`Counting` observes episode and step; of an episode of n steps, 0 to n - 1 are acted on."""
    lengths = ([3, 1, 4], [2, 5])
    observations, _ = collect(counting(*lengths), 60)
    rows = [tuple(map(int, row)) for row in observations.tolist()]
    assert len(rows) == len(set(rows)) == 60
    seen: dict[int, list[int]] = {}
    for episode, step in rows:
        seen.setdefault(episode, []).append(step)
    for episode, steps in seen.items():
        of_one = lengths[episode // 100]
        length = of_one[(episode % 100) % len(of_one)]
        assert steps == list(range(len(steps)))  # in order, from the first
        assert len(steps) <= length  # the final observation is never acted on


def test_no_stretch_links_two_episodes(counting) -> None:
    observations, stretches = collect(counting([3, 7, 4], [2, 5]), 200)
    episodes = observations[:, 0]
    for number in stretches.unique():
        assert len(episodes[stretches == number].unique()) == 1
    # stretches are of 200 / 64 steps at most, rounded up
    assert int(stretches.bincount().max()) == 4


def test_long_episodes_are_cut_into_stretches() -> None:
    is_first = torch.zeros(7, 2, dtype=torch.bool)
    is_first[0] = is_first[5, 1] = True
    stretches = Stretches(2, 3)
    first, second = stretches.number(is_first[:4]), stretches.number(is_first[4:])
    numbers = torch.cat([first, second])
    assert numbers[:, 0].tolist() == [0, 0, 0, 2, 2, 2, 5]
    assert numbers[:, 1].tolist() == [1, 1, 1, 3, 3, 4, 4]


def test_dtype_is_the_environment_s(vectorized) -> None:
    import gymnasium

    class Picture(gymnasium.Env[Any, Any]):
        observation_space = spaces.Box(0, 255, (4, 4, 1), np.uint8)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.full((4, 4, 1), 200, np.uint8), {}

        def step(self, action):
            return np.full((4, 4, 1), 100, np.uint8), 0.0, False, False, {}

    observations, _ = collect(vectorized(Picture(), Picture()), 8)
    assert observations.dtype == torch.uint8
    assert observations.shape == (8, 4, 4, 1)
    assert bytes_per_frame(Picture.observation_space) == 16


def test_collecting_can_be_given_up(counting) -> None:
    environments = counting([3], [3])
    collector = Collector(environments, rollout_length=4, seeds=[1, 2])
    collector.should_abandon = lambda: collector.env_steps > 20
    player = uniform(environments.single_action_space)
    with pytest.raises(Abandoned):
        collect_frames(player, collector, count=1000, watch=lambda filled: None)


def test_seeds_are_apart_from_training_and_evaluation() -> None:
    purposes = ["train", "evaluation", "pretraining", "resume", "film"]
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


# ---- what is held out


def test_whole_stretches_are_held_out() -> None:
    stretches = torch.arange(40).repeat_interleave(5)
    learnt, held = hold_out(stretches, 0.2, seed=1)
    assert sorted([*learnt.tolist(), *held.tolist()]) == list(range(200))
    assert len(held) == 40
    assert not set(stretches[learnt].tolist()) & set(stretches[held].tolist())
    assert hold_out(stretches, 0.2, seed=1)[1].tolist() == held.tolist()
    assert hold_out(stretches, 0.2, seed=2)[1].tolist() != held.tolist()


@pytest.mark.parametrize("share", [1e-6, 0.9, 0.999])
def test_neither_side_is_ever_empty(share: float) -> None:
    learnt, held = hold_out(torch.arange(3), share, seed=0)
    assert len(learnt) and len(held)


def test_one_stretch_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="too few frames"):
        hold_out(torch.zeros(9, dtype=torch.int64), 0.1, seed=0)


# ---- memory and disk


def test_more_than_half_of_the_memory_is_refused(monkeypatch) -> None:
    space = spaces.Dict(
        {"image": spaces.Box(0, 255, (84, 84, 4), np.uint8), "x": spaces.Box(-1, 1, (2,))}
    )
    assert bytes_per_frame(space) == 84 * 84 * 4 + 8
    monkeypatch.setattr(training.pretraining.frames, "free_memory", lambda: 10**9)
    refuse_too_many("extractor.pretrain.frames", space, 17_000)
    with pytest.raises(ValueError, match=r"^extractor\.pretrain\.frames: 1,000,000 ") as caught:
        refuse_too_many("extractor.pretrain.frames", space, 10**6)
    assert "at most 17,710 fit" in str(caught.value)
    monkeypatch.setattr(training.pretraining.frames, "free_memory", lambda: None)
    refuse_too_many("extractor.pretrain.frames", space, 10**12)


@pytest.fixture
def recorded(tmp_path, monkeypatch) -> Callable[..., Any]:
    tensors = {
        "observations.a": torch.arange(60, dtype=torch.uint8).view(20, 3),
        "actions": torch.arange(19),
    }
    monkeypatch.setattr(training.pretraining.frames, "_PIECE", 50)
    save_recording(tmp_path / "frames", tensors, env_steps=7)
    return tmp_path / "frames", tensors


def test_a_recording_comes_back_piece_by_piece(recorded) -> None:
    directory, tensors = recorded
    assert len(list(directory.glob("chunk-*"))) > 2
    found, env_steps = load_recording(directory)
    assert env_steps == 7
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_damaged_recording_is_none(recorded) -> None:
    directory, _ = recorded
    path = sorted(directory.glob("chunk-*"))[-1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert load_recording(directory) is None
    path.unlink()
    assert load_recording(directory) is None
    assert load_recording(directory / "nowhere") is None
