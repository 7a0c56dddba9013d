"""Caveats: given where the simulated coverage leaves 93 to 97%, and not elsewhere."""

import numpy as np
import pytest

from analysis.caveats import bootstrap_caveat, mean_caveat, rate_caveat

GOOD = [410.0, 420.0, 433.0, 450.0, 415.0]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([], "0 of at least 3 runs"),
        ([1.0, 2.0], "2 of at least 3 runs"),
        ([500.0] * 5, "all 5 runs scored the same"),
        ([1.0, 2.0, 1.0, 2.0, 90.0], "long tail (skewness 1.5)"),
        ([-1.0, -2.0, -1.0, -2.0, -90.0], "long tail (skewness -1.5)"),
    ],
)
def test_means_that_are_not_to_be_trusted(scores, words: str) -> None:
    caveat = mean_caveat(scores)
    assert caveat is not None
    assert words in caveat
    assert "\n" not in caveat


def test_means_without_a_caveat() -> None:
    assert mean_caveat(GOOD) is None
    assert mean_caveat([500.0, 20.0, 480.0]) is None  # nobody says which of them are solved
    assert "4 of 5 runs solve the task" in (mean_caveat(GOOD, "4 of 5") or "")


def test_normal_scores_rarely_seem_skewed() -> None:
    samples = np.random.default_rng(0).standard_normal((500, 10))
    assert np.mean([mean_caveat(scores) is not None for scores in samples]) < 0.08


def test_rates() -> None:
    assert rate_caveat(20) is None
    assert "19 runs" in (rate_caveat(19) or "")


def test_bootstraps() -> None:
    assert bootstrap_caveat([GOOD] * 8) is None
    assert "4 of at least 5 runs" in (bootstrap_caveat([*[GOOD] * 8, GOOD[:4]]) or "")
