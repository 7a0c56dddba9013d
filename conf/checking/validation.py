"""Compares a composed configuration with `conf.schema.run`, leaf by leaf.

Every problem is reported in one line: the key, the expected and the given value, and the
nearest valid word. Rules between keys are beside the options.
"""

import math
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from conf.checking.suggestions import did_you_mean, key_hint, translates
from conf.checking.trust import (
    is_ours,
    is_trusted,
    target_problems,
    trust_problems,
    trusted_names,
)
from conf.composing.stored import strange_values
from conf.schema.layout import PREFIX, short
from conf.schema.registry import OTHER_TARGETS, TARGETS, WITH_OPTIONS, options_of
from conf.schema.scripts import ROOTS
from conf.schema.types import (
    UNIONS,
    Config,
    Free,
    Parts,
    Path,
    Target,
    broken,
    by_path,
    describe,
    show,
)

MISSING_VALUE = "???"


def checked(config: Config, config_name: str = "config") -> tuple[Config, list[str]]:
    """Return the typed configuration (1e5 becomes 100000), and all its problems.

    Without problems the result is plain data without interpolations: a value is resolved once,
    before it is checked.
    """
    strange = list(strange_values(config))
    if strange:
        return config, strange
    config = _with_short_names(config)
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
    rules = (rule for rules in walk.rules for rule in rules(typed))
    return typed, found or [problem for rule in rules for problem in broken(typed, rule)]


