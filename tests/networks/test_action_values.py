"""Layers of action values, dueling and noisy or not, under every head that can be over them."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from networks.heads.action_values import ActionLayers
from networks.heads.distributional import C51ValueHead, QuantileValueHead
from networks.heads.histograms import HLGaussValueHead, TwoHotValueHead
from networks.heads.values import (
    HuberValueHead,
    MSEValueHead,
    Rescaling,
    StateLayers,
    ValueHead,
)
from tests.building import build

ACTIONS, BINS = 3, 11
LAYERS: dict[str, Any] = {"activation": "tanh", "initialization": "orthogonal", "gain": 1.0}
HEADS: dict[str, Any] = {
    "mse": MSEValueHead,
    "huber": partial(build, HuberValueHead, delta=1.0),
    "two_hot": partial(build, TwoHotValueHead, bins=BINS, support="auto", symlog=False),
    "symlog": partial(build, TwoHotValueHead, bins=BINS, support="auto", symlog=True),
    "hl_gauss": partial(build, HLGaussValueHead, bins=BINS, support="auto", sigma=0.75),
    "c51": partial(build, C51ValueHead, bins=BINS, support="auto"),
    "quantile": partial(build, QuantileValueHead, quantiles=4, kappa=1.0),
}
WITH_A_SUPPORT = ("two_hot", "symlog", "hl_gauss", "c51")
VARIANTS = [
    pytest.param(dueling, noisy, hidden, id=f"dueling={dueling}-noisy={noisy}-{hidden}")
    for dueling in (False, True)
    for noisy in (False, True)
    for hidden in ([], [7])
]
EVERY_VARIANT = pytest.mark.parametrize(("dueling", "noisy", "hidden"), VARIANTS)
EVERY_HEAD = pytest.mark.parametrize("kind", HEADS)


def layers(dueling: bool, noisy: bool, hidden: list[int], **changes: Any) -> Any:
    options = {**LAYERS, "hidden_sizes": hidden, **changes}
    options |= {"num_actions": ACTIONS, "dueling": dueling, "noisy": noisy, "noisy_sigma": 0.5}
    return partial(build, ActionLayers, 5, **options)


def head(kind: str, *variant: Any, **changes: Any) -> ValueHead:
    torch.manual_seed(0)
    made: ValueHead = HEADS[kind](layers(*variant, **changes))
    with torch.no_grad():  # biases too, as training leaves them
        for layer in (each for each in made.modules() if isinstance(each, nn.Linear)):
            layer.bias.normal_(0, 0.3)
    return made


def noise_for(made: ValueHead, *rows: int) -> torch.Tensor:
    return torch.randn(*rows, made.noise_size, generator=torch.Generator().manual_seed(5))


@EVERY_VARIANT
@EVERY_HEAD
def test_rows_of_any_leading_shape_are_the_same_rows(kind, dueling, noisy, hidden) -> None:
    made, summary = head(kind, dueling, noisy, hidden), torch.randn(4, 2, 5)
    noise = noise_for(made, 4, 2)
    output = made(summary, noise)
    width = made.layers.output_shape[1:]
    assert output.shape == (4, 2, ACTIONS, *width)
    assert made.value(output).shape == (4, 2, ACTIONS)
    torch.testing.assert_close(output[2], made(summary[2], noise[2]))
    assert (made.noise_size > 0) == noisy
    assert torch.equal(made(summary, noise), made(summary)) == (not noisy)


@EVERY_VARIANT
@EVERY_HEAD
def test_mirror_agrees(kind, dueling, noisy, hidden) -> None:
    made = head(kind, dueling, noisy, hidden)
    made.observe(torch.tensor([1.0]), torch.tensor([True]))
    mirror, summary = made.mirror(), torch.randn(20, 5)
    assert mirror is not None
    made.observe(torch.tensor([3.0]), torch.tensor([True]))  # which the mirror sees
    noise = noise_for(made, 20)
    with torch.no_grad():
        for given in (noise, None):
            array = None if given is None else given.numpy()
            found = torch.from_numpy(mirror(summary.numpy(), array))
            expected = made.value(made(summary, given))
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("kind", ["mse", "two_hot"])
def test_without_a_numpy_form_there_is_no_mirror(kind: str) -> None:
    for variant in ((False, False), (True, True)):
        assert head(kind, *variant, [7], activation="gelu").mirror() is None


@pytest.mark.parametrize("noisy", [False, True])
def test_dueling_streams_have_layers_and_noise_of_their_own(noisy: bool) -> None:
    made = layers(True, noisy, [7])(BINS)
    names = {name.split(".")[0] for name, _ in made.named_parameters()}
    assert names == {"actions", "state"}
    summary, noise = torch.randn(6, 5), torch.randn(6, made.noise_size)
    found, cut = made(summary, noise), made.actions.noise_size
    action = made.actions(summary, noise[:, :cut]).view(6, ACTIONS, BINS)
    state = made.state(summary, noise[:, cut:])
    for number in range(ACTIONS):
        mean = (action[:, 0] + action[:, 1] + action[:, 2]) / 3
        torch.testing.assert_close(found[:, number], state + action[:, number] - mean)


def test_dueling_values_of_actions_have_the_states_as_mean() -> None:
    made = layers(True, False, [7])(BINS)
    summary = torch.randn(4, 2, 5)
    advantages = made(summary, None) - made.state(summary, None)[..., None, :]
    torch.testing.assert_close(advantages.mean(-2), torch.zeros(4, 2, BINS), rtol=0, atol=1e-6)
    assert advantages.abs().mean() > 0.1


@EVERY_VARIANT
@pytest.mark.parametrize("kind", ["two_hot", "c51"])
def test_growing_a_support_keeps_the_values_of_actions(kind, dueling, noisy, hidden) -> None:
    made, summary = head(kind, dueling, noisy, hidden, gain=0.3), torch.randn(30, 5)
    made.observe(torch.tensor([4.0]), torch.tensor([True]))
    with torch.no_grad():
        before = made.value(made(summary))
        made.observe(torch.tensor([9.0]), torch.tensor([True]))
        after = made.value(made(summary))
    assert made.support.limits.tolist() == [-16.0, 16.0]
    assert before.std() > 0.3  # there is something to keep
    # Half of a new bin, 3.2 wide; a projection that adds up the streams' biases is off by several.
    assert (after - before).abs().max() < 1.6
    assert (after - before).mean().abs() < 0.2


@EVERY_VARIANT
def test_projection_is_that_of_each_row_of_numbers(dueling, noisy, hidden) -> None:
    made, summary = layers(dueling, noisy, hidden)(4), torch.randn(6, 5)
    weights, bias = torch.rand(4, 4).softmax(-1), torch.randn(4)
    with torch.no_grad():
        before = made(summary, None)
        made.project(weights, bias)
        torch.testing.assert_close(made(summary, None), before @ weights.T + bias)


def test_one_action_without_duel_is_a_state() -> None:
    """The same layers, drawn in the same order."""
    torch.manual_seed(0)
    state = build(StateLayers, 5, BINS, hidden_sizes=[7], **LAYERS)
    torch.manual_seed(0)
    options = {"dueling": False, "noisy": False, "noisy_sigma": 0.0}
    actions = build(ActionLayers, 5, BINS, num_actions=1, hidden_sizes=[7], **options, **LAYERS)
    summary = torch.randn(3, 5)
    assert torch.equal(actions(summary, None)[:, 0], state(summary, None))


# Targets and errors


@pytest.mark.parametrize("scale", [None, Rescaling(eps=1e-2)], ids=str)
@pytest.mark.parametrize("kind", ["mse", "huber", "two_hot", "symlog", "hl_gauss"])
def test_a_target_is_the_reward_and_what_is_left_of_the_value_after(kind, scale) -> None:
    made = head(kind, False, False, [])
    rewards, discounts = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.9, 0.0, 0.5])
    with torch.no_grad():
        later = made(torch.randn(3, 5))[:, 0]
        values = made.value(later)
    found = made.target(rewards, discounts, later, scale)
    forward = scale or (lambda value: value)
    after = values if scale is None else scale.inverse(values)
    torch.testing.assert_close(found, forward(rewards + discounts * after))
    torch.testing.assert_close(found[1], forward(torch.tensor(-2.0)))  # the end: the reward alone


@pytest.mark.parametrize("kind", HEADS)
def test_an_error_is_never_negative_and_zero_where_the_target_is_met(kind) -> None:
    made = head(kind, False, False, [])
    with torch.no_grad():
        outputs = made(torch.randn(2, 7, 5))[..., 0, :] if not made.is_scalar else torch.randn(2, 7)
        nothing, everything = torch.zeros(2, 7), torch.ones(2, 7)
        met = made.target(nothing, everything, outputs, None)
        missed = made.target(everything / 3, everything, outputs, None)
    torch.testing.assert_close(made.error(outputs, met), nothing, rtol=0, atol=2e-6)
    error = made.error(outputs, missed)
    assert error.shape == (2, 7)
    assert error.min() > 1e-4
    if kind != "c51":
        torch.testing.assert_close(error, everything / 3)
    assert made.loss(outputs, missed).shape == (2, 7)


@pytest.mark.parametrize("kind", HEADS)
def test_only_learnt_supports_must_see_targets(kind) -> None:
    made = head(kind, False, False, [])
    assert made.learns_support == (kind in WITH_A_SUPPORT)
    assert made.fits_returns == (kind not in ("c51", "quantile"))


@pytest.mark.slow
def test_steps_of_every_head_compile_whole() -> None:
    """In a process of its own: the annotations that tests execute cannot be traced."""
    script = Path(__file__).with_name("compiled_values.py")
    root = script.parents[2]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
