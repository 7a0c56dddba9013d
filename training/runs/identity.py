"""What must be equal to resume a run bit for bit."""

import functools
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

import gymnasium
import torch
from omegaconf import DictConfig

from conf.composing.resumption import is_changeable, leaves
from conf.schema.layout import version_of
from envs.interface import Environments
from envs.spaces import one_line
from networks import ranks
from training.building.instantiation import plain

_LIBRARIES = ("neurl", "torch", "gymnasium", "numpy", "hydra-core")
_TOLD = {
    "configuration": "config.yaml: is not the one that the checkpoint was written with; it was "
    "edited, or another version of NeuRL wrote it",
    "observation space": "the environment's observation space was {}, it is {} now",
    "action space": "the environment's action space was {}, it is {} now",
    "threads": "num_threads: the run has {}, this process {}",
    "ranks": "the run has {} ranks (processes), here are {}: torchrun starts them",
}
"""What must be equal, and what is said of a difference."""
_ENGINES = {"box2d": "Box2D", "mujoco": "mujoco", "atari": "ale-py", "minatar": "MinAtar"}
"""Distributions that simulate Gymnasium's environments and ours, by the environment's module."""


def identity(config: DictConfig, environments: Environments) -> dict[str, Any]:
    """Describe configuration, environment, versions and threads, as plain text and numbers."""
    return {
        "configuration": digest(plain(config)),
        "observation space": one_line(environments.single_observation_space),
        "action space": one_line(environments.single_action_space),
        "threads": torch.get_num_threads(),
        "ranks": ranks.size(),
        "versions": {**versions(), **environment_versions(config)},
    }


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List, one line each, why a saved run cannot be resumed exactly here."""
    lines = []
    for what, told in _TOLD.items():
        if saved[what] != now[what]:
            lines.append(told.format(saved[what], now[what]))
    for name in sorted({*saved["versions"], *now["versions"]}):
        before, here = (each["versions"].get(name, "none") for each in (saved, now))
        if before != here:
            lines.append(f"the run was made with {name} {before}, here is {here}")
    return lines


def digest(config: Mapping[str, Any]) -> str:
    """Hash every value that must not change when a run is resumed."""
    fixed = {key: value for key, value in leaves(config) if not is_changeable(key)}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return {
        "python": platform.python_version(),
        **{name: version_of(name) for name in _LIBRARIES},
    }


def environment_versions(config: DictConfig) -> dict[str, str]:
    """Versions of the distributions that the environment and its wrappers come from."""
    modules = {str(package).partition(".")[0] for package in config.env.packages}
    modules |= {str(wrapper["_target_"]).partition(".")[0] for wrapper in config.env.wrappers}
    # None for the caller's own, which is not registered.
    entry_point = getattr(gymnasium.registry.get(config.env.id), "entry_point", None)
    parts = entry_point.partition(":")[0].split(".") if isinstance(entry_point, str) else []
    found = {_ENGINES[part]: version_of(_ENGINES[part]) for part in parts if part in _ENGINES}
    modules |= set(parts[:1])
    for module in modules - {"gymnasium"}:  # which is among the libraries; others take 0.1 s
        for name in _distributions().get(module, []):
            found[name] = version_of(name)
    return found


_distributions = functools.cache(importlib.metadata.packages_distributions)
"""Maps modules to distributions, once: it reads every distribution's file list."""