def _with_short_names(node: Any) -> Any:
    """Write our classes as in our YAML files, so that runs of a wheel and a checkout are equal."""
    if isinstance(node, dict):
        return {key: _with_short_names(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_short_names(value) for value in node]
    return short(node) if isinstance(node, str) else node


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
    known = TARGETS.get(group, {}).items()
    owners = [target.rpartition(".")[2] for target, schema in known if key in _fields(schema)]
    return f"; only {', '.join(owners)} {'have' if len(owners) > 1 else 'has'} it" if owners else ""


def _plain(value: Any, base: Any, mark: Any) -> Any:
    """Return a value typed, or _WRONG: 1e5 is an integer, true no number, nothing is infinite."""
    if get_origin(base) is Literal:
        is_choice = any(type(value) is type(one) and value == one for one in get_args(base))
        return value if is_choice else _WRONG
    if base in (int, float):
        is_number = type(value) in (int, float) and math.isfinite(value)
        value = base(value) if is_number and base(value) in (value, float(value)) else None
    return value if type(value) is base and (mark is None or mark.allows(value)) else _WRONG


def _hint(path: str, value: Any, expected: Any) -> str:
    """Return the end of a refusal: the nearest choice, or how a list or a group is written."""
    kinds = [k for k in get_args(expected) or [expected] if k is not type(None)]
    (kind, *others) = kinds or [expected]
    if get_origin(expected) is list and not isinstance(value, dict | list | None):
        return f"; a list is written [{str(value).strip('()[]')}]"
    if not isinstance(value, str):
        return ""
    if Path in (expected, kind) and any(len(name) > 255 for name in value.split("/")):
        return "; a file's name has at most 255 letters"
    if get_origin(expected) is Literal:
        return did_you_mean(value, [kind, *others])
    mark = get_args(kind)[1:] if get_origin(kind) is Annotated and not others else ()
    if mark and isinstance(mark[0], Target):
        return f"; a choice is written {_choice(path, mark[0].group)}={value}"
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
        for option in get_args(expected) if get_origin(expected) in UNIONS else (expected,):
            if (typed := self._typed(path, value, option)) is not _WRONG:
                return typed
        message = f"expected {describe(expected)}, got {show(value)}"
        return self._report(path, message + _hint(path, value, expected), value)

    def _report(self, path: str, message: str, value: Any = None) -> Any:
        self.problems.append(f"{path}: {message}")
        return value

    def _typed(self, path: str, value: Any, expected: Any) -> Any:
        """Return a value typed, or _WRONG."""
        base, mark = get_args(expected) if get_origin(expected) is Annotated else (expected, None)
        if isinstance(value, dict):
            return self._mapping(path, value, base, mark)
        if not isinstance(value, list):
            return _plain(value, base, mark)
        kinds = get_args(base)
        if get_origin(base) is list or (get_origin(base) is tuple and len(value) == len(kinds)):
            return [self.value(f"{path}[{at}]", item, kinds[0]) for at, item in enumerate(value)]
        return _WRONG

    def _mapping(self, path: str, value: Config, base: Any, mark: Any) -> Any:
        if isinstance(mark, Target):
            check = self._tree if mark.is_tree else self._target
            return check(path, value, mark)
        if isinstance(mark, Parts):
            return self._parts(path, value, mark)
        if get_origin(base) is dict:
            kind = get_args(base)[1]
            return {key: self.value(f"{path}.{key}", item, kind) for key, item in value.items()}
        return self._keys(path, value, base) if is_dataclass(base) else _WRONG

    def _parts(self, path: str, value: Config, mark: Parts) -> Config:
        """Check what is said of each part; the result has paths as keys, without null."""
        typed: Config = {}
        self.known += [f"{path}.{part}" for part in mark.parts]
        for part, own in by_path(value):
            key = f"{path}.{part}"
            if part not in mark.parts:
                self.unknown[key] = ""
            elif part in typed:
                self._report(key, "given more than once")
            elif own is not None:
                typed[part] = self.value(key, own, mark.kind)
        return typed

    def _tree(self, path: str, value: Config, place: Target) -> Any:
        """Check a tree of mappings; each path ends at the first mapping with other values."""
        typed = {}
        for key, item in value.items():
            below = item.values() if isinstance(item, dict) else ()
            is_inner = below and all(isinstance(each, dict) for each in below)
            leaf = Annotated[Free, replace(place, is_tree=is_inner, plus="+")]
            typed[key] = self.value(f"{path}.{key}", item, leaf)
        return typed

    def _target(self, path: str, value: Config, place: Target) -> Any:
        """Check a mapping by its class; most user classes take any keys."""
        where, target = f"{path}._target_", value.get("_target_", MISSING_VALUE)
        group, known = place.group, TARGETS[place.group]
        if target == MISSING_VALUE:
            choice = f"; choose one first with {place.plus}{_choice(path, group)}=..."
            if group in ("pomdp", "auxiliary"):
                choice = f"; choose it first with {path.replace('.', '=', 1)}"
            choice = choice if group not in ("wrapper", "tracker") else ""
            return self._report(where, f"missing; expected the dotted name of a class{choice}")
        if not isinstance(target, str):
            return value  # reported with every other `_target_`
        if target not in known and is_ours(target, self.trusted_packages):
            one = f"expected one of {', '.join(known)} or a class of your own, got {show(target)}"
            trust = f"trusted_packages=[{target.partition('.')[0]}]"
            own = f"; a package of your own needs {trust}" if PREFIX else ""
            return self._report(where, one + did_you_mean(target, known) + own, value)
        if target not in known and not is_trusted(target, self.trusted_packages):
            return value
        try:
            options = options_of(target, group, self.trusted_packages)
            schema = options or OTHER_TARGETS[group]
            _fields(schema)  # reads the annotations
        except Exception as error:
            return self._report(where, f"cannot use {target}: {error!r}", value)
        if options is None and group == "agent":
            needs = "needs an attribute Options, a dataclass of its keys; see docs/configuration.md"
            return self._report(where, f"{target} {needs}", value)
        return self._keys(path, value, schema, group, is_open=options is None)

    def _keys(
        self, path: str, value: Any, schema: Any, group: str = "", is_open: bool = False
    ) -> Any:
        """Check the keys of a mapping; an open one may have others."""
        prefix, expected, typed = f"{path}." if path else "", _fields(schema), Config()
        self.known += [f"{prefix}{name}" for name in expected]
        self.rules += [c.problems for c in schema.__mro__[::-1] if "problems" in vars(c)]
        for key, item in value.items():
            if key in expected or is_open:
                kind = expected[key][0] if key in expected else Any
                typed[key] = self.value(f"{prefix}{key}", item, kind)
            else:
                typed[key] = item
                self.unknown |= {f"{prefix}{key}": _owners(group, key)} if key != "_target_" else {}
        for name, (kind, default) in expected.items():
            if name not in value and default is MISSING:
                self._report(f"{prefix}{name}", f"missing; expected {describe(kind)}")
            elif name not in value and group in WITH_OPTIONS:
                typed[name] = deepcopy(default)  # only in a user's class
        return typed
