"""Reads the records of a run directory as plain data, with size limits.

A run may be untrusted. Its content is never resolved, expanded or turned into objects: only JSON
and YAML without tags, anchors and aliases, both up to a limit.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from conf.schema.types import show

try:
    from yaml import CSafeLoader as SafeLoader  # ten times faster, if available
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_BYTES = 2**24
MAX_NODES = 100_000
MAX_DEPTH = 50
"""Limits of YAML: a configuration has some 200 nodes, ten levels deep."""


def read_yaml(path: Path) -> Any:
    """Read a file of text, numbers, booleans and null in lists and mappings.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError: it cannot be read, or contains anything else.
    """
    text = read_bytes(path).decode()
    try:
        _refuse_expansion(text)
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def read_json(path: Path) -> Any:
    """Read JSON; errors as `read_yaml`."""
    try:
        return json.loads(read_bytes(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a configuration and all below it with their keys, mappings and lists included."""
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from nodes(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from nodes(value, f"{path}[{index}]")


def strange_values(config: Any) -> Iterator[str]:
    """Yield a line for each value that is not plain data, or contains an interpolation."""
    for path, value in nodes(config):
        if isinstance(value, str) and "${" in value:
            yield f"{path}: expected a resolved value, without ${{, got {show(value)}"
        elif isinstance(value, int) and abs(value) > sys.float_info.max:
            yield f"{path}: the number is too large"
        elif not isinstance(value, dict | list | str | int | float | None):
            yield f"{path}: expected text, a number, true, false or null, got {show(value)}"


class _Loader(SafeLoader):
    """Converts keys to text, as in a composed configuration, and refuses repeated keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        made = {str(key): value for key, value in super().construct_mapping(node, True).items()}
        if len(made) != len(node.value):
            raise ValueError(f"line {node.start_mark.line + 1}: a mapping has a key twice")
        return made


def read_bytes(path: Path) -> bytes:
    """Read a file of up to 16 MiB, never a pipe or device; errors as `read_yaml`."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no file")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    return data


def _refuse_expansion(text: str) -> None:
    """Check the events of a YAML text before anything is built from them."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=SafeLoader)):
        if getattr(event, "anchor", None) is not None:  # an alias has one too
            raise ValueError("it has an anchor or an alias, which no run writes")
        if getattr(event, "tag", None) is not None:
            raise ValueError("it has a tag (!), which no run writes")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or count > MAX_NODES:
            raise ValueError("it is nested too deeply, or too long")
