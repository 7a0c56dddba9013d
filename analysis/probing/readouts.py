"""Readouts: how well a representation tells a hidden variable, on episodes that were held out.

A readout is fitted on the first episodes and scored on the last ones. Numbers are scored by
`R2 = 1 - sum (y - f(x))^2 / sum (y - mean y)^2`, at most 1 and 0 for the mean; choices by accuracy.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from analysis.probing.recording import Target
from networks.mirror import Array

Rows = Float[np.ndarray, "N D"]
_PENALTIES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""Of ridge regression, times the number of rows; the inputs are standardised."""
_MOST_INPUTS = 1024
"""Wider inputs are projected at random onto as many: least squares needs their square."""
_HIDDEN, _EPOCHS, _BATCH, _RATE = 64, 40, 256, 3e-3


def standardized(inputs: Rows, fitted: Int[np.ndarray, " M"]) -> Rows:
    """Project wide inputs, and give each column mean 0 and deviation 1 on the rows fitted."""
    if inputs.shape[1] > _MOST_INPUTS:
        generator = np.random.default_rng(0)
        shape = inputs.shape[1], _MOST_INPUTS
        inputs = inputs @ generator.standard_normal(shape, np.float32) / np.sqrt(shape[0])
    known = inputs[fitted]
    deviation = known.std(axis=0)
    return (inputs - known.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1.0)


def ridge(inputs: Rows, outputs: Rows) -> Callable[[Rows], Rows]:
    """Fit `W = (X^T X + penalty N I)^-1 X^T Y`; the penalty is chosen on the last fifth of rows."""
    cut = len(inputs) * 4 // 5
    inputs = inputs.astype(np.float64)  # a velocity is a small difference of large numbers

    def solve(penalty: float, x: Rows, y: Rows) -> tuple[Array, Array]:
        mean = y.mean(axis=0)
        gram = x.T @ x + penalty * len(x) * np.eye(x.shape[1], dtype=x.dtype)
        return np.linalg.solve(gram, x.T @ (y - mean)), mean

    def error(penalty: float) -> float:
        weights, mean = solve(penalty, inputs[:cut], outputs[:cut])
        return float(np.square(inputs[cut:] @ weights + mean - outputs[cut:]).mean())

    weights, mean = solve(min(_PENALTIES, key=error), inputs, outputs)
    return lambda rows: rows @ weights + mean


def mlp(inputs: Rows, outputs: Rows) -> Callable[[Rows], Rows]:
    """Fit one hidden layer of 64 units by Adam on the squared error, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Linear(inputs.shape[1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, outputs.shape[1])
        )
        optimizer = torch.optim.Adam(layers.parameters(), _RATE)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, _EPOCHS)
        x, y = torch.from_numpy(inputs), torch.from_numpy(outputs)
        generator = torch.Generator().manual_seed(0)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(x), generator=generator).split(_BATCH):
                optimizer.zero_grad()
                functional.mse_loss(layers(x[rows]), y[rows]).backward()
                optimizer.step()
            schedule.step()
    return torch.no_grad()(lambda rows: layers(torch.from_numpy(rows)).numpy())


READOUTS = {"ridge": ridge, "mlp": mlp}


def scores(
    readout: Callable[[Rows, Rows], Callable[[Rows], Rows]],
    inputs: Rows,
    targets: Sequence[Target],
    fitted: Int[np.ndarray, " M"],
    held_out: Int[np.ndarray, " K"],
    noise: float,
) -> list[float]:
    """Fit all targets together on the rows `fitted`, and score each on the rows `held_out`.

    Args:
        noise: Gaussian, added to the inputs, in standard deviations of each. Random weights keep
            the past too, as small differences: what is told in them alone is lost.
    """
    columns = [_columns(target, fitted) for target in targets]
    inputs = standardized(inputs, fitted)
    drawn = np.random.default_rng(0).standard_normal(inputs.shape)
    inputs = (inputs + noise * drawn).astype(np.float32)
    read = readout(inputs[fitted], np.concatenate(columns, axis=1)[fitted])
    ends = np.cumsum([column.shape[1] for column in columns])[:-1]
    guesses = np.split(read(inputs[held_out]), ends, axis=1)
    each = zip(targets, columns, guesses, strict=True)
    return [_score(target, column[held_out], guess) for target, column, guess in each]


def _score(target: Target, truth: Rows, guess: Rows) -> float:
    if target.classes:
        return float((guess.argmax(1) == truth.argmax(1)).mean())
    spread = np.square(truth - truth.mean()).sum()
    return float(1 - np.square(truth - guess).sum() / max(spread, 1e-12))


def chance(target: Target, held_out: Int[np.ndarray, " K"]) -> float:
    """Score of the best constant: 0 for a number, the share of the commonest choice."""
    if not target.classes:
        return 0.0
    counts = np.bincount(target.values.reshape(-1)[held_out].astype(int))
    return float(counts.max() / counts.sum())


def _columns(target: Target, fitted: Int[np.ndarray, " M"]) -> Rows:
    """Return what is regressed: a standardised number, or a choice as 0 and 1, `[N, C]`."""
    flat = target.values.reshape(-1)
    if target.classes:
        return np.eye(target.classes, dtype=np.float32)[flat.astype(int)]
    known = flat[fitted]
    scaled = (flat - known.mean()) / max(float(known.std()), 1e-6)
    return scaled.astype(np.float32)[:, None]
