"""Lets Hydra read and parse once what it reads and parses anew for each composition."""

import functools
import pickle
from collections.abc import Callable
from typing import Any

import omegaconf.base
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigSource

NEVER_CHANGE = ("hydra", "main", "schema")
"""Sources of Hydra's: its own, `conf`, and its classes; a user's folder is none of them."""


def read_once(replace: Callable[[Any, str, Any], object]) -> None:
    """Keep each file of `conf` as it was read, and each override as it was parsed.

    Args:
        replace: sets an attribute.
    """
    parse = OverridesParser.parse_rule
    known: dict[tuple[str, ...], bytes] = {}

    def reads_once(kind: Any) -> Callable[[ConfigSource, str], Any]:
        read = kind.load_config

        def read_once(source: ConfigSource, config_path: str) -> Any:
            if source.provider not in NEVER_CHANGE:
                return read(source, config_path)
            key = (source.provider, source.path, config_path)
            if key not in known:
                known[key] = pickle.dumps(read(source, config_path))
            return pickle.loads(known[key])

        return read_once

    def parse_once(parser: OverridesParser, s: str, rule_name: str) -> Any:
        if (s, rule_name) not in known:
            known[s, rule_name] = pickle.dumps(parse(parser, s, rule_name))
        return pickle.loads(known[s, rule_name])

    for kind in Plugins.instance().discover(ConfigSource):
        replace(kind, "load_config", reads_once(kind))
    replace(OverridesParser, "parse_rule", parse_once)
    replace(omegaconf.base, "parse", functools.cache(omegaconf.base.parse))
    # Hydra copies the one store of all its classes twice a composition.
    replace(ConfigStore, "__deepcopy__", lambda store, _: store)
