"""What modules, commands and extras are called in a checkout, and in an installed wheel.

A wheel holds the folders of the checkout below `neurl`, so that it takes no name that other
projects use. Configurations have the checkout's names in both, such as `agents.ppo.PPO`: a run of
one opens in the other.
"""

import importlib.metadata
import re
import shlex

PREFIX = __package__.removesuffix("conf.schema")
"""Before the names of our modules: `neurl.` in a wheel, nothing in a checkout."""
FOLDERS = ("agents", "networks", "envs", "training")
"""Packages that hold classes which a configuration may name."""
GAMES = ("envs.games.atari", "envs.games.minatar", "envs.games.pool")
"""Modules that register environments, for `env.packages`."""
_IDS = {"atari": ("Atari/",), "minatar": ("MinAtar/",), "minigrid": ("MiniGrid-", "BabyAI-")}
"""Prefixes of the ids that a preset makes."""


def importable(name: str) -> str:
    """Return the name by which Python imports what a configuration calls `agents.ppo.PPO`."""
    return PREFIX + name if name.partition(".")[0] in FOLDERS else name


def short(name: str) -> str:
    """Return the name that a configuration has for `neurl.agents.ppo.PPO`."""
    own = name.removeprefix("neurl.")
    return own if own.partition(".")[0] in FOLDERS else name


def is_ours(module: str) -> bool:
    """Tell whether a class's `__module__` belongs to this project."""
    return module.startswith(tuple(f"{PREFIX}{folder}." for folder in FOLDERS))


def preset_of(id: str) -> str:
    """Write the words that choose an environment of a preset, `env=atari env.id=Atari/Pong-v0`.

    Empty for other ids.
    """
    elsewhere = r"^(?:ALE|Atari)/(\w+?)(?:-ram)?-v\d$|^(\w+?)(?:NoFrameskip|Deterministic)-v\d$"
    id = re.sub(elsewhere, r"Atari/\1\2-v0", id)
    for preset, prefixes in _IDS.items():
        if id.startswith(prefixes):
            return f"env={preset} env.id={id}"
    return ""


def command(script: str, *words: str) -> str:
    """Write a command for the user: `python train.py seed=1`, in a wheel `neurl train seed=1`."""
    return shlex.join([*(["neurl", script] if PREFIX else ["python", f"{script}.py"]), *words])


def installing(extra: str, *, is_pinned: bool = True) -> str:
    """Write the command that installs an extra of this project, as tested if `is_pinned`."""
    if PREFIX:
        return f"pip install 'neurl[{extra}]'"
    return f"pip install {'-c constraints.txt ' if is_pinned else ''}-e '.[{extra}]'"


def version_of(distribution: str) -> str:
    """Return the version of an installed distribution, as text."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout, not installed
        return "not installed"
