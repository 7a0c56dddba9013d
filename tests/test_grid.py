"""Every pair of choices meets once: it trains, is saved, and comes back acting the same."""

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import register, registry

import neurl
from conf.compose import load
from training.environments import build_environments
from training.refusal import Refusal
from training.session import train_run

CHOICES: dict[str, list[str]] = {
    "agent": ["ppo", "a2c"],
    "extractor": ["flatten", "mlp", "dict", "cnn", "nature_cnn", "impala_cnn"],
    "memory": ["none", "rnn", "gru", "lstm"],
    "share_backbone": ["false", "true"],
    "actions": ["discrete", "box", "choices", "bits"],
    "observations": [
        "box", "discrete", "choices", "bits", "parts", "nested", "camera",
        "image hwc", "image chw", "codes grid", "stack",
    ],
    "value_head": ["mse", "huber", "two_hot", "hl_gauss"],
    "normalize_observations": ["false", "true"],
    "normalize_rewards": ["false", "true"],
    "optimizer": ["adam", "adamw", "rmsprop", "rmsprop_tf", "sgd"],
    "vectors": ["plain", "previous inputs"],
}  # fmt: skip
VECTOR, CODE = spaces.Box(-2, 2, (3,)), spaces.Discrete(5, start=1)
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": VECTOR,
    "discrete": CODE,
    "choices": spaces.MultiDiscrete([2, 3], start=[0, -1]),
    "bits": spaces.MultiBinary((2, 2)),
    "parts": spaces.Dict([("type", VECTOR), ("code", CODE)]),
    "nested": spaces.Tuple(
        [spaces.Box(-9, 9, (2, 2), np.float64), spaces.Dict(code=CODE, bits=spaces.MultiBinary(2))]
    ),
}
WITH_PARTS = ("parts", "nested", "camera")
IMAGES = ("image hwc", "image chw", "codes grid", "stack")
IMAGE_EXTRACTORS = ("cnn", "nature_cnn", "impala_cnn")
ACTIONS = {
    "discrete": spaces.Discrete(3, start=-1),
    "box": spaces.Box(np.float32([[-3, 0]]), np.float32([[1, np.inf]])),
    "choices": spaces.MultiDiscrete([[2, 3, 2]], start=[[1, 0, -5]]),
    "bits": spaces.MultiBinary((2, 2)),
}
Combination = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def space_of(observations: str, size: int) -> spaces.Space[Any]:
    """Images have so many pixels per side."""
    images: dict[str, spaces.Space[Any]] = {
        "image hwc": spaces.Box(0, 255, (size, size, 3), np.uint8),
        "image chw": spaces.Box(0, 1, (2, size, size)),
        "codes grid": spaces.MultiDiscrete(np.full((size, size, 2), [3, 2])),
        "stack": spaces.Box(0, 255, (size, size), np.uint8),
    }
    images["camera"] = spaces.Dict([("camera", images["image hwc"]), ("speed", VECTOR)])
    return images[observations] if observations in images else OBSERVATIONS[observations]


def is_legal(combination: Combination) -> bool:
    """Parts are there or not; one image is read as such, beside other inputs it is a part.

    A choice that is not made yet may still be the right one.
    """
    extractor, observations, vectors = (
        combination.get(name) for name in ("extractor", "observations", "vectors")
    )
    if extractor in IMAGE_EXTRACTORS:
        return observations in (None, *IMAGES) and vectors in (None, "plain")
    if extractor == "dict" and observations in IMAGES:
        return vectors in (None, "previous inputs")
    return extractor != "dict" or observations in (None, *WITH_PARTS)


def pairs(combination: Combination) -> set[Pair]:
    return set(itertools.combinations(sorted(combination.items()), 2))


def all_pairs() -> set[Pair]:
    return {
        ((one, first), (other, second))
        for one, other in itertools.combinations(sorted(CHOICES), 2)
        for first in CHOICES[one]
        for second in CHOICES[other]
        if is_legal({one: first, other: second})
    }


def pairwise() -> Iterator[Combination]:
    """Combinations in which every two options of two choices meet, few but not the fewest."""
    missing = all_pairs()
    while missing:
        (one, first), (other, second) = min(missing)
        combination = {one: first, other: second}
        for name in (name for name in CHOICES if name not in combination):
            combination[name] = max(
                (each for each in CHOICES[name] if is_legal({**combination, name: each})),
                key=lambda option, name=name: len(pairs({**combination, name: option}) & missing),
            )
        missing -= pairs(combination)
        yield combination


COMBINATIONS = list(pairwise())


