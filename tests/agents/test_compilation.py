"""A compiled gradient step learns the same weights, and no later rollout compiles anything anew."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compiled_learning.py")
ROOT = SCRIPT.parents[2]


def difference(*arguments: str) -> float:
    result = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    return float(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_steps_traced_around_a_memory_learn_the_same_weights() -> None:
    """Tracing, gradients inside the graph, updates in place: all but the generated code."""
    assert difference("lstm", "aot_eager", "ppo value_head=hl_gauss,a2c", "named") < 1e-5
    assert difference("gru", "aot_eager", "pqn value_head=two_hot") < 1e-5


@pytest.mark.slow
def test_steps_traced_of_images_and_auxiliary_losses_learn_the_same_weights() -> None:
    """The generated code rounds float32 alike (1e-7), bfloat16 in other places (1e-2)."""
    images = "env.id=test/Camera-v0 extractor=cnn extractor.filters=[4] extractor.hidden_sizes=[16]"
    agents = (
        f"ppo {images} auxiliary=reconstruction,a2c {images} auxiliary=vae precision=bf16 "
        "share_backbone=true"
    )
    assert difference("none", "aot_eager", agents) < 1e-6


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("", marks=pytest.mark.slow)])
def test_step_compiled_whole_learns_the_same_weights(backend: str) -> None:
    assert difference("none", backend) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_agents_of_one_process_are_compiled_apart(memory: str) -> None:
    others = "ppo agent.value_coefficient=5,ppo share_backbone=true agent.entropy_coefficient=0.1"
    assert difference(memory, "aot_eager", f"ppo,{others}") < 1e-5


@pytest.mark.slow
def test_step_with_a_histogram_of_values_compiled_whole_learns_the_same_weights() -> None:
    """A head of zeros begins with gradients that Adam scales up, rounding with them."""
    assert difference("none", "", "ppo value_head=hl_gauss,ppo value_head=two_hot") < 1e-4


@pytest.mark.slow
def test_step_on_action_values_compiled_whole_learns_the_same_weights() -> None:
    words = "extractor.normalization=layer agent.dueling=true optimizer=radam"
    assert difference("none", "", f"pqn {words}") < 1e-5
