"""The keys of optimizers and masks, and the keys of each `_target_` by group.

Each class describes the YAML files it names. `options_of` finds the keys of any class.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any, ClassVar

from conf.schema.agents import (
    A2COptions,
    AgentOptions,
    DDPGOptions,
    DQNOptions,
    PPOOptions,
    PQNOptions,
    SACOptions,
    TD3Options,
)
from conf.schema.extractors import (
    AutoencoderOptions,
    AuxiliaryOptions,
    CNNOptions,
    ConvolutionalDecoderOptions,
    DenseDecoderOptions,
    DictExtractorOptions,
    ExtractorOptions,
    FlattenOptions,
    ImpalaCNNOptions,
    MLPOptions,
    NextLatentOptions,
    ReconstructionOptions,
    VAEOptions,
)
from conf.schema.heads import (
    C51ValueHeadOptions,
    CategoricalHeadOptions,
    DeterministicHeadOptions,
    GaussianHeadOptions,
    HLGaussValueHeadOptions,
    HuberValueHeadOptions,
    MSEValueHeadOptions,
    PolicyHeadOptions,
    QuantileValueHeadOptions,
    TwoHotValueHeadOptions,
    ValueHeadOptions,
)
from conf.schema.memories import MEMORIES, MemoryOptions
from conf.schema.pomdp import WRAPPERS as POMDP_WRAPPERS
from conf.schema.types import (
    FractionBelowOne,
    NonNegative,
    Positive,
    PositiveCount,
    Schedule,
    by_path,
)


@dataclass
class GroupOptions:
    """Options of one part of the agent; missing ones are the optimizer's."""

    learning_rate: NonNegative = 0.0
    schedule: Schedule = "constant"
    final_learning_rate: NonNegative = 0.0
    weight_decay: NonNegative = 0.0


@dataclass
class BackboneGroupsOptions:
    """`optimizer.groups.actor` and `optimizer.groups.critic`."""

    extractor: GroupOptions | None = None
    memory: GroupOptions | None = None


@dataclass
class GroupsOptions(BackboneGroupsOptions):
    """`optimizer.groups`: options of parts by path; `extractor` and `memory` mean every one."""

    keys_are_paths: ClassVar[bool] = True

    policy_head: GroupOptions | None = None
    value_head: GroupOptions | None = None
    temperature: GroupOptions | None = None
    auxiliary: GroupOptions | None = None
    actor: BackboneGroupsOptions | None = None
    critic: BackboneGroupsOptions | None = None


@dataclass
class OptimizerOptions:
    """Keys of every optimizer that we read; others go to its constructor."""

    learning_rate: Positive
    schedule: Schedule
    final_learning_rate: NonNegative
    max_grad_norm: Positive | None
    groups: GroupsOptions

    @classmethod
    def problems(cls, config: dict[str, Any]) -> Iterator[str]:
        """List the rules that a typed configuration breaks, one line each."""
        optimizer = config["optimizer"]
        groups = by_path(optimizer["groups"])
        parts = {f"optimizer.groups.{part}": own for part, own in groups.items()}
        for key, own in {"optimizer": optimizer, **parts}.items():
            is_constant = own.get("schedule", optimizer["schedule"]) == "constant"
            if is_constant and own.get("final_learning_rate", 0) > 0:
                yield f"{key}.final_learning_rate: has no effect without {key}.schedule=linear"


@dataclass
class AdamOptions(OptimizerOptions):
    """conf/optimizer/adam.yaml, adamw.yaml and radam.yaml."""

    betas: tuple[FractionBelowOne, FractionBelowOne]
    eps: Positive
    weight_decay: NonNegative


@dataclass
class RMSpropTFOptions(OptimizerOptions):
    """conf/optimizer/rmsprop_tf.yaml."""

    alpha: FractionBelowOne
    eps: Positive
    weight_decay: NonNegative


@dataclass
class RMSpropOptions(RMSpropTFOptions):
    """conf/optimizer/rmsprop.yaml."""

    momentum: NonNegative
    centered: bool


@dataclass
class SGDOptions(OptimizerOptions):
    """conf/optimizer/sgd.yaml."""

    momentum: NonNegative
    nesterov: bool
    weight_decay: NonNegative

    @classmethod
    def problems(cls, config: dict[str, Any]) -> Iterator[str]:
        """Add the rule of Nesterov momentum."""
        yield from super().problems(config)
        if config["optimizer"]["nesterov"] and config["optimizer"]["momentum"] == 0:
            yield "optimizer.nesterov: expected optimizer.momentum > 0 with it, got 0"


@dataclass
class ScaleRewardOptions:
    """An entry of `env.wrappers`; there is no file for it."""

    factor: Positive


