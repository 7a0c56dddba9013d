"""Noisy linear layers: against explicit weights, in the mean, and how much noise there is."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from networks.heads.action_values import NoisyLayers, NoisyLinear, squash
from tests.building import build

LAYERS: dict[str, Any] = {"activation": "relu", "initialization": "orthogonal", "gain": 1.0}


def noisy(hidden_sizes: list[int], **changes: Any) -> NoisyLayers:
    torch.manual_seed(0)
    options = {**LAYERS, "hidden_sizes": hidden_sizes, "sigma": 0.5, **changes}
    return build(NoisyLayers, 5, 6, **options)


def with_spreads(layer: NoisyLinear) -> NoisyLinear:
    """Spreads of both signs and all sizes, as training leaves them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for spread in (layer.weight_sigma, layer.bias_sigma, layer.bias):
            spread.normal_(generator=generator)
    return layer


def test_noise_is_squashed_by_hand() -> None:
    assert squash(torch.tensor([-4.0, 0.0, 9.0])).tolist() == [-2.0, 0.0, 3.0]


def test_a_noisy_layer_is_a_layer_with_the_weights_of_the_paper() -> None:
    """w = mu + sigma * f(e_out) f(e_in)^T,  b = mu + sigma * f(e_out), made for each row."""
    layer = with_spreads(NoisyLinear(4, 3, sigma=0.5))
    rows, noise = torch.randn(9, 4), torch.randn(9, 7)
    found = layer(rows, noise)
    for row, given, output in zip(rows, noise, found, strict=True):
        of_inputs, of_outputs = squash(given[:4]), squash(given[4:])
        weight = layer.weight + layer.weight_sigma * torch.outer(of_outputs, of_inputs)
        bias = layer.bias + layer.bias_sigma * of_outputs
        torch.testing.assert_close(output, functional.linear(row, weight, bias))


def test_no_noise_is_the_mean() -> None:
    layer = with_spreads(NoisyLinear(4, 3, sigma=0.5))
    rows = torch.randn(1, 4)
    expected = functional.linear(rows, layer.weight, layer.bias)
    torch.testing.assert_close(layer(rows), expected)
    drawn = layer(rows.expand(200_000, -1), torch.randn(200_000, 7))
    deviations = drawn.std(0) / math.sqrt(200_000)
    assert ((drawn.mean(0) - expected[0]).abs() < 4 * deviations).all()


def test_first_spread_is_the_papers() -> None:
    layer = NoisyLinear(16, 3, sigma=0.5)
    assert layer.weight_sigma.unique().tolist() == [0.125]  # 0.5 / sqrt(16)
    assert layer.bias_sigma.unique().tolist() == [0.125]
    # Of an output: sigma^2 (E f(e_out)^2) (sum_i x_i^2 E f(e_in)^2 + 1), with E |e| = sqrt(2 / pi).
    rows, mean_size = torch.ones(1, 16), math.sqrt(2 / math.pi)
    expected = 0.125**2 * mean_size * (16 * mean_size + 1)
    found = layer(rows.expand(200_000, -1), torch.randn(200_000, 19)).var(0)
    torch.testing.assert_close(found, torch.full((3,), expected), rtol=0.02, atol=0)


def test_means_are_drawn_as_those_of_plain_layers() -> None:
    layers = noisy([8], gain=0.01)
    hidden, output = layers.hidden[0].weight, layers.output.weight
    torch.testing.assert_close(hidden.T @ hidden, 2 * torch.eye(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(output @ output.T, 1e-4 * torch.eye(6), rtol=0, atol=1e-8)
    assert not layers.output.bias.any()


@pytest.mark.parametrize("hidden_sizes", [[], [7], [7, 4]], ids=str)
def test_each_layer_has_its_own_share_of_the_noise(hidden_sizes: list[int]) -> None:
    layers = noisy(hidden_sizes)
    sizes = [5, *hidden_sizes, 6]
    assert layers.noise_size == sum(sizes[:-1]) + sum(sizes[1:])
    summary, noise = torch.randn(3, 4, 5), torch.randn(3, 4, layers.noise_size)
    hidden, start = summary, 0
    for index, layer in enumerate([*layers.hidden, layers.output]):
        stop = start + sizes[index] + sizes[index + 1]
        hidden = layer(hidden, noise[..., start:stop])
        hidden = hidden.relu() if index < len(hidden_sizes) else hidden
        start = stop
    torch.testing.assert_close(layers(summary, noise), hidden)


def test_one_noise_may_serve_all_rows() -> None:
    layers, summary = noisy([7]), torch.randn(4, 3, 5)
    noise = torch.randn(1, layers.noise_size)
    expected = layers(summary, noise.expand(4, 3, -1))
    torch.testing.assert_close(layers(summary, noise), expected)
    torch.testing.assert_close(layers(summary, noise[0]), expected)


def test_noise_passes_gradients_to_means_and_spreads() -> None:
    layers = noisy([7])
    layers(torch.randn(8, 5), torch.randn(8, layers.noise_size)).square().sum().backward()
    for name, parameter in layers.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("hidden_sizes", [[], [7]], ids=str)
def test_mirror_agrees(hidden_sizes: list[int]) -> None:
    layers = noisy(hidden_sizes)
    for layer in (*layers.hidden, layers.output):
        with_spreads(layer)
    mirror = layers.mirror()
    assert mirror is not None
    summary, noise = torch.randn(20, 5), torch.randn(20, layers.noise_size)
    kept = summary.clone()
    with torch.no_grad():
        for given in (noise, None):
            array = None if given is None else given.numpy()
            found = torch.from_numpy(mirror(summary.numpy(), array))
            torch.testing.assert_close(found, layers(summary, given), rtol=2e-6, atol=2e-6)
    assert torch.equal(summary, kept)
    assert noisy(hidden_sizes, activation="gelu").mirror() is None


def test_projection_follows_the_mean_and_keeps_the_spread_of_equals() -> None:
    """Six outputs, two groups of three; new ones mix neighbours by half and half."""
    layers, summary = noisy([]), torch.randn(1, 5)
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    bias = torch.tensor([0.1, 0.2, 0.3])
    noise = torch.randn(200_000, layers.noise_size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        mean = layers(summary, None).view(2, 3)
        drawn = (layers(summary.expand(200_000, -1), noise).view(-1, 2, 3) @ weights.T).std(0)
        layers.project(weights, bias)
        torch.testing.assert_close(layers(summary, None).view(2, 3), mean @ weights.T + bias)
        found = layers(summary.expand(200_000, -1), noise).view(-1, 2, 3).std(0)
    torch.testing.assert_close(found, drawn, rtol=0.02, atol=0)
