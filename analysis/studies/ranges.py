"""Ranges of a search, written as Hydra writes sweeps: `tag(log, interval(1e-4, 1e-2))`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from analysis.studies.engines.engine import needed
from conf.checking.refusals import InvalidConfiguration
from conf.composing.presets import written

_FORMS = (
    "interval(low, high), tag(log, interval(low, high)), range(start, stop) or choice(a, b), "
    "with low < high, and 0 < low for log"
)
_BETWEEN = 0.37
"""Somewhere in an interval: a key of integers accepts its ends alone."""
Space = Mapping[str, Any]
"""Optuna's distribution of each key."""


def read_ranges(key: str, ranges: Mapping[str, str]) -> Space:
    """Read the range of every key.

    Args:
        key: where they are, for messages.

    Raises:
        InvalidConfiguration: some cannot be read.
        Refusal: Optuna is not installed.
    """
    found, problems = dict[str, Any](), list[str]()
    for name, text in ranges.items():
        try:
            found[name] = _distribution(_swept(f"{name}={text}"))
        except (ValueError, TypeError):
            problems.append(f"{key}.{name}: cannot read {text!r}; expected {_FORMS}")
    if problems:
        raise InvalidConfiguration(problems)
    return found


def _distribution(override: Override | None) -> Any:
    """Return Optuna's distribution of a sweep.

    Raises:
        ValueError: it is none, or it has no values.
    """
    known = needed("optuna", "tune").distributions
    if override is None:
        raise ValueError("no sweep")
    value: Any = override.value()
    is_range = isinstance(value, RangeSweep) and value.step == 1 and isinstance(value.start, int)
    if not (is_range or isinstance(value, IntervalSweep)):
        return known.CategoricalDistribution(tuple(override.sweep_string_iterator()))
    low, high = (value.start, value.stop - 1) if is_range else (value.start, value.end)
    if isinstance(value, IntervalSweep) and low >= high:
        raise ValueError("expected low < high")
    are_integers = isinstance(low, int) and isinstance(high, int)
    kind = known.IntDistribution if are_integers else known.FloatDistribution
    return kind(low, high, log="log" in value.tags)


def samples(distribution: Any) -> list[Any]:
    """List the values to check before a search: all choices, or both ends and one between."""
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    low, high = distribution.low, distribution.high
    return [low, *([] if isinstance(low, int) else [low + _BETWEEN * (high - low)]), high]


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
