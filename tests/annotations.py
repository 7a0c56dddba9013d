"""Checks annotations once for each combination of types and shapes: all that they speak of.

Checked again at every call, they were half the time of a training. A function that is called many
times in a test is looked at in its first calls and in some of the later ones.
"""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Hashable
from typing import Any

import jaxtyping
import numpy as np
from beartype import beartype
from torch import Tensor, nn

jaxtyped = jaxtyping.jaxtyped
ARRAYS = frozenset([Tensor, nn.Parameter, np.ndarray])
PLAIN: set[type] = set()
"""Types of which nothing else can be told, as far as they were met."""
KNOWN: dict[Hashable, tuple[list[Callable[..., None]], set[Hashable]]] = {}
"""Of each function its checker, once it was called, and what passed."""
CALLS: dict[Hashable, list[int]] = {}
"""How often each function was called in the present test."""
FIRST, EVERY = 20, 16
"""Calls that are all looked at, and of how many later ones the last one is."""


def install(packages: list[str]) -> None:
    """Check what is imported of these from now on."""
    jaxtyping.jaxtyped = lambda typechecker: checked  # what the hook puts on every function
    jaxtyping.install_import_hook(packages, "beartype.beartype")


def begin_test() -> None:
    """Look at first calls again."""
    for calls in CALLS.values():
        calls[0] = 0


def checked(function: Any) -> Any:
    """Check arguments and results of a function's calls, unless their like passed before."""
    if dataclasses.is_dataclass(function):
        function.__init__ = checked(function.__init__)
        return function
    if not inspect.isfunction(function) or inspect.isgeneratorfunction(function):
        return jaxtyped(function, typechecker=beartype)
    # A mirror's functions are defined anew with each agent: making a checker takes milliseconds.
    name = (function.__module__, function.__qualname__, function.__code__)
    check, passed = KNOWN.setdefault(name, ([], set()))
    calls = CALLS.setdefault(name, [0])

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        calls[0] += 1
        if calls[0] > FIRST and calls[0] % EVERY:
            return result
        key = (*map(shapes, args), shapes(result), *map(shapes, kwargs.items()))
        if key not in passed:
            if not check:
                check.append(checker(function))
            check[0](result, *args, **kwargs)
            passed.add(key)
        return result

    return call


def checker(function: types.FunctionType) -> Callable[..., None]:
    """Return what checks a result and the arguments that it came of."""
    results: list[Any] = []

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return results.pop()

    code, closure = stand_in.__code__, stand_in.__closure__
    named_alike = types.FunctionType(code, function.__globals__, closure=closure)
    typed = jaxtyped(functools.update_wrapper(named_alike, function), typechecker=beartype)

    def check(result: Any, *args: Any, **kwargs: Any) -> None:
        results.append(result)
        typed(*args, **kwargs)

    return check


def shapes(value: Any) -> Hashable:
    """Return what an annotation can tell of a value."""
    kind = type(value)
    if kind in ARRAYS:
        return kind, value.shape, value.dtype
    if kind in PLAIN:
        return kind
    if issubclass(kind, (tuple, list)):
        return kind, *map(shapes, value)
    if kind is dict:
        return tuple(map(shapes, value.items()))
    if issubclass(kind, (str, type)):
        return value
    PLAIN.add(kind)
    return kind
