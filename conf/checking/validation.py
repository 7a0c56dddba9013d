"""Compares a composed configuration with `conf.schema.run`, leaf by leaf.

Every problem is reported in one line: the key, the expected and the given value, and the
nearest valid word. Rules between keys are beside the options.
"""

import math
import types
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from conf.checking.suggestions import did_you_mean, key_hint, translates
from conf.checking.trust import (
    is_ours,
    is_trusted,
    target_problems,
    trust_problems,
    trusted_names,
)
from conf.composing.stored import strange_values
from conf.schema.registry import OTHER_TARGETS, TARGETS, WITH_OPTIONS, options_of
from conf.schema.scripts import ROOTS
from conf.schema.types import Free, Target, describe, given_twice, nested, show

MISSING_VALUE = "???"


def checked(
    config: dict[str, Any], config_name: str = "config"
) -> tuple[dict[str, Any], list[str]]:
    """Return the typed configuration (1e5 becomes 100000), and all its problems.

    Without problems the result is plain data without interpolations: a value is resolved once,
    before it is checked.
    """
    strange = list(strange_values(config))
    if strange:
        return config, strange
    trusted = trusted_names(config)
    walk = _Walk(trusted)
    typed = walk.value("", config, ROOTS[config_name])
    told = {problem.partition(":")[0] for problem in walk.problems}
    named = [p for p in target_problems(config, trusted) if p.partition(":")[0] not in told]
    found = trust_problems(trusted) + named + walk.problems
    for key, hint in walk.unknown.items():
        # No hint to other options if the name means another key of the chosen one.
        own = "" if translates(key, walk.known) else hint
        found.append(f"{key}: unknown key{own or key_hint(key, walk.known)}")
    return typed, found or [problem for rules in walk.rules for problem in rules(typed)]


_NO_OPTIONS = "needs an attribute Options, a dataclass of its keys; see docs/configuration.md"
_WRONG = object()


@cache
def _fields(schema: type) -> dict[str, tuple[Any, Any]]:
    """Return the type of each key of a mapping, and its default or MISSING."""
    hints = get_type_hints(schema, include_extras=True)
    made = {f.name: f.default_factory() for f in fields(schema) if callable(f.default_factory)}
    return {f.name: (hints[f.name], made.get(f.name, f.default)) for f in fields(schema)}


def _choice(path: str, group: str) -> str:
    """Return how a group is chosen for a place: `extractor@critic.extractor`."""
    return group if path == group else f"{group}@{path}"


def _owners(group: str, key: str) -> str:
    """List the classes of a group that have a key: keys differ between options."""
    known = TARGETS.get(group, {})
    owners = [
        target.rpartition(".")[2] for target, schema in known.items() if key in _fields(schema)
    ]
    return f"; only {', '.join(owners)} {'have' if len(owners) > 1 else 'has'} it" if owners else ""


def _marked(expected: Any) -> tuple[Any, Any]:
    """Return a type and what it is annotated with, None if with nothing."""
    return get_args(expected) if get_origin(expected) is Annotated else (expected, None)


def _plain(value: Any, expected: Any) -> Any:
    """Return a value typed, or _WRONG: 1e5 is an integer, true no number, nothing is infinite."""
    base, constraint = _marked(expected)
    if get_origin(base) is Literal:
        is_choice = any(type(value) is type(one) and value == one for one in get_args(base))
        return value if is_choice else _WRONG
    if base in (int, float):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or (base is int and value != int(value)):
            return _WRONG
        value = base(value)
    elif type(value) is not base:
        return _WRONG
    return value if constraint is None or constraint.allows(value) else _WRONG


def _hint(path: str, value: Any, expected: Any) -> str:
    """Return the end of a refusal: the nearest choice, or how a list or a group is written."""
    parts = [each for each in get_args(expected) if each is not type(None)]
    if isinstance(value, dict | list):
        return ""
    if get_origin(expected) is list and value is not None:
        return f"; a list is written [{str(value).strip('()[]')}]"
    if get_origin(expected) is Literal and isinstance(value, str):
        return did_you_mean(value, parts)
    if isinstance(value, str) and len(parts) == 1 and get_origin(parts[0]) is Annotated:
        constraint = get_args(parts[0])[1]
        if isinstance(constraint, Target):
            return f"; a choice is written {_choice(path, constraint.group)}={value}"
    return ""


