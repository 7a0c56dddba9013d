"""Extractors of vectors and stacks: what they compute, and that their numpy mirrors agree."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from networks.extractors.mlp import ACTIVATION_MODULES, MLP, Flatten
from tests.building import build

MODULES = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
}


def mlp(**changes: Any) -> MLP:
    torch.manual_seed(0)
    options = {
        "hidden_sizes": [16, 8],
        "activation": "tanh",
        "initialization": "default",
        "gain": 1.0,
    }
    return build(MLP, (2, 3), **{**options, **changes})


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer norm": {"normalization": "layer"},
    "dropout": {"dropout": 0.5},
    "batch renorm": {"normalization": "batch_renorm"},
    "residual": {"normalization": "layer", "residual": True, "hidden_sizes": [16, 16, 8]},
}
EVERY_VARIANT = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


@pytest.mark.parametrize("activation", MODULES)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_mlp_is_the_stack_it_says(activation: str, layer_norm: bool) -> None:
    network = mlp(activation=activation, normalization="layer" if layer_norm else "none")
    plain = nn.Sequential(
        nn.Flatten(),
        nn.Linear(6, 16),
        *([nn.LayerNorm(16)] if layer_norm else []),
        MODULES[activation](),
        nn.Linear(16, 8),
        *([nn.LayerNorm(8)] if layer_norm else []),
        MODULES[activation](),
    )
    for parameter, own in zip(plain.parameters(), network.parameters(), strict=True):
        parameter.data.copy_(own)
    rows = torch.randn(5, 2, 3)
    assert network.output_size == 8
    torch.testing.assert_close(network(rows), plain(rows))


@EVERY_VARIANT
@pytest.mark.parametrize("activation", sorted(ACTIVATION_MODULES.keys() - {"gelu"}))
def test_mirror_equals_torch(activation: str, options: dict[str, Any]) -> None:
    network = mlp(activation=activation, initialization="orthogonal", gain=2.0, **options).eval()
    for norm in (
        layer for layer in network.modules() if hasattr(layer, "eps") or hasattr(layer, "mean")
    ):
        nn.init.normal_(norm.weight, 1.0)
        nn.init.normal_(norm.bias)
    mirror = network.mirror()
    rows = 3 * torch.randn(50, 2, 3)
    rows[0], rows[1] = 1e4, -1e4  # saturation must neither overflow nor warn
    kept = rows.clone()
    with torch.no_grad():
        expected = network(rows).numpy()
    found = mirror(rows.numpy())
    assert found.dtype == np.float32
    # Running statistics leave rows as large as they are.
    largest = np.abs(expected).max(1, keepdims=True) if "batch_renorm" in options.values() else 1.0
    error = np.abs(found - expected) - 1e-6 * np.abs(expected)
    assert (error <= 2e-6 * largest).all()
    assert torch.equal(rows, kept)


@EVERY_VARIANT
def test_mirror_sees_weights_that_train_in_place(options: dict[str, Any]) -> None:
    network = mlp(**options).eval()
    mirror, rows = network.mirror(), torch.randn(4, 2, 3)
    with torch.no_grad():
        for tensor in (*network.parameters(), *(b for b in network.buffers() if b.ndim)):
            tensor.add_(0.3)
        error = 1e-5 if "residual" in options else 1e-6  # twice as many layers
        np.testing.assert_allclose(mirror(rows.numpy()), network(rows).numpy(), atol=error)


def test_what_numpy_lacks_has_no_mirror() -> None:
    assert mlp(activation="gelu").mirror() is None


@pytest.mark.parametrize("extractor", [mlp(hidden_sizes=[]), Flatten((2, 3))], ids=["mlp", "flat"])
def test_empty_extractors_hand_flat_rows_on(extractor) -> None:
    rows = torch.randn(5, 2, 3)
    assert extractor.output_size == 6
    assert torch.equal(extractor(rows), rows.flatten(1))
    np.testing.assert_array_equal(extractor.mirror()(rows.numpy()), rows.flatten(1).numpy())
