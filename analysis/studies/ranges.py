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
    """The values of one key: choices as words, or an interval from the lowest to the highest."""

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
    found = {name: _dimension(_swept(f"{name}={text}")) for name, text in ranges.items()}
    problems = [
        f"{key}.{name}: cannot read {ranges[name]!r}; expected {_FORMS}"
        for name, dimension in found.items()
        if dimension is None
    ]
    if problems:
        raise InvalidConfiguration(problems)
    return {name: dimension for name, dimension in found.items() if dimension is not None}


def _dimension(override: Override | None) -> Dimension | None:
    """Return the values of a sweep; None if there are none."""
    value: Any = None if override is None else override.value()
    is_range = isinstance(value, RangeSweep) and value.step == 1 and isinstance(value.start, int)
    if override is None or not (is_range or isinstance(value, IntervalSweep)):
        choices = () if override is None else tuple(override.sweep_string_iterator())
        return Dimension(choices) if choices else None
    low, high = (value.start, value.stop - 1) if is_range else (value.start, value.end)
    is_log = "log" in value.tags
    if not isinstance(low, int | float) or low > high or (is_log and low <= 0):
        return None
    is_integer = isinstance(low, int) and isinstance(high, int)
    return Dimension((), low, high, is_log, is_integer) if is_range or low < high else None


def with_ranges(words: Sequence[str]) -> list[str]:
    """Gather the ranges of a command line, `key=interval(1, 2)` or `key=1,2`, as `tuning.keys`."""
    swept = [word for word in words if _swept(word) is not None]
    ranges = {}
    for word in swept:
        key, _, text = word.partition("=")
        ranges[key] = text if "(" in text else f"choice({text})"
    others = [word for word in words if word not in swept]
    return [*others, written("tuning.keys", ranges)] if ranges else others


def _swept(word: str) -> Override | None:
    """Parse an override with several values; None for any other word, which is checked later."""
    if word.startswith("-") or "=" not in word:
        return None
    try:
        override = OverridesParser.create().parse_override(word)
        return override if override.is_sweep_override() else None
    except (HydraException, OmegaConfBaseException):
        return None


def values_of(parameters: Mapping[str, Any]) -> list[str]:
    """Write the words that set the values of a trial."""
    return [f"{key}={value}" for key, value in parameters.items()]
