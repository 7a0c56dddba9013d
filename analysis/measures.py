"""The numbers that a report gives for each arm: their titles, words and raw values."""

import math
from collections.abc import Callable, Sequence

from analysis.comparison import ArmResult
from analysis.runs import Axis
from analysis.wording import MISSING, bounds, number, percent, whole

STATUS = "status"
BY_IMPORTANCE = (
    "score", "95% interval", "runs", "solved", "steps to solve", "steps/s", "parameters",
    "seconds to solve", "mean height", "hidden state", "peak MiB",
)  # fmt: skip
"""What a narrow terminal shows; the choices that name arms take turns with them."""


def told(title: str, arm: ArmResult) -> str:
    """Write a measure of an arm for a reader."""
    return _TEXTS[title](arm)


def shown(titles: Sequence[str], arms: Sequence[ArmResult]) -> list[str]:
    """Leave out measures that no arm has."""
    return [title for title in titles if any(told(title, arm) != MISSING for arm in arms)]


def _like_score(value: float, arm: ArmResult) -> str:
    """Write a number as exactly as the score is known."""
    low, high = arm.interval
    return number(value, (high - low) / 2)


def _success(arm: ArmResult) -> str:
    low, high = arm.success_interval
    return MISSING if math.isnan(low) else f"{percent(low)} to {percent(high)}"


def _time(arm: ArmResult, axis: Axis) -> str:
    times, median = arm.times(axis), arm.median_time(axis)
    reached = sum(map(math.isfinite, times))
    told = "not reached" if math.isinf(median) else whole(median)
    return told if reached in (0, len(times)) else f"{told} ({reached} of {len(times)})"


Texts = dict[str, Callable[[ArmResult], str]]
_SCORES: Texts = {
    "score": lambda arm: _like_score(arm.mean, arm),
    "95% interval": lambda arm: bounds(*arm.interval) or MISSING,
    "runs": lambda arm: f"{arm.n}",
    "solved": lambda arm: MISSING if arm.num_solved is None else arm.solved,
    "95% of success": _success,
    "steps to solve": lambda arm: _time(arm, "env_steps"),
    "seconds to solve": lambda arm: _time(arm, "seconds"),
    "mean height": lambda arm: _like_score(arm.area, arm),
    "hidden state": lambda arm: number(arm.cost("probe_score"), 0.1),
}
_COSTS: Texts = {
    "seconds": lambda arm: whole(arm.cost("training_seconds")),
    "steps/s": lambda arm: whole(arm.cost("steps_per_second")),
    "parameters": lambda arm: whole(arm.cost("parameters")),
    "peak MiB": lambda arm: whole(arm.cost("peak_memory_mib")),
}
_TEXTS: Texts = {**_SCORES, **_COSTS, "status": lambda arm: arm.statuses}
"""Measures by the titles of their columns; report/words.jinja says what they mean."""
SCORES, COSTS = tuple(_SCORES), tuple(_COSTS)
