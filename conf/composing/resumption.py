"""The configuration of `resume=RUN_DIR`: the run's own, with few allowed changes.

A run can be resumed bit for bit only with its own configuration. Overrides that repeat it are
accepted. Overrides that would change it are refused, except a few that do not affect training.
"""

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from conf.composing.stored import read_yaml
from conf.schema.types import ABSENT, Config, show

_CHANGEABLE = ("total_env_steps", "evaluation", "device")
ONLY_CHANGEABLE = "with resume only total_env_steps, evaluation and device may change"
_SESSION = ("resume", "run_dir", "trusted_packages", "tracking.progress")
"""Keys of a session, not of a run."""
_LISTED = 10
"""Runs in a message."""


def is_changeable(key: str) -> bool:
    """Tell whether a key may differ between the sessions of one run."""
    return lies_under(key, (*_CHANGEABLE, *_SESSION))


def scheduled(config: Mapping[str, Any]) -> list[str]:
    """List the keys of what changes over a run, and so depends on total_env_steps."""
    agent = config["agent"]
    found = []
    if agent.get("epsilon") != agent.get("final_epsilon"):
        found.append("agent.epsilon")
    if agent.get("prioritized"):
        found.append("agent.importance_exponent")
    kinds = ((key, kind) for key, kind in leaves(config) if key.endswith("schedule"))
    return found + [key for key, kind in kinds if kind not in (None, "constant")]


def runs_in(folder: Path) -> list[Path]:
    """List the runs under a folder, newest first."""
    written: dict[Path, float] = {}
    for place, folders, files in os.walk(folder):
        if "config.yaml" in files:
            with suppress(FileNotFoundError):  # another process removed the run
                written[Path(place)] = Path(place, "config.yaml").stat().st_mtime
            folders[:] = [name for name in folders if name not in (".hydra", "pretraining")]
    return sorted(written, key=written.__getitem__, reverse=True)


def stored_configuration(run: Path) -> Config:
    """Read a run's stored configuration, as plain data and unchecked.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    path = run / "config.yaml"
    try:
        config = read_yaml(path)
    except OSError as error:
        if os.path.exists(path):
            raise ValueError(f"{path} is damaged: {error}") from error
        problem, found = f"no run in {run}: {path.name} is missing", runs_in(run)[:_LISTED]
        listed = "; the newest runs there:" if found else ""
        raise ValueError("\n  ".join([problem + listed, *map(str, found)])) from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds no configuration")
    return config


def links(run: Path) -> list[str]:
    """Report links that would make a session write outside the run's directory."""
    for folder, folders, files in os.walk(run):
        for path in (Path(folder, name) for name in (*folders, *files)):
            with suppress(FileNotFoundError):  # removed by a process that trains here
                found = path.lstat()
                is_own = stat.S_ISREG(found.st_mode) and found.st_nlink <= 1
                if not is_own and not stat.S_ISDIR(found.st_mode):
                    copy = shlex.join(["cp", "-rL", str(run), f"{run}-copy"])
                    why = "is a link, or no file, and resuming would write through it"
                    return [f"resume: {path} {why}; resume a copy: {copy}"]
    return []


def resumed(
    stored: Config,
    given: Config,
    default: Config,
    said: Sequence[str],
) -> tuple[Config, list[str]]:
    """Return the configuration to resume with, and every override that would change the run.

    Args:
        stored: the run's, typed.
        given: composed from the command line alone, typed.
        default: composed from an empty command line, typed.
        said: keys that the command line sets; they count even if they repeat a default.
    """
    before, asked, usual = dict(leaves(stored)), dict(leaves(given)), dict(leaves(default))
    run, problems = given["resume"], list[str]()
    changes = {k: v for k, v in asked.items() if v != usual.get(k, ABSENT) or lies_under(k, said)}
    own = OmegaConf.create(stored)
    for key in filter(is_changeable, changes):
        OmegaConf.update(own, key, changes[key], force_add=True)
    merged: Any = OmegaConf.to_container(own)
    other = [k for k, v in changes.items() if not is_changeable(k) and before.get(k, ABSENT) != v]
    # Another class has other keys: reporting the class suffices.
    classes = [key.removesuffix("._target_") for key in other if key.endswith("._target_")]
    for key in sorted(other):
        if key.endswith("._target_") or not lies_under(key, classes):
            has = show(before[key]) if key in before else "no such key"
            asked_for = f"{key}: {show(changes[key])} was asked for, the run in {run} has {has}"
            remedy = f"(init_from={run} starts a new run from its weights)"
            problems.append(f"{asked_for}; {ONLY_CHANGEABLE} {remedy}")
    if "run_dir" in said:
        problems.append("run_dir: a run resumes in its own directory; leave it out with resume")
    total, least = merged["total_env_steps"], stored["total_env_steps"]
    if total < least:
        has = f"expected at least {least}, which the run in {run} has, got {total}"
        problems.append(f"total_env_steps: {has}")
    # Only of this session: the run itself must not declare trusted packages.
    merged["run_dir"] = merged["resume"] = run
    merged["trusted_packages"] = given["trusted_packages"]
    return merged, problems


def lies_under(key: str, places: Iterable[str]) -> bool:
    """Tell whether a key equals one of some places, or is below one."""
    return any(key == place or key.startswith(f"{place}.") for place in places)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a configuration with its key; lists and empty mappings are leaves."""
    if not isinstance(node, Mapping) or not node:
        yield path, node
        return
    for key, value in node.items():
        yield from leaves(value, f"{path}.{key}" if path else str(key))
