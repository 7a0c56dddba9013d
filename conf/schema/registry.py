"""The keys of optimizers and masks, and the keys of each `_target_` by group.

Each class describes the YAML files it names. `options_of` finds the keys of any class.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Annotated, Any, Literal

from conf.composing.registered import with_registered
from conf.schema import agents, extractors, heads, memories, pomdp  # noqa: F401 - noted as parts
from conf.schema.parts import Options, Part
from conf.schema.types import (
    Config,
    FractionBelowOne,
    Free,
    NonNegative,
    Parts,
    Positive,
    PositiveCount,
    Rules,
    Schedule,
)


class GroupOptions(Options):
    """Options of one part of the agent; missing ones are the optimizer's, as is the schedule."""

    learning_rate: NonNegative = 0.0
    weight_decay: NonNegative = 0.0


class OptimizerOptions(Part, group="optimizer"):
    """Keys of every optimizer that we read; others go to its constructor."""

    learning_rate: Positive
    schedule: Schedule
    final_learning_rate: NonNegative
    max_grad_norm: Positive | None
    groups: Annotated[Free, Parts(GroupOptions, "temperature", "auxiliary")]

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse a final value of what does not change."""
        if config["optimizer"]["schedule"] == "constant":
            why = "it has no effect without optimizer.schedule=linear"
            yield "optimizer.final_learning_rate", 0, why


class AdamOptions(OptimizerOptions, of="torch.optim.Adam torch.optim.AdamW torch.optim.RAdam"):
    """conf/optimizer/adam.yaml, adamw.yaml and radam.yaml."""

    betas: tuple[FractionBelowOne, FractionBelowOne]
    eps: Positive
    weight_decay: NonNegative


class RMSpropTFOptions(OptimizerOptions, of="agents.learning.update_rules.RMSpropTF"):
    """conf/optimizer/rmsprop_tf.yaml."""

    alpha: FractionBelowOne
    eps: Positive
    weight_decay: NonNegative


class RMSpropOptions(RMSpropTFOptions, of="torch.optim.RMSprop"):
    """conf/optimizer/rmsprop.yaml."""

    momentum: NonNegative
    centered: bool


class SGDOptions(OptimizerOptions, of="torch.optim.SGD"):
    """conf/optimizer/sgd.yaml."""

    momentum: NonNegative
    nesterov: bool
    weight_decay: NonNegative


class WrapperOptions(Part, group="wrapper"):
    """A wrapper of the user's own takes any keys."""


class ScaleRewardOptions(WrapperOptions, of="envs.wrappers.ScaleReward"):
    """An entry of `env.wrappers`; there is no file for it."""

    factor: Positive


class GridCodesOptions(WrapperOptions, of="envs.wrappers.GridCodes"):
    """An entry of `env.wrappers`, in conf/env/minigrid.yaml."""

    direction: bool


class GridPixelsOptions(WrapperOptions, of="envs.wrappers.GridPixels"):
    """An entry of `env.wrappers`, in conf/env/minigrid_rgb.yaml."""

    tile_size: PositiveCount


class TrackerOptions(Part, group="tracker"):
    """A tracker of the user's own takes any keys."""


class MLflowOptions(TrackerOptions, of="training.tracking.trackers.MLflow"):
    """conf/tracking/mlflow.yaml."""

    experiment: str


class TrackioOptions(TrackerOptions, of="training.tracking.trackers.Trackio"):
    """conf/tracking/trackio.yaml."""

    project: str


class WandBOptions(TrackioOptions, of="training.tracking.trackers.WandB"):
    """conf/tracking/wandb.yaml."""

    mode: Literal["online", "offline"]


TARGETS, OTHER_TARGETS = Part.targets, Part.of_any

KNOWN = {target for group in TARGETS.values() for target in group if "." in target}
"""The classes of all groups, without `auto`."""

WITH_OPTIONS = ("agent", "policy_head", "value_head")
"""Groups whose user classes are imported for their options dataclass."""


def options_for(config: Mapping[str, Any], part: str) -> Any:
    """Return a part's options dataclass, with the keys that all of its kind have."""
    own = options_of(config[part]["_target_"], part, config["trusted_packages"])
    return own or OTHER_TARGETS[part]


def options_of(target: str, group: str, trusted_packages: Sequence[str] = ()) -> Any:
    """Return the options dataclass of a group's class; None if it has none.

    For an agent or a head in a trusted or registered package it is the class's attribute `Options`,
    with the keys that all of its kind have.

    Raises:
        Exception: any error of importing that package.
    """
    known = TARGETS.get(group, {})
    own = with_registered(trusted_packages)
    is_own = any(target.startswith(f"{package}.") for package in own)
    if target in known or group not in WITH_OPTIONS or not is_own:
        return known.get(target)
    module, _, name = target.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    options = getattr(found, "Options", None)
    is_dataclass = isinstance(options, type) and "__dataclass_fields__" in vars(options)
    if not is_dataclass or not (group == "agent" or _describe_constructor(found)):
        return None
    return _merged(options, OTHER_TARGETS[group])


def _describe_constructor(found: Any) -> bool:
    """Tell whether a class's `Options` are not just those of a constructor that it replaced."""
    options, constructor = (
        next(each for each in found.__mro__ if name in vars(each))
        for name in ("Options", "__init__")
    )
    return issubclass(options, constructor) or "options" in signature(found).parameters


@cache
def _merged(own: Any, known: Any) -> Any:
    if issubclass(own, known):
        return own
    # Not instantiated: in a constructor, keys with a default could not come first.
    return dataclass(init=False)(type(own.__name__, (own, known), {}))
