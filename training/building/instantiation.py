"""Instantiates classes named by `_target_`; errors are one line.

A configuration need not be trusted: only classes are called, which are subclasses of the expected
kind and defined in the module of their name. An attribute of a trusted module could be anything
that it imports.
"""

import importlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import signature
from typing import Any

import gymnasium
from omegaconf import DictConfig, OmegaConf

from conf.checking.trust import TRUSTED_PACKAGES, package_of
from conf.schema.layout import importable
from conf.schema.registry import KNOWN

Space = gymnasium.Space[Any]
Node = DictConfig | dict[str, Any]


def plain(config: Any) -> Any:
    """Convert a checked, resolved configuration node into plain Python."""
    return OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config


def find(key: str, target: str, kind: type) -> Any:
    """Import a class.

    Args:
        key: that names it, for the message.
        kind: what it must be a subclass of.

    Raises:
        ValueError: there is no such class, it is of another kind, or it is defined elsewhere.
    """
    if target in KNOWN:
        target = importable(target)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ValueError(f"{key}: cannot make {target}: {_reason(error)}") from error
    if not isinstance(found, type) or not issubclass(found, kind):
        raise ValueError(f"{key}: {target} is no {_name(kind)}")
    package = package_of(target)
    is_own = f"{found.__module__}.".startswith(f"{package}.")
    # In a user's package a class may have several names, or be created by a function.
    if not is_own or (package in TRUSTED_PACKAGES and found.__qualname__ != name):
        own = f"{found.__module__}.{found.__qualname__}"
        raise ValueError(f"{key}: {target} is defined elsewhere; name it {own}")
    return found


def make(key: str, config: Node, kind: type, *arguments: Any, read_here: type | None = None) -> Any:
    """Call the class `config._target_` with `arguments` and the node's other keys.

    Args:
        key: of the node, for the message.
        kind: as of `find`.
        read_here: as of `make_partial`.

    Raises:
        ValueError: as `find`, or the class does not take the keys, or refused them.
    """
    factory = make_partial(key, config, kind, read_here)
    try:
        return factory(*arguments)
    except Exception as error:
        problem = f"{key}: cannot make {config['_target_']}: {_reason(error)}"
        # A ValueError of ours names the option.
        named: Any = getattr(error, "at", None) if isinstance(error, ValueError) else None
        raise ValueError(named(key) if named else problem) from error


def make_partial(key: str, config: Node, kind: type, read_here: type | None = None) -> Any:
    """Find the class `config._target_` and fix its keys, to be called later; errors as `make`.

    A constructor with an argument `options` gets an instance of the class's `Options`, any other
    the keys as keyword arguments.

    Args:
        read_here: dataclass of the keys that a class gets only if its `Options` has them.
    """
    options = dict(plain(config))
    found = find(key, options.pop("_target_"), kind)
    own: Any = getattr(found, "Options", None)
    takes_options = is_dataclass(own) and "options" in signature(found).parameters
    passed = {field.name for field in fields(own)} if takes_options else set()
    kept = {field.name for field in fields(read_here)} - passed if read_here else set()
    filled = {k: _filled(f"{key}.{k}", v, kind) for k, v in options.items() if k not in kept}
    return partial(_with_options, found, own, filled) if takes_options else partial(found, **filled)


def _with_options(found: Any, own: Any, filled: Mapping[str, Any], *arguments: Any) -> Any:
    """Instantiate with a new instance of the class's options; a function that can be pickled."""
    return found(*arguments, options=own(**filled))


def _filled(key: str, value: Any, kind: type) -> Any:
    """Instantiate the classes named inside a class's options: spaces in wrappers, else modules."""
    if isinstance(value, list):
        return [_filled(f"{key}[{index}]", item, kind) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "_target_" not in value:
        return {name: _filled(f"{key}.{name}", item, kind) for name, item in value.items()}
    if issubclass(kind, gymnasium.Wrapper | gymnasium.Space):
        return make(key, value, gymnasium.Space)
    from torch import nn  # environments are built without it

    return make(key, value, nn.Module)


def with_factories(key: str, options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Turn nested options that name a class (a decoder) into factories."""
    named = {k: v for k, v in options.items() if isinstance(v, dict) and "_target_" in v}
    return {**options, **{k: make_partial(f"{key}.{k}", v, kind) for k, v in named.items()}}


def _name(kind: type) -> str:
    """Name a class as it is imported: torch.nn.Module, not the module that defines it."""
    return f"torch.nn.{kind.__name__}" if kind.__module__.startswith("torch.nn.") else kind.__name__


def _reason(error: BaseException) -> str:
    return " ".join(" ".join(str(error).splitlines()[:2]).split()) or type(error).__name__
