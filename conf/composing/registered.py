"""Packages of users that bring configurations when they are installed.

    [project.entry-points."neurl.configs"]
    my_lab = "my_lab.conf"

The folder `my_lab/conf` is then searched like a `--config-dir`, and its package is trusted like one
of `trusted_packages`.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

GROUP = "neurl.configs"


@cache
def registered() -> dict[str, list[Path]]:
    """Return the packages, each with its folders of configurations; nothing of them is imported."""
    found: dict[str, list[Path]] = {}
    for point in entry_points(group=GROUP):
        package, *folders = point.value.split(".")
        spec = find_spec(package)
        places = spec.submodule_search_locations if spec is not None else None
        found.setdefault(package, []).append(Path(next(iter(places or [package])), *folders))
    return found


def with_registered(trusted_packages: Sequence[str]) -> tuple[str, ...]:
    """Add the packages that are trusted because they are installed."""
    return (*trusted_packages, *registered())
