"""Statistics against numbers worked out by hand."""

import statistics

import numpy as np
import pytest

from analysis.statistics import mean, standard_deviation


def test_by_hand() -> None:
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert standard_deviation([1.0, 2.0, 6.0]) == 7**0.5  # (4 + 1 + 9) / 2
    assert standard_deviation([5.0, 5.0]) == 0.0


def test_one_value_has_no_deviation() -> None:
    assert mean([4.0]) == 4.0
    assert standard_deviation([4.0]) is None
    assert standard_deviation([]) is None


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_against_the_standard_library(offset: float) -> None:
    values = [offset + float(x) for x in np.random.default_rng(0).normal(size=50)]
    assert mean(values) == pytest.approx(statistics.fmean(values))
    assert standard_deviation(values) == pytest.approx(statistics.stdev(values), rel=1e-9)
