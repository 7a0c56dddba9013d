"""Numbers and values in the words of a report."""

import math
from collections.abc import Sequence

from conf.composing.choices import Choice

MISSING = "-"
"""No number."""


def word(value: Choice) -> str:
    """Write a value for a reader, with thousands separators."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else value


def number(value: float | None, like: float | None = None) -> str:
    """Write a number with the decimals that matter.

    Args:
        like: how exactly it is known, such as an interval's half width, which is written with two
            significant digits at most; by default the number itself, with three, or whole.
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    exact = 0.0 if value == round(value) else abs(value) / 10
    unsure = abs(like) if like and math.isfinite(like) else exact
    decimals = 0 if unsure == 0 else min(6, max(0, 1 - math.floor(math.log10(unsure))))
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def whole(value: float) -> str:
    """Write a count or a duration: whole from ten on."""
    return number(value, 10.0 if abs(value) >= 10 else None)


def bounds(low: float, high: float) -> str:
    """Write an interval; nothing for one that is unknown."""
    if math.isnan(low) or math.isnan(high):
        return ""
    half = (high - low) / 2
    return f"[{number(low, half)}, {number(high, half)}]"


def known(value: float, interval: tuple[float, float]) -> tuple[str, str]:
    """Write a number as exactly as its interval, and the interval."""
    low, high = interval
    return number(value, (high - low) / 2), bounds(low, high)


def percent(share: float) -> str:
    """Write a share."""
    return MISSING if math.isnan(share) else f"{100 * share:.0f}%"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Join names as a sentence does: `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def some(names: Sequence[str], most: int = 4) -> str:
    """Join names, the first of them if there are many, and count the others."""
    rest = len(names) - most
    return listed(names) if rest < 2 else listed([*names[:most], f"{rest:,} more"])


def plural(count: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
