"""Normalised, residual and stacked layers, against hand-written ones."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.heads.critics import CriticLayers
from networks.heads.values import Head
from networks.layers import BatchRenorm
from tests.building import build

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer norm": {"normalization": "layer"},
    "batch renorm": {"normalization": "batch_renorm"},
    "residual": {"normalization": "layer", "residual": True},
    "residual, batch renorm": {"normalization": "batch_renorm", "residual": True},
}
EVERY_OPTION = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
LAYERS = {
    "hidden_sizes": [6, 6],
    "activation": "relu",
    "initialization": "orthogonal",
    "gain": 1.0,
}


def shaken(network: nn.Module) -> Any:
    """Weights and statistics that are all different."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if not name.endswith("steps"):
                buffer.add_(torch.rand_like(buffer))
    return network


def in_order(layers: CriticLayers, kind: str) -> list[torch.Tensor]:
    """Parameters or buffers in the order of the layers."""
    return [*getattr(layers.hidden, kind)(), *getattr(layers.output, kind)()]


def separate(layers: CriticLayers, options: dict[str, Any], critic: int) -> Head:
    """One of the critics, alone."""
    head = build(Head, 4, 3, **LAYERS, **options)
    for own, joint in zip(
        (*head.parameters(), *head.buffers()),
        (*in_order(layers, "parameters"), *in_order(layers, "buffers")),
        strict=True,
    ):
        own.data.copy_(joint[critic].t().reshape(own.shape) if joint.ndim else joint)
    return head


@EVERY_OPTION
@pytest.mark.parametrize("trains", [True, False])
def test_stacked_critics_are_the_critics_alone(options: dict[str, Any], trains: bool) -> None:
    torch.manual_seed(0)
    layers = build(CriticLayers, 4, 3, num_critics=3, num_actions=None, **LAYERS, **options)
    layers = shaken(layers).train(trains)
    alone = [separate(layers, options, critic).train(trains) for critic in range(3)]
    rows, weights = torch.randn(5, 7, 4), torch.randn(5, 7, 3, 3)
    found = layers(rows, None)
    expected = torch.stack([head.linear(rows) for head in alone], 2)
    torch.testing.assert_close(found, expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for critic, head in enumerate(alone):
        for own, joint in zip(head.parameters(), in_order(layers, "parameters"), strict=True):
            torch.testing.assert_close(
                own.grad, joint.grad[critic].t().reshape(own.shape), rtol=1e-3, atol=1e-4
            )
        for own, joint in zip(head.buffers(), layers.buffers(), strict=True):
            torch.testing.assert_close(own, joint[critic] if joint.ndim else joint)


def test_residual_layers_are_those_of_simba() -> None:
    """Linear -> x + Linear(relu(Linear to 4 d(LayerNorm(x)))) for each size -> LayerNorm."""
    torch.manual_seed(0)
    head = shaken(build(Head, 4, 3, **LAYERS, **OPTIONS["residual"]))
    first, *rest, last, output = [
        *(p for p in head.modules() if isinstance(p, nn.Linear | nn.LayerNorm))
    ]
    assert [p.weight.shape[0] for p in (first, *rest, last, output)] == [6, *[6, 24, 6] * 2, 6, 3]
    rows = torch.randn(7, 4)
    hidden = first(rows)
    for norm, wider, narrower in (rest[:3], rest[3:]):
        hidden = hidden + narrower(wider(norm(hidden)).relu())
    torch.testing.assert_close(head.linear(rows), output(last(hidden)))
    other = build(Head, 6, 3, **{**LAYERS, "hidden_sizes": [6, 8]}, **OPTIONS["residual"])
    shapes = [tuple(p.weight.shape) for p in other.modules() if isinstance(p, nn.Linear)]
    assert shapes == [(6, 6), (24, 6), (6, 24), (8, 6), (32, 8), (8, 32), (3, 8)]


def test_dropout_comes_before_normalisation_as_in_droq() -> None:
    head = build(Head, 4, 3, **LAYERS, normalization="layer", dropout=0.25)
    kinds = [type(layer) for layer in head.stages]
    assert kinds == [nn.Linear, nn.Dropout, nn.LayerNorm, nn.ReLU] * 2 + [nn.Linear]
    rows = torch.randn(7, 4)
    assert not torch.equal(head.linear(rows), head.linear(rows))
    head.eval()
    assert torch.equal(head.linear(rows), head.linear(rows))


# ---- batch renormalisation


def by_hand(rows: Tensor, norm: BatchRenorm, *, is_warm: bool) -> Tensor:
    deviation = (rows.var(0, correction=0) + 1e-3).sqrt()
    running = (norm.variance[0] + 1e-3).sqrt()
    scale, shift = torch.ones(()), torch.zeros(())
    if is_warm:
        scale = (deviation / running).clamp(1 / 3, 3).detach()
        shift = ((rows.mean(0) - norm.mean[0]) / running).clamp(-5, 5).detach()
    normalized = (rows - rows.mean(0)) / deviation * scale + shift
    return norm.weight[0] * normalized + norm.bias[0]


@pytest.mark.parametrize("is_warm", [False, True])
def test_batch_renormalisation_is_that_of_the_paper(is_warm: bool) -> None:
    torch.manual_seed(0)
    norm = shaken(BatchRenorm(4)).train()
    norm.steps.fill_(100_000 if is_warm else 99_999)
    # Columns within the limits, beyond the scale's and beyond the shift's.
    spread, centre = torch.tensor([1.0, 9.0, 0.01, 1.0]), torch.tensor([0.0, 0.0, 0.0, 20.0])
    rows = (torch.randn(64, 4) * spread + centre).requires_grad_()
    before = copy.deepcopy(norm)
    weights = torch.randn(64, 4)
    found, expected = norm(rows), by_hand(rows, before, is_warm=is_warm)
    torch.testing.assert_close(found, expected)
    ours, theirs = (
        torch.autograd.grad((each * weights).sum(), rows)[0] for each in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.mean, 0.99 * before.mean + 0.01 * rows.mean(0))
    torch.testing.assert_close(
        norm.variance, 0.99 * before.variance + 0.01 * rows.var(0, correction=0)
    )
    assert norm.steps == before.steps + 1


def test_early_on_it_is_batch_normalisation_and_acts_by_what_it_has_seen() -> None:
    torch.manual_seed(0)
    norm, plain = BatchRenorm(3), nn.BatchNorm1d(3, eps=1e-3, momentum=0.01)
    for _ in range(5):
        rows = 2 * torch.randn(32, 3) + 1
        torch.testing.assert_close(norm(rows), plain(rows))
    norm.eval()
    kept = copy.deepcopy(norm.state_dict())
    found = norm(rows)
    expected = functional.batch_norm(rows, norm.mean[0], norm.variance[0], eps=1e-3)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(norm(rows[:1]), found[:1])  # one row by itself
    assert all(map(partial(torch.equal), kept.values(), norm.state_dict().values()))
