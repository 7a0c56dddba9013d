"""The types of a configuration's leaves, their names in messages, and the form of its rules.

`conf.checking.validation` checks them.
"""

import operator
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

Config = dict[str, Any]
ABSENT: Any = object()
"""Stands for the value of a key that does not exist."""


def show(value: Any) -> str:
    """Write a value as YAML would, shortened to fit a line."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def at(node: Any, key: str) -> Any:
    """Return the value of a key of a plain configuration, or ABSENT."""
    for name in key.split("."):
        node = node.get(name, ABSENT) if isinstance(node, Mapping) else ABSENT
    return node


Rule = str | tuple[Any, ...]
"""A broken rule in one line. Or keys, with spaces between them, the values of them that fit, and
why: `("clip_rewards", None, "normalize_rewards=true brings ...")`."""
Rules = Iterator[Rule]


def broken(config: Config, rule: Rule) -> Iterator[str]:
    """Yield a line for each key that breaks a rule; a key that does not exist breaks none."""
    if isinstance(rule, str):
        yield rule
        return
    keys, *fits, why = rule
    expected = " or ".join(fit if isinstance(fit, str) else show(fit) for fit in fits)
    for key in keys.split():
        if (value := at(config, key)) not in (ABSENT, *fits):
            got = f"; got {show(value)}" if type(value) in (int, float) else ""
            yield f"{key.removesuffix('._target_')}: expected {expected}, because {why}{got}"


class Misfit(str):
    """A broken rule about a number, in one line; `fit` is the nearest number that satisfies it."""

    fit: int

    def __new__(cls, problem: str, fit: int) -> "Misfit":
        """Attach the number to the text."""
        misfit = super().__new__(cls, problem)
        misfit.fit = fit
        return misfit


_SIGNS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


class Range:
    """Bounds of a number, each a sign and a number: `Range(">= 0", "< 1")`."""

    def __init__(self, *bounds: str) -> None:
        """Read the bounds; together they are written in messages."""
        self.meaning, self._bounds = " and ".join(bounds), [bound.split() for bound in bounds]

    def allows(self, number: float) -> bool:
        """Tell whether the number is within the bounds."""
        return all(_SIGNS[sign](number, float(bound)) for sign, bound in self._bounds)


@dataclass(frozen=True)
class Text:
    """A text that matches a whole pattern.

    Attributes:
        meaning: the expected text in a message: "a Gymnasium id such as CartPole-v1".
        plural: the same for several.
    """

    pattern: str
    meaning: str
    plural: str = ""

    def allows(self, text: str) -> bool:
        """Tell whether the whole text matches."""
        return re.fullmatch(self.pattern, text) is not None


@dataclass(frozen=True)
class Target:
    """A mapping whose `_target_` names a class.

    Attributes:
        group: our classes that are allowed here, with their keys: `Part.targets[group]`.
        is_tree: names, nested to any depth, whose innermost mappings each name a class.
        plus: how an override of a new one begins.
    """

    group: str
    is_tree: bool = False
    plus: str = ""


class Parts:
    """A mapping from parts of the agent, by path; `extractor` and `memory` mean every one.

    Attributes:
        kind: of what each part has.
        parts: their paths.
    """

    def __init__(self, kind: Any, *others: str) -> None:
        """Say what each part has, and which others there are."""
        backbone = ("extractor", "memory")
        inside = (f"{of}.{part}" for of in _BACKBONES for part in backbone)
        self.kind, self.parts = kind, (*backbone, *inside, "policy_head", "value_head", *others)


_BACKBONES = ("actor", "critic")


Count = Annotated[int, Range(">= 0")]
PositiveCount = Annotated[int, Range(">= 1")]
Copies = Annotated[int, Range(">= 1", "<= 1000000")]
FrameStack = Annotated[int, Range(">= 1", "<= 10000")]
NonNegative = Annotated[float, Range(">= 0")]
Bins = Annotated[int, Range(">= 3")]
Positive = Annotated[float, Range("> 0")]
Fraction = Annotated[float, Range(">= 0", "<= 1")]
ReplayRatio = Annotated[float, Range("> 0", "<= 128")]
PositiveFraction = Annotated[float, Range("> 0", "<= 1")]
FractionBelowOne = Annotated[float, Range(">= 0", "< 1")]

Module = Annotated[
    str, Text(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "the name of a package", "names of packages")
]
InfoKey = Annotated[str, Text(r"[\w./-]+", "a key of info", "keys of info")]
LossName = Annotated[str, Text(r"[a-z_]\w*", "the name of a loss", "names of losses")]
_PATH = r"(?!.*[^/]{256}).*\S.*"
Path = Annotated[str, Text(_PATH, "a path", "paths")]
RunPath = Annotated[str, Text(_PATH, "last, or a run's directory", "runs' directories")]
EnvironmentId = Annotated[str, Text(r"[^\s=]{1,200}", "a Gymnasium id such as CartPole-v1")]
Device = Annotated[str, Text(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:<number>")]

Activation = Literal["tanh", "relu", "elu", "gelu", "silu", "leaky_relu", "sigmoid"]
Initialization = Literal["orthogonal", "default"]
Schedule = Literal["constant", "linear"]
ImageLayout = Literal["auto", "hwc", "chw"]
Free = dict[str, Any]

UNIONS = (Union, types.UnionType)
_NULL: type = type(None)
_NAMES = {bool: "true or false", str: "text", int: "an integer", float: "a number", _NULL: "null"}


def describe(expected: Any, *, plural: bool = False) -> str:
    """Describe what a type of the schema accepts: `a number > 0`."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        base, mark = describe(arguments[0], plural=plural), arguments[1]
        if isinstance(mark, Text):
            return mark.plural if plural else mark.meaning
        return f"{base} {mark.meaning}" if isinstance(mark, Range) else base
    if origin is Literal:
        return " or ".join(arguments) if len(arguments) < 3 else f"one of {', '.join(arguments)}"
    if origin in UNIONS:  # null first
        return " or ".join(map(describe, sorted(arguments, key=lambda kind: kind is not _NULL)))
    if origin in (list, tuple):
        number = f"{len(arguments)} " if origin is tuple else ""
        return f"a list of {number}{describe(arguments[0], plural=True)}"
    name = _NAMES.get(expected, "a mapping")
    return f"{name.split()[1]}s" if plural and name.startswith("a") else name


def by_path(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """List the parts of a mapping: `{critic: {memory: x}, extractor: y}` has `critic.memory`.

    A path may also be written as one key.
    """
    found: list[tuple[str, Any]] = []
    for key, node in tree.items():
        is_backbone = key in _BACKBONES and isinstance(node, Mapping | None)
        found += (
            [(f"{key}.{n}", x) for n, x in (node or {}).items()] if is_backbone else [(key, node)]
        )
    return found
