"""Runs on images: they learn, go on bit for bit, and do not depend on where environments live."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gymnasium.envs.registration import register, registry

import training.runs.run

ID = "test/Camera-v0"
RUN = [
    f"env.id={ID}",
    "extractor=cnn",
    "extractor.filters=[4]",
    "extractor.hidden_sizes=[16]",
    "total_env_steps=160",
    "tracking.interval=1",
    "evaluation.interval=80",
]
PARTS = [
    "+env.kwargs.shows=parts",
    "extractor=dict",
    "+extractor@extractor.keys.camera=impala_cnn",
    "extractor.keys.camera.filters=[3]",
]
CASES = {
    "image": RUN,
    "stack of images": [*RUN, "env.frame_stack=2", "memory=lstm", "memory.hidden_size=4"],
    "codes": [*RUN, "+env.kwargs.shows=codes"],
    "parts": [word for word in RUN if not word.startswith("extractor")] + PARTS,
}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    register(ID, entry_point="tests.training.cameras:Camera")
    yield
    del registry[ID]


def assert_same(run: Any, expected: Any) -> None:
    weights, others = run.weights("last"), expected.weights("last")
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], tensor) for key, tensor in others.items())
    assert run.summary["evaluation"] == expected.summary["evaluation"]


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("case", ["stack of images", "parts"])
def test_a_run_that_died_goes_on_as_if_it_had_not(
    case: str, train, go_on, monkeypatch, tmp_path
) -> None:
    expected = train(*CASES[case])
    after, left = training.runs.run.Run._after, [3]

    def die(run: Any, result: Any) -> None:
        after(run, result)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(training.runs.run.Run, "_after", die)
        with pytest.raises(Killed):
            train(*CASES[case], "checkpoint.interval=32", directory=tmp_path / "run")
    assert_same(go_on(tmp_path / "run"), expected)


@pytest.mark.parametrize("case", ["stack of images", "parts"])
def test_images_from_other_processes_are_the_same(case: str, train) -> None:
    assert_same(train(*CASES[case], "env.vectorization=async"), train(*CASES[case]))


LEARNING = [
    "env.num_envs=8",
    "agent.num_epochs=4",
    "agent.num_minibatches=4",
    "optimizer.learning_rate=0.01",
    "total_env_steps=2000",
    "evaluation.interval=0",
    "evaluation.final_episodes=20",
    "share_backbone=true",
]


@pytest.mark.parametrize("case", ["image", "codes"])
def test_what_an_image_shows_is_learned(case: str, train) -> None:
    words = [word for word in CASES[case] if word.partition("=")[0] not in ("total_env_steps",)]
    words = [word for word in words if "evaluation" not in word]
    assert train(*words, *LEARNING).summary["evaluation"]["return_mean"] > 4.5
