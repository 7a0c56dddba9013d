"""The numbers that a report gives for each arm: their titles, words and raw values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.comparison import ArmResult, Axis
from analysis.wording import MISSING, bounds, number, percent


@dataclass(frozen=True)
class Measure:
    """A column of numbers.

    Attributes:
        meaning: with its unit, in a sentence's part.
        text: what a reader sees.
    """

    title: str
    meaning: str
    text: Callable[[ArmResult], str]


def half_width(result: ArmResult) -> float:
    """Half the width of the score's interval, which decides how many digits matter."""
    low, high = result.interval
    return (high - low) / 2


def raw_numbers(result: ArmResult) -> dict[str, float | int | None]:
    """Return the unrounded numbers of all measures, by their names in CSV files."""
    return {
        "score_mean": result.mean,
        "score_low": result.interval.low,
        "score_high": result.interval.high,
        "runs": result.n,
        "solved": result.num_solved,
        "success_low": result.success_interval.low,
        "success_high": result.success_interval.high,
        "env_steps_to_solve": result.median_time("env_steps"),
        "seconds_to_solve": result.median_time("seconds"),
        "area": result.area,
        **{name: result.cost(name) for name in _COSTS},
    }


_COSTS = ("training_seconds", "steps_per_second", "parameters", "peak_memory_mib")


def _solved(result: ArmResult) -> str:
    if result.num_solved is None or not result.n:
        return MISSING
    return f"{result.num_solved} of {result.n}"


def _success(result: ArmResult) -> str:
    low, high = result.success_interval
    if math.isnan(low) or not result.n:
        return MISSING
    return f"{percent(low)} to {percent(high)}"


def _time(result: ArmResult, axis: Axis) -> str:
    times = result.times(axis)
    reached = sum(map(math.isfinite, times))
    median = result.median_time(axis)
    told = "not reached" if math.isinf(median) else _whole(median)
    return told if reached in (0, len(times)) else f"{told} ({reached} of {len(times)})"


def _whole(value: float) -> str:
    """Write a count or a duration: whole from ten on."""
    return number(value, 10.0 if abs(value) >= 10 else None)


def _cost(title: str, meaning: str, name: str) -> Measure:
    return Measure(title, meaning, lambda result: _whole(result.cost(name)))


SCORE = Measure("score", "mean over runs", lambda result: number(result.mean, half_width(result)))
INTERVAL = Measure(
    "95% interval",
    "Student's t interval of the mean score",
    lambda result: bounds(*result.interval) or MISSING,
)
RUNS = Measure("runs", "runs that count", lambda result: f"{result.n}")
SOLVED = Measure("solved", "runs whose score reaches the task's `solved_at`", _solved)
SUCCESS = Measure(
    "95% of success", "Wilson's interval of the share of runs that solve the task", _success
)
STEPS_TO_SOLVE = Measure(
    "steps to solve",
    "environment steps until an evaluation first reaches `solved_at`: median over runs, and how "
    "many reach it if not all",
    lambda result: _time(result, "env_steps"),
)
SECONDS_TO_SOLVE = Measure(
    "seconds to solve",
    "the same in seconds of collecting and learning",
    lambda result: _time(result, "seconds"),
)
AREA = Measure(
    "mean height",
    "of the learning curve over the budget (area under the curve / budget)",
    lambda result: number(result.area, half_width(result)),
)
STEPS_PER_SECOND = _cost("steps/s", "environment steps per second of training", "steps_per_second")
PARAMETERS = _cost("parameters", "of all networks", "parameters")
MEMORY = _cost("peak MiB", "peak memory of the process", "peak_memory_mib")
SECONDS = _cost("seconds", "of collecting and learning, per run", "training_seconds")

SCORES = (SCORE, INTERVAL, RUNS, SOLVED, SUCCESS, STEPS_TO_SOLVE, SECONDS_TO_SOLVE, AREA)
COSTS = (SECONDS, STEPS_PER_SECOND, PARAMETERS, MEMORY)
MEASURES = (*SCORES, *COSTS)
"""In the order of a report's columns."""


def known(measures: Sequence[Measure], results: Sequence[ArmResult]) -> list[Measure]:
    """Leave out measures that no arm has."""
    return [
        measure
        for measure in measures
        if any(measure.text(result) != MISSING for result in results)
    ]
