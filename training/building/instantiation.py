"""Makes what a configuration names by `_target_`, and says in one line what could not be made.

Whose configuration it is does not matter: only classes are called, of the kind that the place is
for, that are defined where their name says. An attribute of a trusted module may be anything that
it imports.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
from omegaconf import DictConfig, OmegaConf

from conf.checking.trust import TRUSTED_PACKAGES, package_of


def plain(config: Any) -> Any:
    """Turn a node of a checked configuration, in which nothing is to resolve, into plain Python."""
    return OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config


def find(key: str, target: str, kind: type) -> Callable[..., Any]:
    """Import a class.

    Args:
        key: where it is named, for the message.
        kind: what it must be a subclass of.

    Raises:
        ValueError: there is no such class, or it is of another kind, or defined elsewhere.
    """
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ValueError(f"{key}: cannot make {target}: {_reason(error)}") from error
    if not isinstance(found, type) or not issubclass(found, kind):
        raise ValueError(f"{key}: {target} is no {_name(kind)}")
    package = package_of(target)
    is_own = f"{found.__module__}.".startswith(f"{package}.")
    # In a package of the user's a class may have several names, and be made by a function.
    if not is_own or (package in TRUSTED_PACKAGES and found.__qualname__ != name):
        raise ValueError(
            f"{key}: {target} is defined elsewhere; name it {found.__module__}.{found.__qualname__}"
        )
    return found


def make(key: str, config: DictConfig | dict[str, Any], kind: type, *arguments: Any) -> Any:
    """Call the class `config._target_` with `arguments` and the node's other keys.

    Args:
        key: where the node stands, for the message.
        kind: as of `find`.

    Raises:
        ValueError: as `find`, or the class does not take the keys, or refused them.
    """
    factory = make_partial(key, config, kind)
    try:
        return factory(*arguments)
    except Exception as error:
        reason = _reason(error)
        raise ValueError(f"{key}: cannot make {config['_target_']}: {reason}") from error


def make_partial(key: str, config: DictConfig | dict[str, Any], kind: type) -> Any:
    """Find the class `config._target_` and fix its keys, to be called later; errors as `make`."""
    options = dict(plain(config))
    found = find(key, options.pop("_target_"), kind)
    return partial(found, **{k: _filled(f"{key}.{k}", v, kind) for k, v in options.items()})


def _filled(key: str, value: Any, kind: type) -> Any:
    """Make the classes that are named inside of a class's options."""
    if isinstance(value, list):
        return [_filled(f"{key}[{index}]", item, kind) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "_target_" in value:
        return make(key, value, _held_by(kind))
    return {name: _filled(f"{key}.{name}", item, kind) for name, item in value.items()}


def _held_by(kind: type) -> type:
    """Say what may be named inside: spaces in wrappers and spaces, modules in all else."""
    if issubclass(kind, gymnasium.Wrapper | gymnasium.Space):
        return gymnasium.Space
    from torch import nn  # environments are made without it

    return nn.Module


def with_factories(key: str, options: dict[str, Any], kind: type) -> dict[str, Any]:
    """Turn what names a class inside of options (a decoder) into something to be called later."""
    return {
        name: make_partial(f"{key}.{name}", value, kind)
        if isinstance(value, dict) and "_target_" in value
        else value
        for name, value in options.items()
    }


def unmirrored(key: str, error: BaseException | None) -> str:
    """Say which decoder to choose where an extractor's layers are not known."""
    return f"{key}: {error}; choose a decoder: decoder@{key}.decoder=dense"


def _name(kind: type) -> str:
    """Name a class as it is imported: torch.nn.Module, not where it is written."""
    return f"torch.nn.{kind.__name__}" if kind.__module__.startswith("torch.nn.") else kind.__name__


def _reason(error: BaseException) -> str:
    return " ".join(" ".join(str(error).splitlines()[:2]).split()) or type(error).__name__
