"""Statistics of scores over seeds: pure functions of numbers."""

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    """Average at least one value."""
    return math.fsum(values) / len(values)


def standard_deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation.

        s = sqrt(sum((x - mean)^2) / (n - 1))

    None for a single value.
    """
    if len(values) < 2:
        return None
    center = mean(values)
    return math.sqrt(math.fsum((value - center) ** 2 for value in values) / (len(values) - 1))
