"""Finds environments in Gymnasium's registry, with helpful errors.

Every error is a one-line `ValueError` that names the configuration key and the fix.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator, registry
from gymnasium.error import DependencyNotInstalled

from conf.schema.layout import GAMES, importable, installing, preset_of
from envs.vector.failures import in_one_line

# Prefixes of ids that popular packages register, and the package's module.
_PACKAGES = {"popgym-": "popgym", "bsuite/": "shimmy", "dm_control/": "shimmy"}
# Modules that extras of this project install, and Gymnasium's extras with the same name.
_GYMNASIUM_EXTRAS = ("box2d", "mujoco")
_EXTRAS = {name: name for name in ("envpool", "minatar", "minigrid", "popgym", *_GYMNASIUM_EXTRAS)}
_EXTRAS["ale_py"] = "atari"


def import_packages(packages: Sequence[str]) -> None:
    """Imports modules that register environments.

    Raises:
        ValueError: a module cannot be imported.
    """
    for package in packages:
        try:
            importlib.import_module(importable(package) if package in GAMES else package)
        except Exception as error:
            raise ValueError(
                f"env.packages: {package!r} cannot be imported: "
                f"{in_one_line(error)}{install_hint(error)}"
            ) from error


def find_specification(id: str) -> EnvSpec:
    """Looks up an id in Gymnasium's registry.

    Raises:
        ValueError: the id is not registered; names similar ids and the package to import.
    """
    imported, _, name = id.rpartition(":")
    if imported:
        raise ValueError(
            f"env.id={id}: the module to import goes into another key, as "
            f"'env.packages=[{imported}]' env.id={name}"
        )
    try:
        return gymnasium.spec(id)
    except gymnasium.error.Error as error:
        nearest = _nearest_ids(id)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        raise ValueError(
            f"env.id={id}: no such environment is registered{hint}{_source_hint(id)}"
        ) from error


def check_keywords(specification: EnvSpec, keywords: Mapping[str, str], *, is_native: bool) -> None:
    """Refuses keyword arguments that the environment does not take.

    Args:
        keywords: by the configuration key that gives them.

    Raises:
        ValueError: names that key and the accepted ones.
    """
    accepted = accepted_keywords(specification, is_native=is_native)
    for key, keyword in keywords.items():
        if accepted is not None and keyword not in accepted:
            nearest = difflib.get_close_matches(keyword, accepted, n=1)
            hint = f"; nearest: {nearest[0]}" if nearest else ""
            raise ValueError(
                f"{key}: {specification.id} does not take {keyword}, only "
                f"{', '.join(accepted) or 'none'}{hint}"
            )


def accepted_keywords(specification: EnvSpec, *, is_native: bool) -> list[str] | None:
    """Lists the keyword arguments of an environment; None if it takes any, or if unknown."""
    entry_point = specification.vector_entry_point if is_native else specification.entry_point
    if entry_point is None:
        return None
    try:
        creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        parameters = inspect.signature(creator).parameters.values()
    except Exception:  # making the environment will raise the error
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    hidden = {"num_envs"} if is_native else set()
    return [parameter.name for parameter in parameters if parameter.name not in hidden]


def reason_of(error: BaseException) -> str:
    """Says in one line why an environment cannot be made, and what to install if that is why.

    Gymnasium names its own extras, which may bring other versions than ours of the same name.
    """
    missing = isinstance(error, DependencyNotInstalled)
    extra = re.search(r"gymnasium\[([\w-]+)\]", str(error)) if missing else None
    if extra and extra[1] in _GYMNASIUM_EXTRAS:
        return f"it needs an extra, `{_pip_install(extra[1])}`"
    return f"{in_one_line(error)}{install_hint(error)}"


def install_hint(error: BaseException) -> str:
    """Says how to install the module of a failed import; empty for other errors."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"; `{_pip_install(error.name)}` may help"
    return ""


def _nearest_ids(id: str) -> list[str]:
    by_lower_case = {known.lower(): known for known in registry}
    nearest = difflib.get_close_matches(id.lower(), by_lower_case, n=3, cutoff=0.6)
    return [by_lower_case[known] for known in nearest]


def _source_hint(id: str) -> str:
    """Says what registers an id: a preset, a known package, or the user's package."""
    if choice := preset_of(id):
        return f"; {choice} makes it"
    for prefix, module in _PACKAGES.items():
        if id.startswith(prefix):
            return f"; it needs 'env.packages=[{module}]' (`{_pip_install(module)}`)"
    return "; a package that registers it goes into env.packages; Python hands in its own as env="


def _pip_install(module: str) -> str:
    package = module.partition(".")[0]
    if package in _EXTRAS:
        return installing(_EXTRAS[package])
    return f"pip install {package.replace('_', '-')}"
