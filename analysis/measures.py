"""The numbers that a report gives for each arm: their titles, words and raw values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.comparison import ArmResult, Axis
from analysis.wording import MISSING, bounds, number, percent

Raw = float | int | None


@dataclass(frozen=True)
class Measure:
    """A column of numbers.

    Attributes:
        name: in CSV files.
        meaning: with its unit, in a sentence's part.
        text: what a reader sees.
        values: raw numbers by their names in CSV files.
    """

    title: str
    meaning: str
    text: Callable[[ArmResult], str]
    values: Callable[[ArmResult], dict[str, Raw]]


def half_width(result: ArmResult) -> float:
    """Half the width of the score's interval, which decides how many digits matter."""
    low, high = result.interval
    return (high - low) / 2


def _score(result: ArmResult) -> dict[str, Raw]:
    return {"score_mean": result.mean}


def _interval(result: ArmResult) -> dict[str, Raw]:
    return {"score_low": result.interval.low, "score_high": result.interval.high}


def _solved_text(result: ArmResult) -> str:
    if result.num_solved is None or not result.n:
        return MISSING
    return f"{result.num_solved} of {result.n}"


def _success_text(result: ArmResult) -> str:
    low, high = result.success_interval
    if math.isnan(low) or not result.n:
        return MISSING
    return f"{percent(low)} to {percent(high)}"


def _success(result: ArmResult) -> dict[str, Raw]:
    return {
        "success_low": result.success_interval.low,
        "success_high": result.success_interval.high,
    }


def _time_text(axis: Axis) -> Callable[[ArmResult], str]:
    def text(result: ArmResult) -> str:
        times = result.times(axis)
        if not times:
            return MISSING
        reached = sum(map(math.isfinite, times))
        median = result.median_time(axis)
        if math.isinf(median):
            return f"not reached ({reached} of {len(times)})" if reached else "not reached"
        told = number(median, 10 if axis == "env_steps" else None)
        return told if reached == len(times) else f"{told} ({reached} of {len(times)})"

    return text


def _time(axis: Axis) -> Callable[[ArmResult], dict[str, Raw]]:
    return lambda result: {f"{axis}_to_solve": result.median_time(axis)}


def _whole(value: float) -> str:
    """Write a count or a duration: whole from ten on."""
    return number(value, 10.0 if abs(value) >= 10 else None)


def _cost(title: str, meaning: str, name: str) -> Measure:
    return Measure(
        title,
        meaning,
        lambda result: _whole(result.cost(name)),
        lambda result: {name: result.cost(name)},
    )


SCORE = Measure(
    "score", "mean over runs", lambda result: number(result.mean, half_width(result)), _score
)
INTERVAL = Measure(
    "95% interval",
    "Student's t interval of the mean score",
    lambda result: bounds(*result.interval) or MISSING,
    _interval,
)
RUNS = Measure(
    "runs", "runs that count", lambda result: f"{result.n}", lambda result: {"runs": result.n}
)
SOLVED = Measure(
    "solved",
    "runs whose score reaches the task's `solved_at`",
    _solved_text,
    lambda result: {"solved": result.num_solved},
)
SUCCESS = Measure(
    "95% of success",
    "Wilson's interval of the share of runs that solve the task",
    _success_text,
    _success,
)
STEPS_TO_SOLVE = Measure(
    "steps to solve",
    "environment steps until an evaluation first reaches `solved_at`: median over runs, and how "
    "many reach it if not all",
    _time_text("env_steps"),
    _time("env_steps"),
)
SECONDS_TO_SOLVE = Measure(
    "seconds to solve",
    "the same in seconds of collecting and learning",
    _time_text("seconds"),
    _time("seconds"),
)
AREA = Measure(
    "mean height",
    "mean height of the learning curve over the budget (area under the curve / budget)",
    lambda result: number(result.area, half_width(result)),
    lambda result: {"area": result.area},
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
