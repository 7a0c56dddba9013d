"""Auxiliary losses: what they train, what may not enter them, and one of a user's own."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.autoencoding.losses import (
    VAE,
    AuxiliaryLoss,
    NextLatent,
    Reading,
    Reconstruction,
    Source,
    mean_of_valid,
)
from networks.extractors.cnn import CNN
from networks.extractors.mlp import MLP
from networks.inputs import make_input
from tests.building import build

STEPS, SEQUENCES, FEATURES, ACTIONS = 3, 5, 6, 2
INPUTS = make_input(spaces.Box(-1, 1, (4,)))


def extractor() -> MLP:
    torch.manual_seed(0)
    return build(
        MLP,
        (4,),
        hidden_sizes=[8, FEATURES],
        activation="tanh",
        initialization="orthogonal",
        gain=1.4,
    )


def source(network: nn.Module) -> Source:
    return Source(
        inputs=INPUTS,
        extractor=network,
        feature_size=FEATURES,
        action_size=ACTIONS,
        summary_size=FEATURES,
    )


def read(network: nn.Module, **changes: Any) -> Reading:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(STEPS * SEQUENCES, 4, generator=generator)
    following = torch.randn(STEPS * SEQUENCES, 4, generator=generator)
    valid = torch.ones(STEPS, SEQUENCES, dtype=torch.bool)
    valid[1, 2] = valid[2, 0] = False
    with torch.no_grad():
        next_features = network(following).view(STEPS, SEQUENCES, -1)
    fields: dict[str, Any] = {
        "rows": rows,
        "features": network(rows).view(STEPS, SEQUENCES, -1),
        "actions": torch.randn(STEPS, SEQUENCES, ACTIONS, generator=generator),
        "is_first": ~valid.roll(1, 0),
        "valid": valid,
        "next_rows": following,
        "next_features": next_features,
    }
    return Reading(**{**fields, **changes})


def make(kind: str, network: nn.Module) -> AuxiliaryLoss:
    torch.manual_seed(2)
    if kind == "reconstruction":
        return build(Reconstruction, source(network), decoder=None, latent_decay=0.1)
    if kind == "vae":
        return build(VAE, source(network), decoder=None, latent_size=3, beta=1.0)
    return build(NextLatent, source(network), hidden_sizes=[7], activation="relu")


@pytest.fixture(params=["reconstruction", "vae", "next_latent"])
def kind(request) -> str:
    return request.param


def value(loss: AuxiliaryLoss, reading: Reading) -> Tensor:
    torch.manual_seed(3)
    return loss(reading)


def test_a_loss_trains_extractor_and_itself(kind: str) -> None:
    network = extractor()
    loss = make(kind, network)
    value(loss, read(network)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


def test_a_loss_owns_nothing_of_the_extractor(kind: str) -> None:
    network = extractor()
    own = {id(p) for p in make(kind, network).parameters()}
    assert own.isdisjoint({id(p) for p in network.parameters()})


def test_no_gradient_reaches_the_targets(kind: str) -> None:
    network = extractor()
    kept = read(network)
    targets = [kept.rows, kept.next_rows, kept.next_features]
    for target in targets:
        target.requires_grad_()
    # The features are given: through them the rows have no part in it.
    features = kept.features.detach().requires_grad_()
    changed = read(network, rows=targets[0], features=features, next_features=targets[2])
    value(make(kind, network), changed).backward()
    assert features.grad.abs().sum() > 0
    assert [target.grad for target in targets] == [None, None, None]


def test_steps_that_only_reset_change_nothing(kind: str) -> None:
    network = extractor()
    reading = read(network)
    is_reset = ~reading.valid
    poisoned: dict[str, Any] = {}
    for name in ("features", "actions", "next_features"):
        part = getattr(reading, name).detach().clone()
        part[is_reset] = 1e3
        poisoned[name] = part
    poisoned["rows"] = reading.rows.clone()
    poisoned["rows"][is_reset.flatten()] = 1e3
    loss = make(kind, network)
    clean, other = value(loss, reading), value(loss, read(network, **poisoned))
    torch.testing.assert_close(clean, other)
    gradients = torch.autograd.grad(clean, reading.features)[0]
    assert (gradients[is_reset] == 0).all()
    assert (gradients[reading.valid] != 0).any(-1).all()


def test_single_steps_will_do(kind: str) -> None:
    """As memoryless agents cut them: what follows comes from the reading, not from the batch."""
    network = extractor()
    flat = {
        name: part.reshape(1, STEPS * SEQUENCES, *part.shape[2:])
        for name in ("features", "actions", "is_first", "valid", "next_features")
        for part in [getattr(read(network), name)]
    }
    loss = make(kind, network)
    torch.testing.assert_close(value(loss, read(network, **flat)), value(loss, read(network)))


def test_half_precision_features(kind: str) -> None:
    network = extractor()
    loss, reading = make(kind, network), read(network)
    half = read(network, features=reading.features.bfloat16())
    assert value(loss, half).dtype == torch.float32
    torch.testing.assert_close(value(loss, half), value(loss, reading), rtol=0.05, atol=0.02)


def test_a_mean_over_no_step_is_zero() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert mean_of_valid(torch.full((2, 3), torch.nan), nothing) == 0


def test_reconstruction_by_hand() -> None:
    network = extractor()
    loss, reading = make("reconstruction", network), read(network)
    told = loss.decoder.decoders["observation"](reading.features.flatten(0, 1))
    errors = (told - reading.rows).square().mean(1)
    decay = 0.1 * 0.5 * reading.features.flatten(0, 1).square().sum(1)
    expected = (errors + decay)[reading.valid.flatten()].mean()
    torch.testing.assert_close(loss(reading), expected)


def test_a_variational_loss_by_hand() -> None:
    network = extractor()
    loss, reading = make("vae", network), read(network)
    nn.init.zeros_(loss.mean.weight)
    nn.init.constant_(loss.mean.bias, 2.0)
    nn.init.constant_(loss.log_variance.bias, -200.0)  # as good as not drawn
    told = loss.decoder.decoders["observation"](torch.full((1, 3), 2.0))
    errors = (told - reading.rows).square().mean(1)[reading.valid.flatten()].mean()
    kl = 3 * 0.5 * (4.0 + 0.0 - 1.0 + 200.0)
    torch.testing.assert_close(value(loss, reading), errors + kl / 4)


def test_a_prediction_is_compared_with_what_follows_by_hand() -> None:
    """A predictor that always says the same: its cosine with standardised next features."""
    network = extractor()
    loss, reading = make("next_latent", network), read(network)
    told = torch.arange(1.0, FEATURES + 1)
    for parameter in loss.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        last = [p for p in loss.parameters() if p.shape == (FEATURES,)][-1]
        last.copy_(told)
    following = reading.next_features[reading.valid].double()
    standard = (following - following.mean(0)) / following.std(0, correction=0)
    cosines = nn.functional.cosine_similarity(standard, told.double()[None])
    torch.testing.assert_close(loss(reading).double(), 1 - cosines.mean(), rtol=0, atol=1e-4)


def test_only_what_asks_for_the_next_step_needs_it() -> None:
    network = extractor()
    assert make("next_latent", network).needs_next
    for kind in ("reconstruction", "vae"):
        assert not make(kind, network).needs_next
        value(make(kind, network), read(network, next_rows=None, next_features=None))


def test_a_collapsed_representation_is_not_predicted() -> None:
    """Features that do not tell observations apart cost as much as knowing nothing."""
    network = extractor()
    loss = make("next_latent", network)
    constant = torch.ones(STEPS, SEQUENCES, FEATURES)
    for scale in (0.0, 1e-3, 1.0, 1e3):
        collapsed = read(network, features=scale * constant, next_features=scale * constant)
        assert loss(collapsed).item() == pytest.approx(1.0, abs=0.01)


def learn_to_predict(steps: int) -> tuple[list[float], Tensor]:
    """A ring of 8 places on which actions move left and right; losses, and features at the end."""
    network = build(
        MLP,
        (8,),
        hidden_sizes=[16, 8],
        activation="tanh",
        initialization="orthogonal",
        gain=1.0,
    )
    loss = build(
        NextLatent,
        Source(
            inputs=make_input(spaces.Discrete(8)),
            extractor=network,
            feature_size=8,
            action_size=2,
            summary_size=8,
        ),
        hidden_sizes=[32],
        activation="relu",
    )
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        places = torch.randint(8, (64,), generator=generator)
        moves = torch.randint(2, (64,), generator=generator)
        rows, following = torch.eye(8)[places], torch.eye(8)[(places + 2 * moves - 1) % 8]
        with torch.no_grad():
            next_features = network(following)[None]
        reading = Reading(
            rows=rows,
            features=network(rows)[None],
            actions=torch.eye(2)[moves][None],
            is_first=torch.zeros(1, 64, dtype=torch.bool),
            valid=torch.ones(1, 64, dtype=torch.bool),
            next_rows=following,
            next_features=next_features,
        )
        now = loss(reading)
        optimizer.zero_grad()
        now.backward()
        optimizer.step()
        losses.append(now.item())
    return losses, network(torch.eye(8)).detach()


def test_predicting_the_next_features_learns_without_collapsing() -> None:
    torch.manual_seed(0)
    losses, features = learn_to_predict(400)
    assert losses[0] > 0.5
    assert losses[-1] < 0.1
    # Every place is still told from every other one, in several directions.
    distances = torch.cdist(features, features) + 1e3 * torch.eye(8)
    assert distances.min() > 0.2
    assert torch.linalg.matrix_rank(features - features.mean(0), tol=0.1) >= 4


def test_extractors_of_images_are_trained_too(kind: str) -> None:
    inputs = make_input(spaces.MultiBinary((7, 6, 4)))
    network = build(
        CNN,
        (7, 6, 4),
        layout="hwc",
        layers="auto",
        filters=[8],
        activation="relu",
        normalization="none",
        hidden_sizes=[FEATURES],
        initialization="orthogonal",
        gain=1.4,
    )
    where = Source(
        inputs=inputs,
        extractor=network,
        feature_size=FEATURES,
        action_size=ACTIONS,
        summary_size=FEATURES,
    )
    losses: dict[str, AuxiliaryLoss] = {
        "reconstruction": build(Reconstruction, where, decoder=None, latent_decay=0.0),
        "vae": build(VAE, where, decoder=None, latent_size=3, beta=1.0),
        "next_latent": build(NextLatent, where, hidden_sizes=[7], activation="relu"),
    }
    rows = torch.as_tensor(np.random.default_rng(0).integers(2, size=(15, 7, 6, 4))).float()
    features = network(rows).view(STEPS, SEQUENCES, FEATURES)
    reading = read(
        extractor(), rows=rows, features=features, next_rows=rows, next_features=features.detach()
    )
    value(losses[kind], reading).backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())
