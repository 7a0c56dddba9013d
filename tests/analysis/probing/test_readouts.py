"""Readouts: what can be read is read, on rows that were not fitted, and nothing else is."""

import numpy as np
import pytest

from analysis.probing.readouts import READOUTS, chance, mlp, ridge, scores
from analysis.probing.recording import Target

RNG = np.random.default_rng(3)
INPUTS = RNG.standard_normal((2000, 6)).astype(np.float32)
FITTED, HELD_OUT = np.arange(1400), np.arange(1400, 2000)


def target(values, classes: int = 0) -> Target:
    return Target("y", np.asarray(values, np.float32).reshape(100, 20), classes)


def score(readout, *targets: Target, inputs=INPUTS, noise=0.0) -> list[float]:
    return scores(readout, inputs, targets, FITTED, HELD_OUT, noise)


@pytest.mark.parametrize("readout", READOUTS.values(), ids=READOUTS)
def test_a_linear_number_is_read_and_noise_is_not(readout) -> None:
    linear, noise = 50 * INPUTS[:, 0] - INPUTS[:, 3] + 7, RNG.standard_normal(2000)
    of_linear, of_noise = score(readout, target(linear), target(noise))
    assert of_linear > 0.98
    assert of_noise < 0.1


@pytest.mark.parametrize("readout", READOUTS.values(), ids=READOUTS)
def test_a_choice_is_scored_by_accuracy(readout) -> None:
    largest, coin = INPUTS[:, :3].argmax(axis=1), RNG.integers(0, 2, 2000)
    of_largest, of_coin = score(readout, target(largest, 3), target(coin, 2))
    assert of_largest > 0.85
    assert 0.4 < of_coin < 0.6


def test_an_mlp_reads_what_is_not_linear() -> None:
    product = target(INPUTS[:, 0] * INPUTS[:, 1])
    assert score(ridge, product)[0] < 0.1
    assert score(mlp, product)[0] > 0.8


def test_noise_leaves_what_is_told_robustly() -> None:
    near, far, other = INPUTS[:, :3].T
    inputs = np.stack([near, near + 0.1 * far, other], axis=1)
    small, large = score(ridge, target(far), target(other), inputs=inputs)
    assert min(small, large) > 0.98
    small, large = score(ridge, target(far), target(other), inputs=inputs, noise=0.1)
    assert small < 0.5
    assert large > 0.95


def test_wide_inputs_are_projected() -> None:
    wide = np.concatenate([INPUTS, np.zeros((2000, 3000), np.float32)], axis=1)
    assert score(ridge, target(INPUTS[:, 0]), inputs=wide)[0] > 0.95


def test_rows_that_are_scored_are_not_fitted() -> None:
    flipped = INPUTS[:, 0].copy()
    flipped[HELD_OUT] *= -1
    assert score(ridge, target(flipped))[0] < -2


def test_chance_is_the_share_of_the_commonest_choice() -> None:
    values = np.zeros(2000)
    values[HELD_OUT[:150]] = 1
    assert chance(target(values, 2), HELD_OUT) == 0.75
    assert chance(target(values), HELD_OUT) == 0.0
