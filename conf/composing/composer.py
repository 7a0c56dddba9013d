"""Composes the configuration of a list of overrides by Hydra's compose API.

Hydra stops at its first error and leaves values unchecked. Here it composes the chosen groups, and
then the values are set one by one, so that every problem is reported.
"""

import itertools
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from conf.checking.refusals import (
    InvalidConfiguration,
    choice_problems,
    one_line,
    override_problems,
    sweep_problems,
    syntax_problem,
)
from conf.checking.suggestions import key_hint
from conf.composing.registered import GROUP, registered
from conf.schema.scripts import ROOTS
from conf.schema.types import ABSENT, Config, at, show


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


_IS_OLD = hydra.__version__.startswith("1.3.")
_register: Any = OmegaConf.register_new_resolver if _IS_OLD else OmegaConf.register_resolver
for _resolver in (environment_name, job_suffix, run_directory, output_folder):
    _register(_resolver.__name__, _resolver, replace=True)
_register("absolute_path", os.path.abspath, replace=True)


CONFIG_DIRECTORY = str(Path(__file__).resolve().parents[1])
VERSION_BASE = {"version_base": "1.3"} if _IS_OLD else {}
"""Hydra 1.4 deprecates the argument that 1.3 asks for, and OmegaConf 2.4 the old registration."""
_ERRORS = (
    *(HydraException, OmegaConfBaseException, YAMLError),
    *(ValueError, TypeError, OSError, ImportError, UserWarning),
)


