"""Autoencoders: what they are trained to say, from what, and that features are never drawn."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.autoencoding.autoencoder import Autoencoder, Encoder
from networks.autoencoding.gaussian import divergence, draw
from networks.extractors.mlp import MLP, Flatten
from networks.inputs import make_input
from tests.building import build

LINEAR: dict[str, Any] = {"initialization": "orthogonal", "gain": 1.0}
VECTOR = make_input(spaces.Box(-1, 1, (6,)))
IMAGE = make_input(spaces.Box(0, 255, (6, 5, 3), np.uint8))


def encoder(width: int, latent_size: int = 2, hidden_sizes: tuple[int, ...] = (16,)) -> Encoder:
    torch.manual_seed(0)
    inner = build(MLP, (width,), hidden_sizes=hidden_sizes, activation="relu", **LINEAR)
    return build(Encoder, inner, inner.output_size, latent_size=latent_size, **LINEAR)


def autoencoder(inputs: Any = VECTOR, **changes: Any) -> Autoencoder:
    options: dict[str, Any] = {"decoder": None, "variational": False, "beta": 1.0}
    made = encoder(math.prod(inputs.shape), changes.pop("latent_size", 2))
    return build(Autoencoder, inputs, made, **{**options, **changes})


def fit(network: Autoencoder, rows: Tensor, *, steps: int, rate: float, batch: int = 256) -> None:
    """Adam on minibatches, its rate falling to 0."""
    generator = torch.Generator().manual_seed(0)
    own = [*network.encoder.parameters(), *network.parameters()]
    optimizer = torch.optim.Adam(own, lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        picked = rows[torch.randint(len(rows), (batch,), generator=generator)]
        loss, _ = network.loss(picked, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def test_an_encoder_is_its_extractor_and_a_linear_layer() -> None:
    network, rows = encoder(6), torch.randn(4, 6)
    expected = network.encoder(rows) @ network.latent.weight.T + network.latent.bias
    torch.testing.assert_close(network(rows), expected)
    assert network.output_size == 2
    mirrored = encoder(6).mirror()
    np.testing.assert_allclose(mirrored(rows.numpy()), network(rows).detach().numpy(), atol=1e-6)


def test_an_encoder_acts_in_torch_where_its_extractor_does() -> None:
    assert build(Encoder, nn.Linear(6, 3), 3, latent_size=2, **LINEAR).mirror() is None


@pytest.mark.parametrize("inputs", [VECTOR, IMAGE], ids=["vector", "image"])
def test_the_loss_is_the_error_of_the_reconstruction(inputs) -> None:
    network, rows = autoencoder(inputs), torch.rand(5, *inputs.shape)
    loss, metrics = network.loss(rows)
    error = (network.reconstruct(rows) - rows).square().mean()
    torch.testing.assert_close(loss, error)
    assert metrics.keys() == {"reconstruction", "squared_error"}
    torch.testing.assert_close(network.squared_error(rows).mean(), error)
    assert not any(metric.requires_grad for metric in metrics.values())


def test_the_loss_trains_every_parameter() -> None:
    network, rows = autoencoder(variational=True), torch.randn(5, 6)
    with torch.no_grad():  # its weights start at 0, which lets no gradient through to the encoder
        network.log_variance.weight.normal_()
    loss, _ = network.loss(rows)
    loss.backward()
    own = [*network.encoder.named_parameters(), *network.named_parameters()]
    for name, parameter in own:
        assert parameter.grad.abs().sum() > 0, name


def test_kl_by_hand() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4.0)]])
    # 1/2 (1 + 1 - 1 - 0) + 1/2 (0 + 4 - 1 - log 4)
    expected = 0.5 + 0.5 * (3.0 - math.log(4.0))
    assert divergence(mean, log_variance).item() == pytest.approx(expected)
    own = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    theirs = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(divergence(mean, log_variance), theirs)


def test_latents_are_drawn_from_the_gaussian() -> None:
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, math.log(9.0)]])
    generator = torch.Generator().manual_seed(0)
    drawn = draw(mean.expand(20_000, 2), log_variance.expand(20_000, 2), generator)
    torch.testing.assert_close(drawn.mean(0), mean[0], atol=0.08, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.tensor([1.0, 3.0]), atol=0.08, rtol=0)


def test_the_evidence_lower_bound_by_number() -> None:
    """loss = reconstruction + beta / count KL, with the KL of the heads."""
    network, rows = autoencoder(variational=True, beta=4.0), torch.randn(5, 6)
    loss, metrics = network.loss(rows, torch.Generator().manual_seed(1))
    kl = divergence(network.encoder(rows), torch.zeros(5, 2)).mean()  # variance starts at 1
    torch.testing.assert_close(metrics["kl"], kl)
    torch.testing.assert_close(loss, metrics["reconstruction"] + 4.0 / 6 * kl)


def test_features_of_a_variational_encoder_are_deterministic() -> None:
    network, rows = autoencoder(variational=True).train(), torch.randn(5, 6)
    assert torch.equal(network.encoder(rows), network.encoder(rows))
    assert torch.equal(network.reconstruct(rows), network.reconstruct(rows))
    losses = [network.loss(rows)[0] for _ in range(2)]
    assert losses[0] != losses[1]  # while what trains them is drawn


def test_randomness_is_the_generators() -> None:
    network, rows = autoencoder(variational=True), torch.randn(5, 6)
    before = torch.random.get_rng_state()
    losses = [network.loss(rows, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_half_precision_trains() -> None:
    network, rows = autoencoder(IMAGE, variational=True), torch.rand(5, 6, 5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = network.loss(rows, torch.Generator().manual_seed(0))
    assert loss.dtype == torch.float32
    loss.backward()
    exact, _ = network.loss(rows, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.01)


def pca_error(rows: Tensor, held_out: Tensor, size: int) -> float:
    """Mean squared error of the best linear map through `size` numbers."""
    mean = rows.flatten(1).mean(0)
    _, _, directions = torch.linalg.svd(rows.flatten(1) - mean, full_matrices=False)
    kept, centred = directions[:size], held_out.flatten(1) - mean
    return (centred - centred @ kept.T @ kept).square().mean().item()


def rooms(count: int) -> Tensor:
    """Views of a small room: walls, a door in one of them, a key and a goal, open or shut."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(count, 5, 5, 2, dtype=torch.long)
    places = torch.randint(5, (5, count), generator=generator)
    rows = torch.arange(count)
    for row, (wall, door, key_row, key_column, goal) in enumerate(places.T.tolist()):
        codes[row, :, wall, 0] = 1
        codes[row, door, wall] = torch.tensor([2, 1])
        codes[row, key_row, key_column] = torch.tensor([3, 2])
        codes[row, goal, 4, 0] = 4
    codes[rows, places[1], places[0], 1] = (places[2] > 2).long()
    return make_input(spaces.MultiDiscrete(np.tile([5, 3], (5, 5, 1))))(codes)


