"""The numbers that a report gives for each arm: their titles, words and raw values."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from analysis.comparison import ArmResult, Axis
from analysis.wording import MISSING, bounds, number, percent

_MEANS = ("probe_score", "training_seconds", "steps_per_second", "parameters", "peak_memory_mib")


class Measure(NamedTuple):
    """A column of numbers.

    Attributes:
        meaning: with its unit, in a sentence's part.
        text: what a reader sees.
    """

    title: str
    meaning: str
    text: Callable[[ArmResult], str]


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
        **{name: result.cost(name) for name in _MEANS},
    }


def shown(measures: Sequence[Measure], results: Sequence[ArmResult]) -> list[Measure]:
    """Leave out measures that no arm has."""
    return [each for each in measures if any(each.text(arm) != MISSING for arm in results)]


def _like_score(value: float, result: ArmResult) -> str:
    """Write a number as exactly as the score is known."""
    low, high = result.interval
    return number(value, (high - low) / 2)


def _solved(result: ArmResult) -> str:
    known = result.num_solved is not None and result.n
    return f"{result.num_solved} of {result.n}" if known else MISSING


def _success(result: ArmResult) -> str:
    low, high = result.success_interval
    return MISSING if math.isnan(low) or not result.n else f"{percent(low)} to {percent(high)}"


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


SCORE = Measure("score", "mean over runs", lambda result: _like_score(result.mean, result))
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
    lambda result: _like_score(result.area, result),
)
PROBE = Measure(
    "hidden state",
    "held-out score (R2; choices: accuracy) of what is hidden, read by an MLP from the memory's "
    "state, or from the features without a memory: mean over runs that `analyze.py` probed",
    lambda result: number(result.cost("probe_score"), 0.1),
)
STEPS_PER_SECOND = _cost("steps/s", "environment steps per second of training", "steps_per_second")
PARAMETERS = _cost("parameters", "of all networks", "parameters")
MEMORY = _cost("peak MiB", "peak memory of the process", "peak_memory_mib")
SECONDS = _cost("seconds", "of collecting and learning, per run", "training_seconds")
STATUS = Measure("status", "runs by status", lambda result: result.statuses)

SCORES = (SCORE, INTERVAL, RUNS, SOLVED, SUCCESS, STEPS_TO_SOLVE, SECONDS_TO_SOLVE, AREA, PROBE)
COSTS = (SECONDS, STEPS_PER_SECOND, PARAMETERS, MEMORY)
# What a narrow terminal shows; the choices that name arms take turns with them.
BY_IMPORTANCE = (
    SCORE, INTERVAL, RUNS, SOLVED, STEPS_TO_SOLVE, STEPS_PER_SECOND, PARAMETERS, SECONDS_TO_SOLVE,
    AREA, PROBE, MEMORY,
)  # fmt: skip
