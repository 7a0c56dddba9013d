"""The types of a configuration's leaves, and their names in messages.

`conf.checking.validation` checks them.
"""

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import OmegaConf


def show(value: Any) -> str:
    """Write a value as YAML would, shortened to fit a line."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Range:
    """Bounds of a number; None means unbounded."""

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None

    def allows(self, number: float) -> bool:
        """Tell whether the number is within the bounds."""
        return (
            (self.minimum is None or number >= self.minimum)
            and (self.above is None or number > self.above)
            and (self.maximum is None or number <= self.maximum)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        """Write the bounds for a message: `>= 0 and < 1`."""
        bounds = ((">=", self.minimum), (">", self.above), ("<=", self.maximum), ("<", self.below))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


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
        group: our classes that are allowed here, with their keys:
        `schema.TARGETS[group]`.
        usual: what is meant if none is named, as in runs older than the group.
        is_tree: names, nested to any depth, whose innermost mappings each name a class.
        plus: how an override of a new one begins.
    """

    group: str
    usual: str = ""
    is_tree: bool = False
    plus: str = ""


class Misfit(str):
    """A broken rule about a number, in one line; `fit` is the nearest number that satisfies it."""

    fit: int

    def __new__(cls, problem: str, fit: int) -> "Misfit":
        """Attach the number to the text."""
        misfit = super().__new__(cls, problem)
        misfit.fit = fit
        return misfit


Count = Annotated[int, Range(minimum=0)]
PositiveCount = Annotated[int, Range(minimum=1)]
NonNegative = Annotated[float, Range(minimum=0)]
Bins = Annotated[int, Range(minimum=3)]
Positive = Annotated[float, Range(above=0)]
Fraction = Annotated[float, Range(minimum=0, maximum=1)]
ReplayRatio = Annotated[float, Range(above=0, maximum=128)]
PositiveFraction = Annotated[float, Range(above=0, maximum=1)]
FractionBelowOne = Annotated[float, Range(minimum=0, below=1)]

Module = Annotated[
    str, Text(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "the name of a package", "names of packages")
]
LossName = Annotated[str, Text(r"[a-z_]\w*", "the name of a loss", "names of losses")]
Path = Annotated[str, Text(r".*\S.*", "a path", "paths")]
EnvironmentId = Annotated[str, Text(r"[^\s=]+", "a Gymnasium id such as CartPole-v1")]
Device = Annotated[str, Text(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:<number>")]

Activation = Literal["tanh", "relu", "elu", "gelu", "silu", "leaky_relu", "sigmoid"]
Initialization = Literal["orthogonal", "xavier_uniform", "kaiming_uniform", "default"]
Schedule = Literal["constant", "linear"]
ImageLayout = Literal["auto", "hwc", "chw"]
Free = dict[str, Any]

_NAMES = {bool: "true or false", str: "text", dict: "a mapping"}


def describe(expected: Any, *, plural: bool = False) -> str:
    """Describe what a type of the schema accepts: `a number > 0`."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        constraint = arguments[1]
        if isinstance(constraint, Text):
            return constraint.plural if plural else constraint.meaning
        base = describe(arguments[0], plural=plural)
        return f"{base} {constraint}" if isinstance(constraint, Range) else base
    if origin is Literal:
        return " or ".join(arguments) if len(arguments) < 3 else f"one of {', '.join(arguments)}"
    if origin in (Union, types.UnionType):
        return " or ".join(
            describe(option) for option in sorted(arguments, key=lambda a: a is not type(None))
        )
    if origin is list:
        return f"a list of {describe(arguments[0], plural=True)}"
    if origin is tuple:
        return f"a list of {len(arguments)} {describe(arguments[0], plural=True)}"
    if expected in (int, float):
        noun = "integer" if expected is int else "number"
        return f"{noun}s" if plural else f"{'an' if expected is int else 'a'} {noun}"
    mapping = "mappings" if plural else "a mapping"
    return "null" if expected is type(None) else _NAMES.get(origin or expected, mapping)


def by_path(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten `{critic: {memory: x}, extractor: y}` to `{"critic.memory": x, "extractor": y}`.

    A mapping with a number or word among its values is a leaf, as is a list; null is left out.
    """
    found: dict[str, Any] = {}
    for key, node in tree.items():
        path = f"{prefix}{key}"
        if isinstance(node, Mapping) and all(
            n is None or isinstance(n, Mapping | list) for n in node.values()
        ):
            found |= by_path(node, f"{path}.")
        elif node is not None:
            found[path] = node
    return found


def given_twice(tree: Mapping[str, Any]) -> str | None:
    """Return a path that `nested` would overwrite: `{critic: {memory: x}, critic.memory: y}`."""
    paths = sorted(path for key, node in tree.items() for path in by_path({key: node}))
    overlaps = (path for before, path in pairwise(paths) if f"{path}.".startswith(f"{before}."))
    return next(overlaps, None)


def nested(tree: Mapping[str, Any]) -> Any:
    """Expand paths that are written as one key: `{critic.memory: x}` is `{critic: {memory: x}}`."""
    found = OmegaConf.create()
    for path, node in tree.items():
        OmegaConf.update(found, path, node, force_add=True)
    return OmegaConf.to_container(found)
