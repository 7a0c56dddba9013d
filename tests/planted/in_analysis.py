"""Faults in comparisons: an interval too narrow, a winner too many, a run that should not count."""

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
            "the rank test is one-sided",
            "np.abs(np.arange(ways.shape[1]) - n * (size + 1))",
            "np.arange(ways.shape[1]) - n * (size + 1)",
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
            "size = resamples, max(1, array.size - 1)",
            "size = resamples, array.size",
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
    *plant(
        "analysis/comparison.py",
        "analysis/test_comparison.py",
        (
            "unfinished runs count",
            'if run.status != "finished" and plan.status == "finished":',
            'if run.status != "finished" and plan.status == "never":',
        ),
        (
            "a repeated seed is a second sample",
            "kept = {run.seed: run for run in able}",
            "kept = {number: run for number, run in enumerate(able)}",
        ),
        (
            "scores around the threshold are bimodal",
            "return bool(2 * gap > np.ptp(scores))",
            "return bool(gap > 0)",
        ),
    ),
    *plant(
        "analysis/verdict.py",
        "analysis/test_verdict.py",
        (
            "comparisons are not corrected for their number",
            "corrected = holm([pair.p_value for pair in pairs])",
            "corrected = [pair.p_value for pair in pairs]",
        ),
        (
            "runs that solve or fail are compared by their means",
            "by_success = is_known and (one.is_bimodal or other.is_bimodal)",
            "by_success = is_known and (one.is_bimodal and other.is_bimodal)",
        ),
        (
            "seeds that are there are asked for again",
            "more = max(1, int(seeds) - min(self.first.n, self.second.n))",
            "more = max(1, int(seeds))",
        ),
    ),
    *plant(
        "analysis/report/panels.py",
        "analysis/report/test_data.py",
        (
            "bands of curves are as wide as those of many runs",
            "student_quantile(_QUANTILE, count - 1) * deviation",
            "student_quantile(_QUANTILE, 1000) * deviation",
        ),
        (
            "a curve goes on without the runs that ended",
            "middle = values.mean(axis=0)",
            "middle = np.nanmean(values, axis=0)",
        ),
    ),
    *plant(
        "analysis/runs.py",
        "analysis/test_runs.py",
        (
            "a probe of earlier weights counts",
            'probe["env_steps"] == env_steps',
            'probe["env_steps"] <= env_steps',
        ),
    ),
    *plant(
        "analysis/probing/recording.py",
        "analysis/probing/test_probe.py",
        (
            "what is hidden is told a step late",
            "hidden.append(copy.deepcopy(teller.full_observation()))",
            "hidden.append(hidden[-1] if hidden else copy.deepcopy(teller.full_observation()))",
        ),
    ),
]
