"""Traces the losses on features without a break and compares them with what they are untraced."""

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from networks.autoencoding.autoencoder import Autoencoder, Encoder
from networks.autoencoding.losses import (
    VAE,
    AuxiliaryLoss,
    NextLatent,
    Reading,
    Reconstruction,
    Source,
)
from networks.extractors.cnn import CNN
from networks.inputs import make_input
from tests.building import build

GRID = spaces.MultiDiscrete(np.tile([4, 3], (7, 6, 1)))
LINEAR = {"initialization": "orthogonal", "gain": 1.0}
STEPS, SEQUENCES, ACTIONS = 3, 4, 2


def extractor() -> CNN:
    """A small network for grids of codes."""
    return build(
        CNN,
        (7, 6, 7),
        layout="hwc",
        layers="auto",
        filters=[8],
        activation="relu",
        normalization="none",
        hidden_sizes=[10],
        **LINEAR,
    )


def reading(features: nn.Module, rows: torch.Tensor) -> Reading:
    """What the extractor makes of rows, and of them in another order as what follows."""
    valid = torch.rand(STEPS, SEQUENCES) < 0.8
    return Reading(
        rows=rows,
        features=features(rows).view(STEPS, SEQUENCES, -1),
        actions=torch.randn(STEPS, SEQUENCES, ACTIONS),
        is_first=~valid,
        valid=valid,
        next_rows=rows.flip(0),
        next_features=features(rows.flip(0)).view(STEPS, SEQUENCES, -1).detach(),
    )


def main() -> None:
    """Raise where a loss cannot be traced whole, or is another one then."""
    torch.manual_seed(0)
    inputs, network = make_input(GRID), extractor()
    rows = inputs(torch.as_tensor(np.stack([GRID.sample() for _ in range(STEPS * SEQUENCES)])))
    source = Source(
        inputs=inputs, extractor=network, feature_size=10, action_size=ACTIONS, summary_size=10
    )
    losses: list[AuxiliaryLoss] = [
        build(Reconstruction, source, decoder=None, latent_decay=0.1),
        build(VAE, source, decoder=None, latent_size=3, beta=1.0),
        build(NextLatent, source, hidden_sizes=[8], activation="relu"),
    ]
    for loss in losses:
        compare(loss, reading(network, rows))
    for variational in (False, True):
        encoder = build(Encoder, extractor(), 10, latent_size=3, **LINEAR)
        options = {"decoder": None, "noise": 0.1, "beta": 1.0, "variational": variational}
        compare(build(Autoencoder, inputs, encoder, **options).loss, rows)


def compare(loss, given) -> None:
    """Draw the same random numbers twice."""
    results = []
    for each in (loss, torch.compile(loss, fullgraph=True, backend="eager")):
        torch.manual_seed(1)
        result = each(given)
        results.append(result[0] if isinstance(result, tuple) else result)
    torch.testing.assert_close(*results)


if __name__ == "__main__":
    main()
