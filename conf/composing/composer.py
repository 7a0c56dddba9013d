"""Composes the configuration of a list of overrides, as Hydra would.

Hydra stops at its first error and leaves values unchecked. Here the chosen groups are composed
first, then the values are set one by one, so that every problem is reported. Only this module
depends on Hydra's internals (1.3). A test checks that it composes the same as Hydra.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from conf.checking.refusals import (
    InvalidConfiguration,
    choice_problems,
    directory_problems,
    one_line,
    repeated_keys,
    sweep_problems,
    sweeper_problems,
    syntax_problem,
)
from conf.checking.suggestions import key_hint
from conf.schema.types import show


def environment_name(env_id: str, pomdp: Mapping[str, Any] | None) -> str:
    """Name an environment and its pomdp for a path: `ALE/Pong-v5` is `ALE-Pong-v5`."""
    return re.sub(r"[^\w.+-]+", "-", "-".join([str(env_id), *(pomdp or {})]))


def job_suffix() -> str:
    """Number a sweep's jobs, as two may start in the same second. Empty for a single run."""
    is_job = HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")
    return f"-job{HydraConfig.get().job.num}" if is_job else ""


def run_directory(resume: str | None, run_dir: str) -> str:
    """Choose Hydra's directory: that of the run to resume, or a new one."""
    return run_dir if resume is None else resume


def output_folder(resume: str | None) -> str | None:
    """Name the folder of Hydra's files; a resumed run keeps its first ones."""
    return ".hydra" if resume is None else None


OmegaConf.register_new_resolver("environment_name", environment_name, replace=True)
OmegaConf.register_new_resolver("job_suffix", job_suffix, replace=True)
OmegaConf.register_new_resolver("absolute_path", os.path.abspath, replace=True)
OmegaConf.register_new_resolver("run_directory", run_directory, replace=True)
OmegaConf.register_new_resolver("output_folder", output_folder, replace=True)


CONFIG_DIRECTORY = str(Path(__file__).resolve().parents[1])
VERSION_BASE = "1.3"
_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    YAMLError,
    ValueError,
    TypeError,
    OSError,
    ImportError,
)


