"""Finalises a composed configuration: resolved, checked, typed, read-only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.checking.refusals import InvalidConfiguration
from conf.checking.validation import MISSING_VALUE, checked


def frozen(config: DictConfig, config_name: str = "config") -> DictConfig:
    """Resolve a composed configuration, check it, and return it typed and read-only.

    Raises:
        InvalidConfiguration: with every problem.
    """
    typed, problems = inspected(config, config_name)
    if problems:
        raise InvalidConfiguration(problems)
    return read_only(typed)


def read_only(typed: dict[str, Any]) -> DictConfig:
    """Wrap a checked configuration as read-only, without resolving anything."""
    config = OmegaConf.create(typed)
    OmegaConf.set_readonly(config, True)
    return config


def inspected(config: DictConfig, config_name: str) -> tuple[dict[str, Any], list[str]]:
    """Return a configuration, resolved and typed, without `hydra`, and all its problems."""
    unresolved: dict[str, str] = {}
    resolved = {
        key: _item(config, key, key, unresolved) for key in map(str, config) if key != "hydra"
    }
    typed, problems = checked(resolved, config_name)
    problems = [problem for problem in problems if problem.partition(":")[0] not in unresolved]
    if problems or len(unresolved) > 1:
        # It is computed from other keys, whose problems are reported already.
        unresolved.pop("run_dir", None)
    return typed, problems + [f"{path}: {reason}" for path, reason in unresolved.items()]


@contextmanager
def hydra_configuration(config: DictConfig) -> Iterator[None]:
    """Let ${hydra:...} read from this configuration, as in a job."""
    instance = HydraConfig.instance()
    outer = instance.cfg
    instance.set_config(config)
    try:
        yield
    finally:
        instance.cfg = outer


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