class _UserDirectories(SearchPathPlugin):
    """Lets Hydra search the directory that a composer was given, where `--config-dir` stands.

    And the folders of registered packages.
    """

    path: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the directories after ours.

        Raises:
            ValueError: a package registers a folder that it has not.
        """
        if self.path is not None:
            search_path.append("command-line", f"file://{Path(self.path).resolve()}")
        found = registered().items()
        for package, folder in [(package, each) for package, own in found for each in own]:
            if not folder.is_dir():
                remedy = f"mend its entry point of the group {GROUP}, or uninstall it"
                raise ValueError(f"{package} registers configurations in {folder}: {remedy}")
            search_path.append(package, f"file://{folder}")


def register_directories() -> None:
    """Make Hydra search them; once is enough, but launchers renew its plugins."""
    Plugins.instance().register(_UserDirectories)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn the errors of Hydra, OmegaConf and YAML into a refusal of one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "provider=.* is not available")
            yield
    except _ERRORS as error:
        raise InvalidConfiguration([one_line(error)]) from error


@dataclass
class Choices:
    """The chosen options, composed, and the overrides of values, which are not set yet."""

    config: DictConfig
    plain: Config
    values: list[Override] = field(default_factory=list)


class Composer:
    """Composes configurations from the YAML files of this package and of the user's."""

    def __init__(
        self, config_name: str, directory: str | None = None, root: str | None = None
    ) -> None:
        """Set up the search path.

        Args:
            config_name: the primary configuration, without .yaml.
            directory: the user's, of `--config-dir`.
            root: our configuration whose options it has, if it is the user's own.
        """
        self.config_name, self.directory, self.root = config_name, directory, root or config_name
        self._composed: dict[tuple[str, ...], Choices] = {}
        self._options: dict[tuple[str, ...], list[str]] = {}
        with self._hydra():
            self._loader = GlobalHydra.instance().config_loader()
        self._parser = OverridesParser.create(self._loader)

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Parse key=value overrides; refuse anything else, and what a run cannot have."""
        parsed: list[Override] = []
        problems = []
        for text in overrides:
            try:
                parsed += self._parser.parse_overrides([text])
            except _ERRORS:
                problems.append(syntax_problem(text))
        problems += [syntax_problem(o.input_line or "") for o in parsed if not o.key_or_group]
        problems += override_problems(parsed)
        if problems:
            raise InvalidConfiguration(problems)
        return parsed

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, list[str], list[str]]:
        """Compose one configuration, its `hydra` node included.

        Returns:
            The configuration, the values that could not be set, and the overrides that Hydra takes
            with two pluses alone: of new keys without one, of others with one. Validation tells
            whether there are such keys.

        Raises:
            InvalidConfiguration: if nothing can be composed: groups or overrides that cannot
            be read.
        """
        chosen = self.choose(self.parse(overrides))
        config, problems, forced = deepcopy(chosen.config), list[str](), list[str]()
        for override in chosen.values:
            key, value = override.key_or_group, override.value()
            found = written = at(chosen.plain, key)
            with suppress(OmegaConfBaseException):  # an interpolation that cannot be resolved
                found = OmegaConf.select(config, key, default=written)
            is_new = found is ABSENT or (isinstance(value, dict) and not override.is_add())
            if override.is_add() != is_new and not override.is_delete():
                forced.append(override.input_line or "")
            try:
                _set(config, override, found)
            except _ERRORS as error:
                problems.append(f"{key}: {one_line(error)}")
        return config, problems, forced

    def chosen(self, overrides: Sequence[str]) -> Config:
        """Compose the chosen options, without values that are set; interpolations stay."""
        return self.choose(self.parse(overrides)).plain

    def options(self, overrides: Sequence[str]) -> Config:
        """Return the chosen option of each of our groups: `{"extractor": "mlp", "pomdp": []}`."""
        choices = self.chosen(overrides)["hydra"]["runtime"]["choices"]
        return {group: option for group, option in choices.items() if "/" not in group}

    def hydra_settings(self, parsed: Sequence[Override]) -> DictConfig:
        """Return the `hydra` node, which tells whether this is a sweep; without swept values."""
        return self.choose([o for o in parsed if not o.is_sweep_override()]).config.hydra

    def jobs(self, overrides: Sequence[str]) -> list[list[str]]:
        """List the overrides of every job of a sweep."""
        words: dict[str, list[str]] = {}  # of several overrides of a key the last counts
        for override in self._parser.parse_overrides(list(overrides)):
            line, key = override.input_line or "", override.get_key_element()
            words[key] = [line]
            if override.is_sweep_override():
                try:
                    words[key] = [f"{key}={each}" for each in override.sweep_string_iterator()]
                except OmegaConfBaseException as error:
                    remedy = f"one sweep in another; list the values: {key}=1,2"
                    raise InvalidConfiguration([f"{line}: {remedy}"]) from error
            if not words[key]:
                raise InvalidConfiguration([f"{line}: there is no such value"])
        return [list(job) for job in itertools.product(*words.values())]

    def choose(self, parsed: Sequence[Override]) -> Choices:
        """Compose the chosen groups and Hydra's settings, cached by their overrides."""
        chosen: list[Override] = []
        values: list[Override] = []
        problems = [*sweep_problems(parsed)]
        places = [o.input_line or "" for o in parsed if o.key_or_group == "hydra.searchpath"]
        for override in parsed:
            options = self._group(override, places)
            if options and not override.is_sweep_override():
                problems += choice_problems(override, options, ROOTS[self.root])
            (chosen if options or override.is_hydra_override() else values).append(override)
        if problems:
            raise InvalidConfiguration(problems)
        lines = tuple(override.input_line or "" for override in chosen)
        if lines not in self._composed:  # the jobs of a sweep often differ in values only
            with self._hydra():
                made = hydra.compose(self.config_name, list(lines), return_hydra_config=True)
                plain: Any = OmegaConf.to_container(made)
                self._composed[lines] = Choices(made, plain)
        return replace(self._composed[lines], values=values)

    def _group(self, override: Override, places: list[str]) -> list[str]:
        """Return the options of the group that an override chooses from; none if it sets a value.

        Args:
            places: the override of `hydra.searchpath`, if there is one.
        """
        group = override.key_or_group
        if "." in group or isinstance(override.value(), dict):
            return []
        # Our own primary configurations have no search path of their own.
        name = None if self.config_name in ROOTS else self.config_name
        if (key := (group, *places)) not in self._options:
            with _refusing():
                self._options[key] = self._loader.get_group_options(
                    group, config_name=name, overrides=places
                )
        return self._options[key]

    @contextmanager
    def _hydra(self) -> Iterator[None]:
        """Initialize Hydra, also inside one of its jobs."""
        outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
        register_directories()
        _UserDirectories.path = self.directory
        door = partial(hydra.initialize_config_dir, CONFIG_DIRECTORY, self.config_name)
        try:
            with _refusing(), door(**VERSION_BASE):
                yield
        finally:
            _UserDirectories.path = None
            GlobalHydra.instance().hydra = outer


def _set(config: DictConfig, override: Override, found: Any) -> None:
    """Set one value as Hydra would, in place of the one that was found.

    Raises:
        ValueError: Hydra would not set it.
    """
    key, value = override.key_or_group, override.value()
    if override.package is not None:
        raise ValueError(f"the group {key!r} does not exist")
    if not override.is_delete():
        OmegaConf.update(config, key, value, force_add=True)
        return
    if found is ABSENT:
        hint = key_hint(key, list(map(str, config)))
        raise ValueError(f"cannot be removed, there is no such key{hint}")
    if found is None or value not in (None, found):
        already = " already" if found is None else ""
        raise ValueError(f"cannot be removed, as it is {show(found)}{already}")
    parent, _, name = key.rpartition(".")
    with open_dict(config):
        del (OmegaConf.select(config, parent) if parent else config)[name]