class Composer:
    """Composes configurations from the YAML files of this package and of the user's."""

    def __init__(self, config_name: str, config_directory: str | None) -> None:
        """Set up the search path.

        Args:
            config_name: the primary configuration, without .yaml.
            config_directory: the user's, searched before ours.
        """
        version.setbase(VERSION_BASE)
        setup_globals()
        JobRuntime().set("name", config_name)
        search_path = create_config_search_path(CONFIG_DIRECTORY)
        if config_directory is not None:
            if not Path(config_directory).is_dir():
                raise InvalidConfiguration([f"--config-dir: no directory {show(config_directory)}"])
            directory = f"file://{Path(config_directory).resolve()}"
            search_path.prepend(
                "command-line", directory, anchor=SearchPathQuery(provider="schema")
            )
        self.config_name = config_name
        self.loader = ConfigLoaderImpl(search_path)
        self.parser = OverridesParser.create(config_loader=self.loader)
        self._loaded: dict[tuple[str, ...], DictConfig] = {}
        self._plain: dict[tuple[str, ...], dict[str, Any]] = {}
        self._repositories: dict[str, IConfigRepository] = {}

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Parse key=value overrides; refuse anything else, and repeated keys."""
        parsed: list[Override] = []
        problems = []
        for text in overrides:
            try:
                override = self.parser.parse_overrides([text])[0]
            except _ERRORS:
                problems.append(syntax_problem(text))
                continue
            parsed.append(override)
            problems += [] if override.key_or_group else [syntax_problem(text)]
        problems += repeated_keys(parsed) + directory_problems(parsed) + sweeper_problems(parsed)
        if problems:
            raise InvalidConfiguration(problems)
        return parsed

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, list[str], list[str]]:
        """Compose one configuration, its `hydra` node included.

        Returns:
            The configuration, the values that could not be set, and the new keys that were set.
            New keys are in the configuration; validation decides whether they are allowed.

        Raises:
            InvalidConfiguration: if nothing can be composed: groups or overrides that cannot
            be read.
        """
        parsed = self.parse(overrides)
        problems = sweep_problems(parsed)
        if problems:
            raise InvalidConfiguration(problems)
        lines, values = self._choose(parsed)
        config = deepcopy(self._loaded[lines])
        invented: list[str] = []
        for override in values:
            problems += self._set(config, override, invented)
        return config, problems, invented

    def chosen(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Compose the chosen options, without values that are set; interpolations stay."""
        lines, _ = self._choose(self.parse(overrides))
        if lines not in self._plain:
            plain: Any = OmegaConf.to_container(self._loaded[lines])
            self._plain[lines] = plain
        return self._plain[lines]

    def options(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the chosen option of each of our groups: `{"extractor": "mlp", "pomdp": []}`."""
        choices = self.chosen(overrides)["hydra"]["runtime"]["choices"]
        return {group: option for group, option in choices.items() if "/" not in group}

    def typed(self, overrides: Sequence[str]) -> tuple[set[str], set[str], list[str]]:
        """Return the keys that are set, the groups that are chosen, and the overrides for Hydra."""
        parsed = self.parse(overrides)
        hydra = [o.input_line or "" for o in parsed if o.is_hydra_override()]
        values = {o.key_or_group for o in self._choose(parsed)[1]}
        groups = {o.get_key_element().lstrip("+~") for o in parsed} - values
        return values, groups, hydra

    def hydra_settings(self, parsed: Sequence[Override]) -> DictConfig:
        """Return the `hydra` node, which tells whether this is a sweep; without swept values."""
        lines, _ = self._choose([o for o in parsed if not o.is_sweep_override()])
        node: DictConfig = self._loaded[lines].hydra
        return node

    def jobs(self, overrides: Sequence[str]) -> list[list[str]]:
        """List the overrides of every job of a sweep; an interval gives its two ends."""
        discrete = []
        for override in self.parser.parse_overrides(list(overrides)):
            line, value = override.input_line or "", override.value()
            if isinstance(value, IntervalSweep):
                line = f"{override.get_key_element()}={value.start},{value.end}"
            discrete.append(line)
        batches = BasicSweeper.split_arguments(self.parser.parse_overrides(discrete), None)
        return [job for batch in batches for job in batch]

    def _choose(self, parsed: Sequence[Override]) -> tuple[tuple[str, ...], list[Override]]:
        """Compose the chosen groups and Hydra's settings, cached by their overrides.

        Also returns the values that are left to set.
        """
        repository = self._repository(parsed)
        chosen: list[Override] = []
        values: list[Override] = []
        problems: list[str] = []
        for override in parsed:
            is_group = repository.group_exists(override.key_or_group) and not isinstance(
                override.value(), dict
            )
            if is_group:
                problems += choice_problems(override, repository)
            (chosen if is_group or override.is_hydra_override() else values).append(override)
        if problems:
            raise InvalidConfiguration(problems)
        lines = tuple(override.input_line or "" for override in chosen)
        if lines not in self._loaded:  # the jobs of a sweep often differ in values only
            try:
                self._loaded[lines] = self.loader.load_configuration(
                    self.config_name, list(lines), RunMode.RUN
                )
            except _ERRORS as error:
                problem = one_line(error) + _addition_hint(one_line(error), chosen)
                raise InvalidConfiguration([problem]) from error
        return lines, values

    def _repository(self, parsed: Sequence[Override]) -> IConfigRepository:
        """Return every YAML file of the search path, the user's included."""
        search_path = [o.input_line or "" for o in parsed if o.key_or_group == "hydra.searchpath"]
        place = " ".join(search_path)
        if place in self._repositories:
            return self._repositories[place]
        with warnings.catch_warnings(record=True) as unavailable:
            warnings.simplefilter("always")
            try:
                _, repository = self.loader._parse_overrides_and_create_caching_repo(
                    self.config_name, search_path
                )
            except _ERRORS as error:
                raise InvalidConfiguration([f"hydra.searchpath: {one_line(error)}"]) from error
        if unavailable:
            places = [
                re.sub(".*path=(.*) is not available.*", r"\1", str(w.message)) for w in unavailable
            ]
            raise InvalidConfiguration(
                f"hydra.searchpath: no folder or importable package {place!r}" for place in places
            )
        self._repositories[place] = repository
        return repository

    def _set(self, config: DictConfig, override: Override, invented: list[str]) -> list[str]:
        """Set one value as Hydra would; return the problem if it cannot be set."""
        key = override.key_or_group
        exists = _exists(config, key)
        if override.is_delete() and not exists:
            return [f"{key}: cannot be removed, there is no such key{key_hint(key, list(config))}"]
        if override.is_add() and exists and not isinstance(override.value(), dict | list):
            return [f"{key}: exists already; leave out the plus: {(override.input_line or '')[1:]}"]
        try:
            ConfigLoaderImpl._apply_overrides_to_config([override], config)
        except HydraException as error:
            if not isinstance(error.__cause__, ConfigAttributeError | ConfigKeyError):
                return [f"{key}: {one_line(error)}"]
            invented.append(override.input_line or key)
            try:
                OmegaConf.update(config, key, override.value(), merge=True, force_add=True)
            except _ERRORS as second_error:
                return [f"{key}: {one_line(second_error)}"]
        except _ERRORS as error:
            return [f"{key}: {one_line(error)}"]
        return []


def _addition_hint(problem: str, chosen: Sequence[Override]) -> str:
    """Return the end of a message about a choice for a place that does not exist yet."""
    for override in chosen:
        place = override.package or ""
        if ".keys." in place and f"{override.get_key_element()}'" in problem:
            return f"; a new one is added with a plus: +{override.input_line}"
    return ""


def _exists(config: DictConfig, key: str) -> bool:
    try:
        return OmegaConf.select(config, key, throw_on_missing=False) is not None
    except OmegaConfBaseException:
        return True  # an interpolation or ???
