"""Which classes a configuration may name: `_target_` runs code, only trusted packages may.

The check reads the name alone and imports nothing. Python follows attributes, so
`networks.mlp.torch.hub.load` would lead out of a trusted package: outside of packages the user
vouches for, a name must look like a class of that package's own.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from conf.constraints import show

OUR_PACKAGES = ("agents", "networks", "envs", "training")
TRUSTED_PACKAGES = (*OUR_PACKAGES, "torch.nn", "torch.optim", "gymnasium")
_KNOWN_PACKAGES = ("ale_py", "envs", "gymnasium_robotics", "minatar", "minigrid", "popgym")
"""Packages of environments that anybody's run may import."""
_FOREIGN = sys.stdlib_module_names | {"torch", "numpy", "gymnasium", "hydra", "omegaconf"}
_CLASS = re.compile(r"([a-z_]\w*\.)*[A-Z]\w*")


def is_ours(target: str) -> bool:
    """Tell whether the class belongs to this project."""
    return target.startswith(tuple(f"{package}." for package in OUR_PACKAGES))


def is_trusted(target: str, trusted_packages: Sequence[str]) -> bool:
    """Tell whether a class may be imported and instantiated.

    Anything may be named in the packages the user vouches for.
    """
    if not all(part.isidentifier() for part in target.split(".")):
        return False
    if any(target.startswith(f"{package}.") for package in trusted_packages):
        return True
    for package in TRUSTED_PACKAGES:
        inside = target.removeprefix(f"{package}.")
        if inside != target:
            modules = inside.split(".")[:-1]
            return _CLASS.fullmatch(inside) is not None and _FOREIGN.isdisjoint(modules)
    return False


def targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every `_target_` at any depth, in order."""
    if isinstance(node, dict):
        for key, value in node.items():
            child = f"{path}.{key}" if path else str(key)
            if key == "_target_":
                yield child, value
            else:
                yield from targets(value, child)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from targets(value, f"{path}[{index}]")


def target_problems(config: Any, trusted_packages: Sequence[str]) -> list[str]:
    """Report each `_target_` of a configuration that may not be imported, one line each."""
    found = []
    for path, target in targets(config):
        if not isinstance(target, str):
            found.append(f"{path}: expected the dotted name of a class, got {show(target)}")
        elif not is_trusted(target, trusted_packages):
            found.append(f"{path}: {_untrusted(target)}")
    return found


def _untrusted(target: str) -> str:
    """Explain a refusal, and the way out where there is one."""
    package = target.partition(".")[0]
    is_user_package = package not in sys.stdlib_module_names and not any(
        trusted.partition(".")[0] == package for trusted in TRUSTED_PACKAGES
    )
    remedy = (
        f"; a package of your own needs trusted_packages=[{package}]" if is_user_package else ""
    )
    return f"{target!r} is not a class of a trusted package ({', '.join(TRUSTED_PACKAGES)}){remedy}"


def trust_problems(trusted_packages: Any) -> list[str]:
    """Refuse to trust the standard library: `os.system` is in it."""
    names = trusted_packages if isinstance(trusted_packages, list) else []
    return [
        f"trusted_packages: {name!r} belongs to Python's standard library; name one of your own"
        for name in names
        if isinstance(name, str) and name.partition(".")[0] in sys.stdlib_module_names
    ]


def trust_words(packages: Sequence[str], trusted_packages: Sequence[str]) -> list[str]:
    """Say what a command needs to open a run that names such packages: nothing, or one word."""
    names = {package.partition(".")[0] for package in packages} - {*_KNOWN_PACKAGES}
    needed = sorted(names | {*trusted_packages})
    return [f"trusted_packages=[{','.join(needed)}]"] if needed else []


def package_problems(packages: Sequence[str], trusted_packages: Sequence[str]) -> list[str]:
    """Keep a stored configuration from importing whatever it names: importing executes."""
    names = [(package, package.partition(".")[0]) for package in packages]
    return [
        f"env.packages: the run imports {package}; if you trust it: trusted_packages=[{name}]"
        for package, name in names
        if name not in (*_KNOWN_PACKAGES, *trusted_packages)
    ]
