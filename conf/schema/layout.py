"""What modules, commands and extras are called in a checkout, and in an installed wheel.

A wheel holds the folders of the checkout below `neurl`, so that it takes no name that other
projects use. Configurations have the checkout's names in both, such as `agents.ppo.PPO`: a run of
one opens in the other.
"""

import shlex

PREFIX = __package__.removesuffix("conf.schema")
"""Before the names of our modules: `neurl.` in a wheel, nothing in a checkout."""
FOLDERS = ("agents", "networks", "envs", "training")
"""Packages that hold classes which a configuration may name."""
GAMES = ("envs.games.atari", "envs.games.minatar", "envs.games.pool")
"""Modules that register environments, for `env.packages`."""


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


def command(script: str, *words: str) -> str:
    """Write a command for the user: `python train.py seed=1`, in a wheel `neurl train seed=1`."""
    return shlex.join([*(["neurl", script] if PREFIX else ["python", f"{script}.py"]), *words])


def installing(extra: str, *, is_pinned: bool = True) -> str:
    """Write the command that installs an extra of this project, as tested if `is_pinned`."""
    if PREFIX:
        return f"pip install 'neurl[{extra}]'"
    return f"pip install {'-c constraints.txt ' if is_pinned else ''}-e '.[{extra}]'"