def test_an_autoencoder_beats_pca_of_its_size_on_held_out_rooms() -> None:
    inputs = make_input(spaces.MultiDiscrete(np.tile([5, 3], (5, 5, 1))))
    rows = rooms(4500)
    learnt, held_out = rows[:4000], rows[4000:]
    torch.manual_seed(0)
    inner = build(MLP, (200,), hidden_sizes=[64], activation="relu", **LINEAR)
    network = build(
        Autoencoder,
        inputs,
        build(Encoder, inner, 64, latent_size=8, **LINEAR),
        decoder=None,
        variational=False,
        beta=1.0,
    )
    fit(network, learnt, steps=300, rate=0.01, batch=128)
    with torch.no_grad():
        error = network.squared_error(held_out).mean().item()
    assert error < 0.7 * pca_error(learnt, held_out, 8)


def test_pictures_show_original_above_reconstruction() -> None:
    network, rows = autoencoder(IMAGE), torch.rand(3, 6, 5, 3)
    drawn = network.pictures(rows)["observation"]
    times = 11  # 6 pixels become 64 at least
    assert drawn.shape == (2 * 6 * times, 3 * 5 * times, 3)
    assert drawn.dtype == torch.uint8
    small = drawn[::times, ::times].float() / 255.0
    tops = torch.cat(list(rows), dim=1)
    torch.testing.assert_close(small[:6], tops, atol=0.003, rtol=0)
    bottoms = torch.cat(list(network.reconstruct(rows).detach().clamp(0, 1)), dim=1)
    torch.testing.assert_close(small[6:], bottoms, atol=0.003, rtol=0)


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete(np.tile([11, 6, 3], (7, 7, 1))),
        spaces.MultiBinary((10, 10, 4)),
        spaces.Box(-5.0, 70.0, (8, 8, 3)),
        spaces.Box(0, 255, (4, 8, 9, 3), np.uint8),
        spaces.Box(0, 255, (84, 84, 4), np.uint8),
    ],
    ids=["codes", "bits", "numbers", "stack", "frames as channels"],
)
def test_every_kind_of_image_is_drawn(space) -> None:
    inputs = make_input(space)
    space.seed(0)
    rows = inputs(torch.as_tensor(np.stack([space.sample() for _ in range(2)])))
    flat = Flatten(inputs.shape)
    network = build(
        Autoencoder,
        inputs,
        build(Encoder, flat, flat.output_size, latent_size=2, **LINEAR),
        decoder=None,
        variational=False,
        beta=1.0,
    )
    drawn = network.pictures(rows)["observation"]
    half = drawn.shape[0] // 2
    assert drawn[:half].float().std() > 10  # something is to be seen
    perfect = network.decoder.pictures({"observation": 40.0 * rows - 20.0}, rows)["observation"]
    if inputs.kind in ("identifiers", "booleans"):
        assert torch.equal(perfect[:half], perfect[half:])


def test_the_newest_frame_of_a_stack_is_drawn() -> None:
    space = spaces.Box(0, 255, (2, 64, 64, 3), np.uint8)
    inputs, rows = make_input(space), torch.zeros(1, 2, 64, 64, 3)
    rows[:, 1, 5, 7, 2] = 1.0
    flat = Flatten(inputs.shape)
    decoder = build(
        Autoencoder,
        inputs,
        build(Encoder, flat, flat.output_size, latent_size=2, **LINEAR),
        decoder=None,
        variational=False,
        beta=1.0,
    ).decoder
    drawn = decoder.pictures({"observation": rows}, rows)["observation"]
    assert drawn[5, 7].tolist() == drawn[69, 7].tolist() == [0, 0, 255]
    assert drawn.sum() == 2 * 255


def test_vectors_are_not_drawn() -> None:
    assert autoencoder().pictures(torch.randn(2, 6)) == {}


@pytest.mark.slow
def test_losses_compile_whole() -> None:
    """In a process of its own: the annotations that tests execute cannot be traced."""
    script = Path(__file__).with_name("compiled_losses.py")
    root = script.parents[2]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
