"""The configuration of one run: composed, resolved, checked, typed, read-only."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.checking.pretraining import missing_sources
from conf.checking.refusals import InvalidConfiguration
from conf.checking.trust import package_problems, target_problems
from conf.checking.validation import MISSING_VALUE, checked
from conf.composing.composer import Composer
from conf.composing.presets import Settled, settled
from conf.composing.resumption import ONLY_CHANGEABLE, links, resumed, stored_configuration
from conf.schema.types import ABSENT, Config

_KEPT = ("checkpoints", "pretraining/checkpoints")
"""Paths of a run that must not be overwritten."""
_NAME_BYTES = 255
"""Of a folder's name, on most disks."""
_FIRST_FILES = 100_000
"""Bytes that a disk must have free: Hydra ends in a traceback if it cannot write its own files."""
_HYDRA_PLUGINS = ("hydra._internal.core_plugins", "hydra.experimental.callbacks", "hydra_plugins")


def load(overrides: Sequence[str], config_name: str = "config") -> DictConfig:
    """Return the configuration of one run, resolved, typed and read-only.

    Raises:
        InvalidConfiguration: with every problem.
    """
    return read_only(configure(Composer(config_name), overrides).sound().typed)


def validated(config: Config) -> DictConfig:
    """Return a run's configuration, resolved already, typed and read-only.

    Raises:
        InvalidConfiguration: with every problem.
    """
    typed, problems = checked(config)
    if problems:
        raise InvalidConfiguration(problems)
    return read_only(typed)


def has_key(overrides: Sequence[str], key: str, config_name: str = "config") -> bool:
    """Tell whether the chosen options have a key, even if the configuration is invalid."""
    config, _, _ = Composer(config_name).compose(overrides)
    return OmegaConf.select(config, key, default=ABSENT) is not ABSENT


def read_only(typed: Config) -> DictConfig:
    """Wrap a checked configuration as read-only, without resolving anything."""
    config = OmegaConf.create(typed)
    OmegaConf.set_readonly(config, True)
    return config


def configure(composer: Composer, overrides: Sequence[str], job: int | None = None) -> Settled:
    """Compose and check one run; a job of a sweep has a number."""
    try:
        run = settled(composer, overrides, partial(_inspected, composer, job))
        if run.typed.get("resume") is None:
            if not any(problem.startswith("run_dir:") for problem in run.problems):
                run.problems += _occupied(run.typed)
            if not run.problems and "extractor" in run.typed:
                run.problems += missing_sources(run.typed)
        elif run.problems:
            run.problems = [f"{problem}; {ONLY_CHANGEABLE}" for problem in run.problems]
        else:
            run.typed, run.problems = _resumed(composer, run.typed, overrides)
    except InvalidConfiguration as refusal:
        return Settled(list(overrides), {}, refusal.problems)
    return run


def _inspected(composer: Composer, job: int | None, words: Sequence[str]) -> Settled:
    """Compose and check overrides as they are.

    Hydra takes a key that the YAML does not have with two plus signs, or with one.
    """
    config, problems, forced = composer.compose(words)
    plugins = OmegaConf.to_container(config.hydra, resolve=False)
    problems += [f"hydra.{problem}" for problem in target_problems(plugins, _HYDRA_PLUGINS)]
    if config.hydra.job.chdir:
        problems.append("hydra.job.chdir: derived from run_dir, which is the key to set")
    if job is not None:
        OmegaConf.update(config, "hydra.job.num", job, force_add=True)
    typed, found = _resolved(config, composer.root)
    as_taken = [f"++{word.lstrip('+')}" if word in forced else word for word in words]
    return Settled(as_taken, typed, problems + found)


def _occupied(typed: Config) -> Iterator[str]:
    """Refuse a directory that has a run, which is never overwritten, or cannot be created."""
    run_dir = typed.get("run_dir")
    if not isinstance(run_dir, str):
        return
    folders = (Path(run_dir), *Path(run_dir).parents)
    if max(len(os.fsencode(folder.name)) for folder in folders) > _NAME_BYTES:
        yield f"run_dir: {run_dir} cannot be made: a name has at most {_NAME_BYTES} bytes"
        return
    if any(any(Path(run_dir).glob(f"{kept}/*/manifest*.json")) for kept in _KEPT):
        remedy = f"resume it: resume={run_dir}, or choose another"
        yield f"run_dir: {run_dir} holds a run already; {remedy}"
    existing = next(folder for folder in folders if os.path.exists(folder))
    try:
        with TemporaryFile(dir=existing) as file:
            file.write(bytes(_FIRST_FILES))
    except OSError as error:
        why = f"{existing} cannot be written to ({error.strerror})"
        yield f"run_dir: {run_dir} cannot be made, as {why}"


def _resumed(
    composer: Composer, given: Config, overrides: Sequence[str]
) -> tuple[Config, list[str]]:
    """Replace a new configuration by that of the run to resume."""
    try:
        stored = stored_configuration(Path(given["resume"]))
    except ValueError as error:
        raise InvalidConfiguration([f"resume: {error}"]) from error
    # The run cannot declare trusted packages; the user who resumes it can.
    stored["trusted_packages"] = given["trusted_packages"]
    before, problems = checked(stored, composer.root)
    if not problems:
        problems = package_problems(before["env"]["packages"], before["trusted_packages"])
    if problems:
        where = f"resume: {given['resume']}/config.yaml: "
        return before, [where + problem for problem in problems]
    usual, _ = _resolved(composer.compose([])[0], composer.root)
    said = [o.package or o.key_or_group for o in composer.parse(overrides)]
    merged, problems = resumed(before, given, usual, said)
    problems += links(Path(given["resume"]))
    # Changed values must fit the others, or the run could not be opened again.
    return merged, problems or checked(merged, composer.root)[1]


def _resolved(config: DictConfig, config_name: str) -> tuple[Config, list[str]]:
    """Return a configuration, resolved and typed, without `hydra`, and all its problems."""
    unresolved: dict[str, str] = {}
    instance = HydraConfig.instance()
    # Here ${hydra:...} reads from this configuration, as in a job; `set_config` would copy it.
    outer, instance.cfg = instance.cfg, config  # type: ignore[assignment]
    try:
        keys = (key for key in map(str, config) if key != "hydra")
        resolved = {key: _item(config, key, key, unresolved) for key in keys}
    finally:
        instance.cfg = outer
    typed, problems = checked(resolved, config_name)
    problems = [problem for problem in problems if problem.partition(":")[0] not in unresolved]
    if problems or len(unresolved) > 1:
        # It is computed from other keys, whose problems are reported already.
        unresolved.pop("run_dir", None)
    return typed, problems + [f"{path}: {reason}" for path, reason in unresolved.items()]


def _item(node: DictConfig | ListConfig, key: Any, path: str, unresolved: dict[str, str]) -> Any:
    """Resolve an item and all below it; unresolvable values are reported and become None."""
    if OmegaConf.is_missing(node, key):
        return MISSING_VALUE
    try:
        value = node[key]
    except OmegaConfBaseException as error:
        unresolved[path] = str(error).partition("\n")[0]
        return None
    if isinstance(value, DictConfig):
        return {str(name): _item(value, name, f"{path}.{name!s}", unresolved) for name in value}
    if isinstance(value, ListConfig):
        return [_item(value, index, f"{path}[{index}]", unresolved) for index in range(len(value))]
    return value
