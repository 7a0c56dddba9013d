"""Faults in statistics: an interval too narrow, a winner too many."""

from tests.planted.fault import plant

FAULTS = [
    *plant(
        "analysis/statistics.py",
        "analysis/test_statistics.py",
        (
            "the variance of few scores is divided by n",
            "shifted.var(ddof=1)",
            "shifted.var(ddof=0)",
        ),
        (
            "equal scores vary by rounding",
            "shifted = array - array[0]",
            "shifted = array - 0.0 * array[0]",
        ),
        (
            "degrees of freedom are those of the pooled test",
            "1 / ((variances / variances.sum()) ** 2 / own).sum()",
            "own.sum()",
        ),
        (
            "the power that is asked for is always a half",
            "tails = ((1 + level) / 2, power)",
            "tails = ((1 + level) / 2, 0.5)",
        ),
        (
            "Wilson's interval is centred at the observed rate",
            "centre = (successes + z * z / 2) / (n + z * z)",
            "centre = successes / max(n, 1)",
        ),
        (
            "Newcombe's interval takes the wrong ends",
            "math.hypot(rate_a - a.low, b.high - rate_b)",
            "math.hypot(a.high - rate_a, rate_b - b.low)",
        ),
        (
            "Fisher's test is one-sided",
            "if count <= ways[k_a])",
            "if count == ways[k_a])",
        ),
        (
            "Holm's p-values may fall",
            "np.maximum.accumulate(factors * given[order])",
            "factors * given[order]",
        ),
        ("half of the scores are cut off at each end", "pooled.size // 4", "pooled.size // 3"),
        (
            "ties count as improvements",
            "np.sign(np.subtract.outer(*pair)).mean()",
            "np.where(np.subtract.outer(*pair) >= 0, 1, -1).mean()",
        ),
        (
            "as many runs are drawn as there are",
            "max(1, array.size - 1)",
            "array.size",
        ),
        (
            "the bootstrap has the tails of the normal distribution",
            "NormalDist().cdf(-student_quantile((1 + level) / 2, degrees))",
            "(1 - level) / 2",
        ),
        (
            "a curve's area is the mean of its points",
            "np.trapezoid(np.interp(grid, points, values), grid) / until",
            "np.mean(np.interp(grid, points, values))",
        ),
        (
            "a threshold is to be passed",
            "[np.asarray(values) >= threshold]",
            "[np.asarray(values) > threshold]",
        ),
    ),
]
