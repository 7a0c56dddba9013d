"""Classes that a configuration may name: `_target_` runs code, so only trusted packages.

Checked twice: here by name, before anything is imported, and by the object of that name when a
class is instantiated (`training.building.instantiation`). Of our classes, only those of
`conf.schema.registry` are meant to be named.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conf.composing.registered import registered, with_registered
from conf.composing.stored import nodes
from conf.schema.layout import FOLDERS, GAMES, PREFIX, importable
from conf.schema.registry import KNOWN
from conf.schema.types import show

TRUSTED_PACKAGES = (*map(importable, FOLDERS), "torch.nn", "torch.optim", "gymnasium")
_KNOWN_PACKAGES = (*GAMES, "ale_py", "gymnasium_robotics", "minatar", "minigrid", "popgym")
"""Modules that register environments, which any run may import."""
_USUAL_HEAD = ("policy_head._target_", "auto")
"""The one `_target_` that names no class."""
_CLASS = re.compile(r"([a-z_]\w*\.)*[A-Z]\w*")
_WRITING = ("RecordVideo",)
"""Gymnasium classes that write to any given path."""


def is_ours(target: str, trusted_packages: Sequence[str]) -> bool:
    """Tell whether the class belongs to this project.

    Beside a wheel, the user may have a package `agents`.
    """
    folder = target.partition(".")[0]
    return folder in FOLDERS and not (PREFIX and folder in with_registered(trusted_packages))


def is_trusted(target: str, trusted_packages: Sequence[str]) -> bool:
    """Tell whether the module of a class may be imported, to check the class.

    Any name in the user's trusted packages is accepted, and in packages that are installed to
    bring configurations.
    """
    if target in KNOWN or is_ours(target, trusted_packages):
        return target in KNOWN
    if not all(part.isidentifier() for part in target.split(".")):
        return False
    if any(target.startswith(f"{package}.") for package in with_registered(trusted_packages)):
        return True
    inside = target.removeprefix(f"{package_of(target)}.")
    is_class = package_of(target) in TRUSTED_PACKAGES and _CLASS.fullmatch(inside) is not None
    return is_class and inside.rpartition(".")[2] not in _WRITING


def package_of(target: str) -> str:
    """Return a class's trusted package, or else the first component of its name."""
    inside = (package for package in TRUSTED_PACKAGES if target.startswith(f"{package}."))
    return next(inside, target.partition(".")[0])


def target_problems(config: Any, trusted_packages: Sequence[str]) -> Iterator[str]:
    """Report each `_target_`, at any depth, that may not be imported, one line each."""
    for path, target in nodes(config):
        if path.rpartition(".")[2] != "_target_" or (path, target) == _USUAL_HEAD:
            continue
        if not isinstance(target, str):
            yield f"{path}: expected the dotted name of a class, got {show(target)}"
        elif not is_trusted(target, trusted_packages):
            package, trusted = target.partition(".")[0], ", ".join(TRUSTED_PACKAGES)
            is_own = package not in {*sys.stdlib_module_names, *FOLDERS, "torch", "gymnasium"}
            hint = f"; a package of your own needs trusted_packages=[{package}]" if is_own else ""
            yield f"{path}: {target!r} is not a class of a trusted package ({trusted}){hint}"


def trusted_names(config: Mapping[str, Any]) -> list[str]:
    """Return the user's trusted packages, before that value is checked."""
    names = config.get("trusted_packages")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def trust_problems(names: Sequence[str]) -> list[str]:
    """Refuse to trust the standard library: `os.system` is in it."""
    why = "belongs to Python's standard library; name one of your own"
    known = [name for name in names if name.partition(".")[0] in sys.stdlib_module_names]
    return [f"trusted_packages: {name!r} {why}" for name in known]


def trust_words(packages: Sequence[str], trusted_packages: Sequence[str]) -> list[str]:
    """Return the override that a command needs to open a run with these packages, if any."""
    names = {p.partition(".")[0] for p in packages if p not in _KNOWN_PACKAGES}
    needed = sorted((names | {*trusted_packages}) - {*registered()})
    return [f"trusted_packages=[{','.join(needed)}]"] if needed else []


def package_problems(packages: Sequence[str], trusted_packages: Sequence[str]) -> list[str]:
    """Refuse packages that a stored configuration names: importing them executes code."""
    names = {p: p.partition(".")[0] for p in packages if p not in _KNOWN_PACKAGES}
    told = "env.packages: the run imports {}; if you trust it: trusted_packages=[{}]"
    trusted = with_registered(trusted_packages)
    return [told.format(p, name) for p, name in names.items() if name not in trusted]