class _Walk:
    """One pass over a configuration; collects problems, keys, known and unknown, and rules."""

    def __init__(self, trusted_packages: list[str]) -> None:
        self.trusted_packages = trusted_packages
        self.problems: list[str] = []
        self.known: list[str] = []
        self.unknown: dict[str, str] = {}  # with a hint for each
        self.rules: list[Any] = []

    def value(self, path: str, value: Any, expected: Any) -> Any:
        """Check one value against its type and return it typed."""
        if expected is Any:
            return value
        if value == MISSING_VALUE:
            return self._report(path, f"missing; expected {describe(expected)}", value)
        is_union = get_origin(expected) in (Union, types.UnionType)
        for option in get_args(expected) if is_union else (expected,):
            if isinstance(value, dict):
                typed = self._mapping(path, value, option)
            elif isinstance(value, list):
                typed = self._sequence(path, value, option)
            else:
                typed = _plain(value, option)
            if typed is not _WRONG:
                return typed
        message = f"expected {describe(expected)}, got {show(value)}"
        return self._report(path, message + _hint(path, value, expected), value)

    def _report(self, path: str, message: str, value: Any) -> Any:
        self.problems.append(f"{path}: {message}")
        return value

    def _sequence(self, path: str, value: list[Any], expected: Any) -> Any:
        kind, items = get_origin(expected), get_args(expected)
        if kind is not list and not (kind is tuple and len(value) == len(items)):
            return _WRONG
        return [self.value(f"{path}[{index}]", item, items[0]) for index, item in enumerate(value)]

    def _mapping(self, path: str, value: dict[str, Any], expected: Any) -> Any:
        base, mark = _marked(expected)
        if isinstance(mark, Target):
            check = self._tree if mark.is_tree else self._target
            return check(path, {"_target_": mark.usual, **value} if mark.usual else value, mark)
        if get_origin(base) is dict:
            kind = get_args(base)[1]
            return {key: self.value(f"{path}.{key}", item, kind) for key, item in value.items()}
        if not (isinstance(base, type) and is_dataclass(base)):
            return _WRONG
        if getattr(base, "keys_are_paths", False):
            twice = given_twice(value)
            if twice is not None:
                return self._report(f"{path}.{twice}", "given more than once", value)
            value = nested(value)
        return self._keys(path, value, base)

    def _tree(self, path: str, value: dict[str, Any], place: Target) -> Any:
        """Check a tree of mappings; each path ends at the first mapping with other values."""
        typed = {}
        for key, item in value.items():
            below = item.values() if isinstance(item, dict) else ()
            is_inner = below and all(isinstance(each, dict) for each in below)
            leaf = Annotated[Free, replace(place, is_tree=is_inner, plus="+")]
            typed[key] = self.value(f"{path}.{key}", item, leaf)
        return typed

    def _target(self, path: str, value: dict[str, Any], place: Target) -> Any:
        """Check a mapping by its class; most user classes take any keys."""
        where, target = f"{path}._target_", value.get("_target_", MISSING_VALUE)
        group, known = place.group, TARGETS[place.group]
        if target == MISSING_VALUE:
            choice = f"; choose one first with {place.plus}{_choice(path, group)}=..."
            choice = choice if group not in ("pomdp", "wrapper") else ""
            message = f"missing; expected the dotted name of a class{choice}"
            return self._report(where, message, value)
        is_accepted = isinstance(target, str) and (
            target in known or is_ours(target) or is_trusted(target, self.trusted_packages)
        )
        if not is_accepted:
            return value  # reported with every other `_target_`
        if is_ours(target) and target not in known:
            message = (
                f"expected one of {', '.join(known)} or a class of your own, got {show(target)}"
            )
            return self._report(where, message + did_you_mean(target, known), value)
        try:
            options = options_of(target, group, self.trusted_packages)
            schema = options or OTHER_TARGETS[group]
            _fields(schema)  # reads the annotations
        except Exception as error:
            return self._report(where, f"cannot use {target}: {error!r}", value)
        if options is None and group == "agent":
            return self._report(where, f"{target} {_NO_OPTIONS}", value)
        return self._keys(path, value, schema, is_open=options is None, group=group)

    def _keys(
        self,
        path: str,
        value: dict[str, Any],
        schema: type,
        is_open: bool = False,
        group: str = "",
    ) -> Any:
        """Check the keys of a mapping; an open one may have others."""
        prefix = f"{path}." if path else ""
        expected = _fields(schema)
        self.known += [f"{prefix}{name}" for name in expected]
        self.rules += [schema.problems] if hasattr(schema, "problems") else []
        typed = {}
        for key, item in value.items():
            if key in expected:
                typed[key] = self.value(f"{prefix}{key}", item, expected[key][0])
            else:
                typed[key] = item
                if key != "_target_" and not is_open:
                    self.unknown[f"{prefix}{key}"] = _owners(group, key)
        for name, (kind, default) in expected.items():
            if name not in value and default is MISSING:
                self._report(f"{prefix}{name}", f"missing; expected {describe(kind)}", None)
            elif name not in value and group in WITH_OPTIONS:
                typed[name] = deepcopy(default)  # only in a user's class
        return typed