class Anything(gymnasium.Env):
    """Random observations, rewards and ends, in the spaces asked for."""

    def __init__(self, *, observations: str, actions: str, size: int = 6) -> None:
        self.observation_space = copy.deepcopy(space_of(observations, size))
        self.action_space = ACTIONS[actions]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        reward, ended, cut = self.np_random.normal(), *(self.np_random.random(2) < 0.15)
        return self.observation_space.sample(), float(reward), bool(ended), bool(cut), {}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    register("test/Anything-v0", entry_point=Anything, disable_env_checker=True)
    yield
    del registry["test/Anything-v0"]


def words(combination: Combination) -> list[str]:
    chosen = dict(combination)
    sizes = {
        "extractor.hidden_sizes": "[6]" if chosen["extractor"] != "flatten" else None,
        "extractor.default.hidden_sizes": "[5]" if chosen["extractor"] == "dict" else None,
        "extractor.filters": "[2,3]" if chosen["extractor"] in ("cnn", "impala_cnn") else None,
        "env.frame_stack": "3" if chosen["observations"] == "stack" else None,
        "+env.kwargs.size": "36" if chosen["extractor"] == "nature_cnn" else None,
        "memory.hidden_size": "4" if chosen["memory"] != "none" else None,
        "env.previous_action": str(chosen["vectors"] == "previous inputs").lower(),
        "env.previous_reward": str(chosen.pop("vectors") == "previous inputs").lower(),
        "+env.kwargs.observations": chosen.pop("observations"),
        "+env.kwargs.actions": chosen.pop("actions"),
        "policy_head.gain": "1.0",
        "agent.num_minibatches": "2" if chosen["agent"] == "ppo" else None,
        "agent.num_epochs": "1" if chosen["agent"] == "ppo" else None,
    }
    given = {**chosen, **sizes}
    camera = []
    if combination["extractor"] == "dict" and combination["observations"] == "camera":
        camera = ["+extractor@extractor.keys.camera=cnn", "extractor.keys.camera.filters=[2]"]
    return [f"{name}={value}" for name, value in given.items() if value is not None] + camera


RUN = [
    "device=cpu",
    "num_threads=1",
    "env.id=test/Anything-v0",
    "env.num_envs=2",
    "agent.rollout_length=8",
    "total_env_steps=16",
    "evaluation.num_envs=2",
    "evaluation.final_episodes=2",
    "tracking=none",
]


def test_all_pairs_are_among_the_combinations() -> None:
    met = set().union(*(pairs(combination) for combination in COMBINATIONS))
    assert met == all_pairs()
    assert len(COMBINATIONS) < 70


@pytest.mark.parametrize(
    "observations", [name for name in CHOICES["observations"] if name not in WITH_PARTS]
)
def test_what_has_no_parts_is_not_read_part_by_part(observations: str, tmp_path: Path) -> None:
    words = [f"+env.kwargs.observations={observations}", "+env.kwargs.actions=discrete"]
    config = load([*RUN, *words, "extractor=dict", f"run_dir={tmp_path}"])
    with pytest.raises(Refusal, match=r"^extractor: networks\.composite\.DictExtractor reads Dict"):
        train_run(config, build_environments(config, num_envs=2))


@pytest.mark.parametrize(
    "observations", [name for name in CHOICES["observations"] if name not in IMAGES]
)
@pytest.mark.parametrize("extractor", IMAGE_EXTRACTORS)
def test_what_is_no_image_is_not_read_as_one(
    extractor: str, observations: str, tmp_path: Path
) -> None:
    words = [f"+env.kwargs.observations={observations}", "+env.kwargs.actions=discrete"]
    config = load([*RUN, *words, f"extractor={extractor}", f"run_dir={tmp_path}"])
    reason = "reads images, and this observation has the parts .*=cnn$"
    if observations not in WITH_PARTS:
        reason = "(no image|images of 2x2 pixels, .*); use extractor=mlp$"
    with pytest.raises(Refusal, match=rf"^extractor: .*{reason}"):
        train_run(config, build_environments(config, num_envs=2))


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda each: "-".join(each.values()))
def test_combination_trains_and_comes_back(combination: Combination, tmp_path: Path) -> None:
    config = load([*RUN, *words(combination), f"run_dir={tmp_path}"])
    train_run(config, build_environments(config, num_envs=2))
    first, second = neurl.load(tmp_path), neurl.load(tmp_path)
    environments = first.environments(num_envs=3)
    observations, _ = environments.reset(seed=0)
    for step in range(6):
        actions = first.predict(observations, deterministic=step % 2 == 0)
        np.testing.assert_array_equal(
            actions, second.predict(observations, deterministic=step % 2 == 0)
        )
        assert environments.action_space.contains(actions)
        observations, *_ = environments.step(actions)
        mask = np.array([step == 2, False, step == 3])
        first.reset(mask)
        second.reset(mask)
    environments.close()
