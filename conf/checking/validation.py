"""Compares a composed configuration with `conf.schema.run`, leaf by leaf.

Every problem is reported in one line: the key, the expected and the given value, and the
nearest valid word. Rules between keys are in `conf.checking.rules`.
"""

import math
import types
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from conf.checking.rules import combination_problems
from conf.checking.suggestions import did_you_mean, key_hint, translates
from conf.checking.trust import (
    is_ours,
    is_trusted,
    target_problems,
    trust_problems,
    trusted_names,
)
from conf.composing.stored import strange_values
from conf.schema.registry import OTHER_TARGETS, TARGETS, AnyOptions, options_of
from conf.schema.run import ROOTS
from conf.schema.types import Target, TargetTree, describe, show

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
    if not found and config_name in ("config", "pretrain"):
        found = combination_problems(typed)
    return typed, found


_WITH_OPTIONS = ("agent", "policy_head", "value_head")
"""Groups whose user classes are imported for their options dataclass; agents need one."""
_NO_OPTIONS = "needs an attribute Options, a dataclass of its keys; see docs/configuration.md"


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


class _Walk:
    """One pass over a configuration; collects its problems and its keys, known and unknown."""

    def __init__(self, trusted_packages: list[str]) -> None:
        self.trusted_packages = trusted_packages
        self.problems: list[str] = []
        self.known: list[str] = []
        self.unknown: dict[str, str] = {}  # with a hint for each

    def value(self, path: str, value: Any, expected: Any) -> Any:
        """Check one value against its type and return it typed."""
        origin, arguments = get_origin(expected), get_args(expected)
        if isinstance(expected, type) and is_dataclass(expected):
            return self._mapping(path, value, expected)
        if isinstance(value, str) and value == MISSING_VALUE:
            return self._report(path, f"missing; expected {describe(expected)}", value)
        if origin in (Union, types.UnionType):
            return self._union(path, value, expected)
        if origin is Annotated:
            return self._annotated(path, value, arguments[0], arguments[1])
        if origin is Literal:
            is_choice = any(type(value) is type(one) and value == one for one in arguments)
            return value if is_choice else self._refuse(path, value, expected)
        if origin in (list, tuple):
            return self._sequence(path, value, expected)
        if origin is dict:
            return self._dictionary(path, value, arguments[0], arguments[1])
        return value if expected is Any else self._scalar(path, value, expected)

    def _report(self, path: str, message: str, value: Any) -> Any:
        self.problems.append(f"{path}: {message}")
        return value

    def _refuse(self, path: str, value: Any, expected: Any, hint: str = "") -> Any:
        if get_origin(expected) is Literal and isinstance(value, str):
            hint = did_you_mean(value, get_args(expected))
        return self._report(path, f"expected {describe(expected)}, got {show(value)}{hint}", value)

    @contextmanager
    def _attempt(self) -> Iterator[list[str]]:
        """Collect problems separately, for one type of several."""
        kept, self.problems = self.problems, []
        yield self.problems
        self.problems = kept

    def _scalar(self, path: str, value: Any, expected: type) -> Any:
        """Accept 1e5 for an integer, 1 for a number; true is neither, and nothing is infinite."""
        is_number = (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
        if expected is float and is_number:
            return float(value)
        if expected is int and is_number and value == int(value):
            return int(value)
        if expected in (bool, str) and type(value) is expected:
            return value
        return self._refuse(path, value, expected)

    def _annotated(self, path: str, value: Any, base: Any, constraint: Any) -> Any:
        if isinstance(constraint, Target):
            if constraint.usual and isinstance(value, dict):
                value = {"_target_": constraint.usual, **value}
            return self._target(path, value, constraint.group)
        if isinstance(constraint, TargetTree):
            return self._targets(path, value, constraint.group)
        expected = Annotated[base, constraint]
        with self._attempt() as failed:
            typed = self._scalar(path, value, base)
        is_valid = not failed and constraint.allows(typed)
        return typed if is_valid else self._refuse(path, value, expected)

    def _union(self, path: str, value: Any, expected: Any) -> Any:
        options = [option for option in get_args(expected) if option is not type(None)]
        if value is None and len(options) < len(get_args(expected)):
            return None
        lists = [option for option in options if get_origin(option) in (list, tuple)]
        fitting = lists if isinstance(value, list) and lists else options
        if len(fitting) == 1 and isinstance(value, dict | list):
            return self.value(path, value, fitting[0])
        target = options[0] if len(options) == 1 else None
        if (
            get_origin(target) is Annotated
            and isinstance(get_args(target)[1], Target)
            and isinstance(value, str)
        ):
            hint = f"; a choice is written {_choice(path, get_args(target)[1].group)}={value}"
            return self._refuse(path, value, expected, hint)
        for option in options:
            with self._attempt() as failed:
                typed = self.value(path, value, option)
            if not failed:
                return typed
        return self._refuse(path, value, expected)

    def _sequence(self, path: str, value: Any, expected: Any) -> Any:
        arguments = get_args(expected)
        is_tuple = get_origin(expected) is tuple
        if not isinstance(value, list) or (is_tuple and len(value) != len(arguments)):
            is_one = not isinstance(value, list | dict) and not is_tuple
            hint = f"; a list is written [{str(value).strip('()[]')}]" if is_one else ""
            return self._refuse(path, value, expected, hint)
        return [
            self.value(f"{path}[{index}]", item, arguments[0]) for index, item in enumerate(value)
        ]

    def _dictionary(self, path: str, value: Any, key_type: Any, value_type: Any) -> Any:
        if not isinstance(value, dict):
            return self._refuse(path, value, dict[str, Any])
        typed = {}
        for key, item in value.items():
            if get_origin(key_type) is Literal and key not in get_args(key_type):
                self._report(
                    f"{path}.{key}",
                    f"unknown; expected {describe(key_type)}"
                    + did_you_mean(str(key), get_args(key_type)),
                    item,
                )
            typed[key] = self.value(f"{path}.{key}", item, value_type)
        return typed

    def _targets(self, path: str, value: Any, group: str) -> Any:
        """Check a tree of mappings; each path ends at the first mapping with other values."""
        if not isinstance(value, dict):
            return self._refuse(path, value, dict)
        typed = {}
        for key, item in value.items():
            below = list(item.values()) if isinstance(item, dict) else []
            is_branch = bool(below) and all(isinstance(each, dict) for each in below)
            where = f"{path}.{key}"
            if is_branch:
                typed[key] = self._targets(where, item, group)
            else:
                typed[key] = self._target(where, item, group, plus="+")
        return typed

    def _target(self, path: str, value: Any, group: str, *, plus: str = "") -> Any:
        """Check a mapping by its class; most user classes take any keys."""
        if not isinstance(value, dict):
            return self._refuse(path, value, dict)
        target = value.get("_target_", MISSING_VALUE)
        if target == MISSING_VALUE:
            choice = f"; choose one first with {plus}{_choice(path, group)}=..."
            choice = choice if group not in ("pomdp", "wrapper") else ""
            return self._report(
                f"{path}._target_", f"missing; expected the dotted name of a class{choice}", value
            )
        is_named = isinstance(target, str) and (
            is_ours(target) or is_trusted(target, self.trusted_packages)
        )
        if not is_named:
            return value  # reported with every other `_target_`
        options, problem = self._options(target, group)
        if problem:
            return self._report(f"{path}._target_", problem, value)
        known = options or OTHER_TARGETS.get(group, AnyOptions)
        return self._mapping(path, value, known, is_open=options is None, group=group)

    def _options(self, target: str, group: str) -> tuple[type | None, str]:
        """Return the options dataclass of a class, and the problems of naming it here."""
        is_known = target in TARGETS[group]
        if is_ours(target) and not is_known:
            expected = f"expected one of {', '.join(TARGETS[group])} or a class of your own"
            return None, f"{expected}, got {show(target)}{did_you_mean(target, TARGETS[group])}"
        if not is_known and group not in _WITH_OPTIONS:
            return None, ""
        try:
            options = options_of(target, self.trusted_packages)
            _fields(options or AnyOptions)  # reads the annotations
        except Exception as error:
            return None, f"cannot use {target}: {error!r}"
        return options, f"{target} {_NO_OPTIONS}" if options is None and group == "agent" else ""

    def _mapping(
        self, path: str, value: Any, schema: type, *, is_open: bool = False, group: str = ""
    ) -> Any:
        if not isinstance(value, dict):
            return self._refuse(path, value, dict)
        prefix = f"{path}." if path else ""
        self.known += [f"{prefix}{name}" for name in _fields(schema)]
        typed = {}
        for key, item in value.items():
            if key in _fields(schema):
                typed[key] = self.value(f"{prefix}{key}", item, _fields(schema)[key][0])
            else:
                typed[key] = item
                if key != "_target_" and not is_open:
                    self.unknown[f"{prefix}{key}"] = _owners(group, key)
        for name, (expected, default) in _fields(schema).items():
            if name not in value and default is MISSING:
                self._report(f"{prefix}{name}", f"missing; expected {describe(expected)}", None)
            elif name not in value and group in _WITH_OPTIONS:
                typed[name] = deepcopy(default)  # only in a user's class
        return typed
