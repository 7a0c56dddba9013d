"""Where a 95% interval covers the truth less often than it says: a sentence for the reader.

The coverages are those of the tables in docs/statistics.md.
"""

import numpy as np

from analysis.statistics import Scores, Tasks

MIN_RUNS = 3
MIN_RATE_RUNS = 20
MIN_TASK_RUNS = 5
_COVER = "such intervals cover"
MAX_SKEWNESS = 1.2
"""Of a sample. Of 5 or 10 normal scores it is larger by chance in 5% of samples, of 20 in 2%."""


def mean_caveat(scores: Scores, solved: str = "") -> str | None:
    """Caveat of `mean_interval`; None where it is recommended.

    Args:
        solved: how many runs solve the task, "4 of 5", where the others fail.
    """
    n = len(scores)
    if n < MIN_RUNS:
        return f"{n} of at least {MIN_RUNS} runs: too few for an interval of the mean"
    if np.ptp(scores) == 0:
        return f"all {n} runs scored the same: an interval without width is no certainty"
    if solved:
        told = f"{solved} runs solve the task, and the others fail"
        return f"{told}: {_COVER} 39 to 96%, not 95%; read the success rate"
    if abs(skewness := _skewness(scores)) > MAX_SKEWNESS:
        told = f"{n} scores with a long tail (skewness {skewness:.1f})"
        return f"{told}: {_COVER} 88 to 92%, not 95%"
    return None


def rate_caveat(n: int) -> str | None:
    """Caveat of `wilson_interval`, and of a difference of rates, where n is the smaller arm's."""
    if n >= MIN_RATE_RUNS:
        return None
    return (
        f"success rate of {n} runs: {_COVER} 95% on average over all rates, 83% at the worst rate"
    )


def bootstrap_caveat(tasks: Tasks) -> str | None:
    """Caveat of `stratified_bootstrap` and `improvement_interval`."""
    runs = min(map(len, tasks))
    if runs >= MIN_TASK_RUNS:
        return None
    told = f"{runs} of at least {MIN_TASK_RUNS} runs of a task"
    return f"{told}: of 8 tasks with 3 runs, bootstrap intervals cover 88 to 98%, not 95%"


def _skewness(scores: Scores) -> float:
    deviations = np.asarray(scores, np.float64) - np.mean(scores)
    return float(np.mean(deviations**3) / np.mean(deviations**2) ** 1.5)
