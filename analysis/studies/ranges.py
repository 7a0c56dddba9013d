"""Ranges of a search, written as Hydra writes sweeps: `tag(log, interval(1e-4, 1e-2))`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from conf.checking.refusals import InvalidConfiguration
from conf.composing.presets import written

_FORMS = (
    "interval(low, high), tag(log, interval(low, high)), range(start, stop) or choice(a, b), "
    "with low < high, and 0 < low for log"
)
_BETWEEN = 0.37
"""Somewhere in an interval: a key of integers accepts its ends alone."""


@dataclass(frozen=True)
class Dimension:
    """The values of one key.

    Attributes:
        choices: the values as words; empty for an interval.
        low: the smallest value of an interval.
        high: the largest.
        is_log: whether an interval is searched on a logarithmic scale.
        is_integer: whether an interval has integers only.
    """

    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    is_integer: bool = False

    def samples(self) -> list[str]:
        """List the values to check before a search: all choices, or both ends and one between."""
        if self.choices:
            return list(self.choices)
        if self.is_integer:
            return [str(int(self.low)), str(int(self.high))]
        return [str(self.low), str(self.low + _BETWEEN * (self.high - self.low)), str(self.high)]


def read_ranges(key: str, ranges: Mapping[str, str]) -> dict[str, Dimension]:
    """Read the range of every key.

    Args:
        key: where they are, for messages.

    Raises:
        InvalidConfiguration: some cannot be read.
    """
    dimensions, problems = {}, []
    for name, text in ranges.items():
        try:
            dimensions[name] = _dimension(OverridesParser.create().parse_override(f"{name}={text}"))
        except (HydraException, OmegaConfBaseException, ValueError, TypeError):
            problems.append(f"{key}.{name}: cannot read {text!r}; expected {_FORMS}")
    if problems:
        raise InvalidConfiguration(problems)
    return dimensions


def _dimension(override: Override) -> Dimension:
    value: Any = override.value()
    is_range = isinstance(value, RangeSweep) and value.step == 1 and isinstance(value.start, int)
    if not is_range and not isinstance(value, IntervalSweep):
        choices = tuple(override.sweep_string_iterator()) if override.is_sweep_override() else ()
        if not choices:
            raise ValueError
        return Dimension(choices)
    start: Any = value.start
    end: Any = value.stop if is_range else value.end
    is_log = "log" in value.tags
    if start >= end or (is_log and start <= 0):
        raise ValueError
    if is_range:
        return Dimension((), start, end - 1, is_log, True)
    return Dimension((), start, end, is_log, isinstance(start, int) and isinstance(end, int))


def with_ranges(words: Sequence[str]) -> list[str]:
    """Gather the ranges of a command line, `key=interval(1, 2)` or `key=1,2`, as `tuning.keys`."""
    others, ranges = [], {}
    for word in words:
        key, _, text = word.partition("=")
        if not _is_range(word):
            others.append(word)
        else:
            ranges[key] = text if "(" in text else f"choice({text})"
    return [*others, written("tuning.keys", ranges)] if ranges else others


def _is_range(word: str) -> bool:
    if word.startswith("-") or "=" not in word:
        return False
    try:
        return OverridesParser.create().parse_override(word).is_sweep_override()
    except (HydraException, OmegaConfBaseException):
        return False  # refused with every other word


def values_of(parameters: Mapping[str, Any]) -> list[str]:
    """Write the words that set the values of a trial."""
    return [f"{key}={value}" for key, value in parameters.items()]