@dataclass
class GridCodesOptions:
    """An entry of `env.wrappers`, in conf/env/minigrid.yaml."""

    direction: bool


@dataclass
class GridPixelsOptions:
    """An entry of `env.wrappers`, in conf/env/minigrid_rgb.yaml."""

    tile_size: PositiveCount


@dataclass
class AnyOptions:
    """No keys of ours."""


# Our classes (and torch's optimizers) by group, and their keys.
TARGETS: dict[str, dict[str, type]] = {
    "agent": {
        "agents.ppo.PPO": PPOOptions,
        "agents.a2c.A2C": A2COptions,
        "agents.dqn.DQN": DQNOptions,
        "agents.pqn.PQN": PQNOptions,
        "agents.ddpg.DDPG": DDPGOptions,
        "agents.td3.TD3": TD3Options,
        "agents.sac.SAC": SACOptions,
    },
    "extractor": {
        "networks.extractors.MLP": MLPOptions,
        "networks.extractors.Flatten": FlattenOptions,
        "networks.extractors.CNN": CNNOptions,
        "networks.extractors.ImpalaCNN": ImpalaCNNOptions,
        "networks.extractors.DictExtractor": DictExtractorOptions,
        "networks.autoencoding.Encoder": AutoencoderOptions,
    },
    "decoder": {
        "networks.autoencoding.DenseDecoder": DenseDecoderOptions,
        "networks.autoencoding.ConvolutionalDecoder": ConvolutionalDecoderOptions,
    },
    "memory": dict(MEMORIES),
    "policy_head": {
        "auto": GaussianHeadOptions,
        "networks.heads.CategoricalHead": CategoricalHeadOptions,
        "networks.heads.GaussianHead": GaussianHeadOptions,
        "networks.heads.SquashedGaussianHead": GaussianHeadOptions,
        "networks.heads.DeterministicHead": DeterministicHeadOptions,
    },
    "value_head": {
        "networks.heads.MSEValueHead": MSEValueHeadOptions,
        "networks.heads.HuberValueHead": HuberValueHeadOptions,
        "networks.heads.TwoHotValueHead": TwoHotValueHeadOptions,
        "networks.heads.HLGaussValueHead": HLGaussValueHeadOptions,
        "networks.heads.C51ValueHead": C51ValueHeadOptions,
        "networks.heads.QuantileValueHead": QuantileValueHeadOptions,
    },
    "auxiliary": {
        "networks.autoencoding.Reconstruction": ReconstructionOptions,
        "networks.autoencoding.VAE": VAEOptions,
        "networks.autoencoding.NextLatent": NextLatentOptions,
    },
    "optimizer": {
        "torch.optim.Adam": AdamOptions,
        "torch.optim.AdamW": AdamOptions,
        "torch.optim.RAdam": AdamOptions,
        "torch.optim.RMSprop": RMSpropOptions,
        "torch.optim.SGD": SGDOptions,
        "agents.learning.update_rules.RMSpropTF": RMSpropTFOptions,
    },
    "pomdp": dict(POMDP_WRAPPERS),
    "wrapper": {
        "envs.wrappers.ScaleReward": ScaleRewardOptions,
        "envs.wrappers.GridCodes": GridCodesOptions,
        "envs.wrappers.GridPixels": GridPixelsOptions,
    },
}

KNOWN = {target for group in TARGETS.values() for target in group if "." in target}
"""The classes of all groups, without `auto`."""

# Keys that we read of every other class in the group. The class may take any other keys,
# but an agent only those of its options dataclass.
OTHER_TARGETS: dict[str, type] = {
    "agent": AgentOptions,
    "policy_head": PolicyHeadOptions,
    "value_head": ValueHeadOptions,
    "auxiliary": AuxiliaryOptions,
    "extractor": ExtractorOptions,
    "memory": MemoryOptions,
    "optimizer": OptimizerOptions,
}

WITH_OPTIONS = ("agent", "policy_head", "value_head")
"""Groups whose user classes are imported for their options dataclass."""


def options_for(config: Mapping[str, Any], part: str) -> Any:
    """Return a part's options dataclass, with the keys that all of its kind have."""
    own = options_of(config[part]["_target_"], part, config["trusted_packages"])
    return own or OTHER_TARGETS[part]


def options_of(target: str, group: str, trusted_packages: Sequence[str] = ()) -> Any:
    """Return the options dataclass of a group's class; None if it has none.

    For an agent or a head in a trusted package it is the class's attribute `Options`, with the
    keys that all of its kind have.

    Raises:
        Exception: any error of importing that package.
    """
    known = TARGETS.get(group, {})
    is_own = any(target.startswith(f"{package}.") for package in trusted_packages)
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
