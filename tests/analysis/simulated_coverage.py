"""Simulates how often 95% intervals contain the truth: the tables of docs/statistics.md.

    python -m tests.analysis.simulated_coverage

It takes some minutes. Coverage of rates is exact, a sum over all outcomes; the rest is simulated.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from math import comb
from statistics import fmean

import numpy as np
from numpy.random import Generator

from analysis.statistics import (
    FloatArray,
    Interval,
    difference_interval,
    improvement_interval,
    interquartile_mean,
    mean_interval,
    probability_of_improvement,
    stratified_bootstrap,
    success_difference_interval,
    wilson_interval,
)

NUM_RUNS = (3, 5, 10, 20)
RATES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
EVERY_RATE = np.linspace(0.5, 0.99, 50)
Draw = Callable[[Generator, int], FloatArray]


def skewed(generator: Generator, n: int) -> FloatArray:
    """Gamma-distributed with skewness 1."""
    return (generator.gamma(4, size=n) - 4) / 2


def exponential(generator: Generator, n: int) -> FloatArray:
    """Skewness 2."""
    return generator.exponential(size=n) - 1


def solve_or_fail(generator: Generator, n: int, rate: float) -> FloatArray:
    """Runs that score 1 with a probability and else 0, shifted to mean 0, with a little noise."""
    return (generator.random(n) < rate) - rate + 0.03 * generator.standard_normal(n)


def spread(draw: Draw, factor: float) -> Draw:
    return lambda generator, n: factor * draw(generator, n)


# Their means are 0.
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": Generator.standard_normal,
    "skewed (skewness 1)": skewed,
    "exponential (skewness 2)": exponential,
}


def covers(interval: Interval, truth: float) -> bool:
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def share(outcomes: Iterable[bool]) -> float:
    return fmean(map(float, outcomes))


def student(draw: Draw, n: int, repetitions: int = 20_000) -> float:
    generator = np.random.default_rng(n)
    return share(covers(mean_interval(draw(generator, n)), 0) for _ in range(repetitions))


def welch(first: Draw, second: Draw, n: int, repetitions: int = 10_000) -> float:
    generator = np.random.default_rng(n)
    return share(
        covers(difference_interval(first(generator, n), second(generator, n)), 0)
        for _ in range(repetitions)
    )


def binomial(rate: float, n: int) -> list[float]:
    return [comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]


def wilson(rate: float, n: int) -> float:
    chances = binomial(rate, n)
    return sum(chances[k] for k in range(n + 1) if covers(wilson_interval(k, n), rate))


def newcombe(rates: tuple[float, float], n: int) -> float:
    chances = [binomial(rate, n) for rate in rates]
    return sum(
        chances[0][a] * chances[1][b]
        for a, b in product(range(n + 1), repeat=2)
        if covers(success_difference_interval(a, n, b, n), rates[0] - rates[1])
    )


def tasks_like(draw: Draw, num_tasks: int, generator: Generator, n: int) -> list[FloatArray]:
    """Tasks of one distribution, with means from 0.2 to 0.9 and deviations from 0.05 to 0.2."""
    places = zip(np.linspace(0.2, 0.9, num_tasks), np.linspace(0.05, 0.2, num_tasks), strict=True)
    return [mean + deviation * draw(generator, n) for mean, deviation in places]


def mixed_tasks(num_tasks: int, generator: Generator, n: int) -> list[FloatArray]:
    """Normalized scores as they occur: saturated, solve or fail, in between, hardly learnt."""
    return [
        task
        for _ in range(num_tasks // 4)
        for task in (
            generator.beta(20, 2, size=n),
            0.1 + 0.85 * (solve_or_fail(generator, n, 0.7) + 0.7),
            generator.beta(4, 4, size=n),
            0.15 + 0.1 * generator.exponential(size=n),
        )
    ]


MakeTasks = Callable[[Generator, int], list[FloatArray]]


def task_sets(num_tasks: int) -> dict[str, MakeTasks]:
    alike = {name: partial(tasks_like, draw, num_tasks) for name, draw in DISTRIBUTIONS.items()}
    return {**alike, "mixed, some solve or fail": partial(mixed_tasks, num_tasks)}


STATISTICS: dict[str, Callable[[FloatArray], float]] = {
    "mean": lambda scores: float(scores.mean()),
    "IQM": interquartile_mean,
}


def bootstrap(make: MakeTasks, n: int, statistic: str, repetitions: int = 800) -> float:
    generator, compute = np.random.default_rng(n), STATISTICS[statistic]
    truth = fmean(compute(np.concatenate(make(generator, 20_000))) for _ in range(10))
    return share(
        covers(stratified_bootstrap(make(generator, n), compute, resamples=400, seed=k), truth)
        for k in range(repetitions)
    )


def improvement(make: MakeTasks, n: int, repetitions: int = 500) -> float:
    """Of an arm over one that scores 0.1 less."""
    generator = np.random.default_rng(n)

    def arms(n: int) -> tuple[list[FloatArray], list[FloatArray]]:
        return make(generator, n), [task - 0.1 for task in make(generator, n)]

    truth = fmean(probability_of_improvement(*arms(1000)) for _ in range(10))
    return share(
        covers(improvement_interval(*arms(n), resamples=400, seed=k), truth)
        for k in range(repetitions)
    )


def table(title: str, columns: Sequence[str], rows: dict[str, list[float]]) -> str:
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, shares in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return "\n".join(lines) + "\n"


def of_one_task() -> str:
    rows = {name: [student(draw, n) for n in NUM_RUNS] for name, draw in DISTRIBUTIONS.items()}
    for rate in RATES[:-1]:
        draw = partial(solve_or_fail, rate=rate)
        rows[f"solve or fail, rate {rate:.0%}"] = [student(draw, n) for n in NUM_RUNS]
    return table("mean, runs:", [str(n) for n in NUM_RUNS], rows)


def of_differences() -> str:
    rows = {
        f"{name}, deviations 1 : {factor}": [welch(draw, spread(draw, factor), n) for n in NUM_RUNS]
        for name, draw in DISTRIBUTIONS.items()
        for factor in (1, 3)
    }
    for rates in ((0.8, 0.8), (0.5, 0.9)):
        first, second = (partial(solve_or_fail, rate=rate) for rate in rates)
        name = "solve or fail, rates {:.0%} and {:.0%}".format(*rates)
        rows[name] = [welch(first, second, n) for n in NUM_RUNS]
    return table("difference of means, runs per arm:", [str(n) for n in NUM_RUNS], rows)


def of_rates() -> str:
    every = {n: [wilson(rate, n) for rate in EVERY_RATE] for n in NUM_RUNS}
    pairs = list(product(EVERY_RATE[::7], repeat=2))
    both = {n: [newcombe(pair, n) for pair in pairs] for n in NUM_RUNS}
    rows = {f"rate {rate:.0%}": [wilson(rate, n) for n in NUM_RUNS] for rate in RATES}
    rows["average over rates of 50-99%"] = [fmean(every[n]) for n in NUM_RUNS]
    rows["lowest"] = [min(every[n]) for n in NUM_RUNS]
    rows["difference of two rates, average"] = [fmean(both[n]) for n in NUM_RUNS]
    rows["difference of two rates, lowest"] = [min(both[n]) for n in NUM_RUNS]
    return table("rate, runs:", [str(n) for n in NUM_RUNS], rows)


def of_several_tasks(num_tasks: int) -> str:
    sets, runs = task_sets(num_tasks), NUM_RUNS[:3]
    rows = {
        f"{statistic}, {name}": [bootstrap(make, n, statistic) for n in runs]
        for statistic in STATISTICS
        for name, make in sets.items()
    }
    for name in ("normal", "mixed, some solve or fail"):
        rows[f"probability of improvement, {name}"] = [improvement(sets[name], n) for n in runs]
    return table(f"{num_tasks} tasks, runs of each:", [str(n) for n in runs], rows)


if __name__ == "__main__":
    print(of_one_task(), of_differences(), of_rates(), sep="\n", flush=True)
    print(of_several_tasks(8), of_several_tasks(4), sep="\n")
