"""Detects another distribution's `agents`, `envs`, ... that shadow ours.

NeuRL runs from its checkout under generic top-level names, which other distributions use too. Entry
points call `check_imports` before they import our packages; it loads none of them.
Its own name starts with the project's, so that nothing shadows it.

In a wheel our packages lie below `neurl`, and nothing shadows them.
"""

import importlib.util
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

PACKAGES = ("agents", "analysis", "conf", "envs", "networks", "training")
_IS_WHEEL = __name__ != "neurl_guard"


def check_imports(root: Path) -> None:
    """End the process with exit code 2 if a package would not be imported from `root`.

    In a wheel, forget the folder of the script: there, it would shadow the user's packages.
    """
    if _IS_WHEEL:
        sys.path[:] = [place for place in sys.path if Path(place).resolve() != root.resolve()]
    message = shadowed(root)
    if message is not None:
        print(message, file=sys.stderr)
        sys.exit(2)


def shadowed(root: Path) -> str | None:
    """Say in one line which packages of ours are shadowed or missing, with the remedy, or None."""
    if _IS_WHEEL:
        return None
    root = root.resolve()
    places = {name: _location(name) for name in PACKAGES}
    foreign = {name: place for name, place in places.items() if place not in (None, root / name)}
    if not foreign:
        missing = [repr(name) for name, place in places.items() if place is None]
        message = (
            f"neurl: Python does not find {', '.join(missing)}: run from the checkout ({root}), or "
            "install it with 'python -m pip install -e .'."
        )
        return message if missing else None
    name, place = next(iter(foreign.items()))
    owners = sorted(set(packages_distributions().get(name, [])) - {"neurl"})
    owner, remedy = "another project", "take that folder off sys.path (PYTHONPATH),"
    if owners:
        owner = f"the distribution '{', '.join(owners)}'"
        remedy = f"'python -m pip uninstall {' '.join(owners)}',"
    return (
        f"neurl: Python would import {', '.join(map(repr, foreign))} from {owner} ({place}), not "
        f"from {root}: {remedy} or use an environment of NeuRL's own ('make setup')."
    )


def _location(name: str) -> Path | None:
    """Find the folder (or the file) that `import name` would read, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    place = next(iter(folders), None) if folders is not None else spec.origin
    return Path(place).resolve() if place is not None else None
