"""A configuration as a flat table: a row for each value, named as on the command line.

The hparams tab and the comparison of runs show these rows.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from conf.checking.trust import TRUSTED_PACKAGES

Choice = bool | int | float | str | None


def choices(config: Mapping[str, Any]) -> dict[str, Choice]:
    """Flatten a plain configuration: `{"agent.clip_range": 0.2, "memory": "LSTM", ...}`.

    A `_target_` has its own row with the class's name, short unless it is a user's class; lists are
    written as text.
    """
    return dict(_rows(config, ""))


def _rows(node: Any, path: str) -> Iterator[tuple[str, Choice]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_" and path:
                yield path, _class_name(str(value))
            else:
                yield from _rows(value, f"{path}.{key}" if path else str(key))
    elif node is None or isinstance(node, bool | int | float | str):
        yield path, node
    else:
        yield path, json.dumps(node, default=str)


def _class_name(target: str) -> str:
    is_known = target.startswith(tuple(f"{package}." for package in TRUSTED_PACKAGES))
    return target.rpartition(".")[2] if is_known else target
