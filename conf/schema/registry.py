"""The keys of networks, optimizers and masks; those of agents are in `conf.schema.agents`.

Each class here stands for the YAML files it names; `TARGETS` says which `_target_` takes which
keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from conf.schema.agents import A2COptions, DQNOptions, PPOOptions, PQNOptions
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
from conf.schema.types import (
    Activation,
    Bins,
    Count,
    FractionBelowOne,
    Initialization,
    NonNegative,
    Positive,
    PositiveCount,
    Schedule,
)


@dataclass
class MemoryOptions:
    """What is read of every memory, a user's own included; conf/memory/none.yaml has no more."""

    sequence_length: Count


@dataclass
class GatedMemoryOptions(MemoryOptions):
    """conf/memory/gru.yaml and lstm.yaml."""

    hidden_size: PositiveCount
    num_layers: PositiveCount
    initialization: Initialization
    gain: Positive


@dataclass
class RNNOptions(GatedMemoryOptions):
    """conf/memory/rnn.yaml."""

    nonlinearity: Literal["tanh", "relu"]


@dataclass
class PolicyHeadOptions:
    """`policy_head` of conf/config.yaml."""

    hidden_sizes: list[PositiveCount]
    activation: Activation
    initialization: Initialization
    gain: Positive
    initial_log_std: float


@dataclass
class MSEValueHeadOptions:
    """conf/value_head/mse.yaml."""

    hidden_sizes: list[PositiveCount]
    activation: Activation
    initialization: Initialization
    gain: Positive


@dataclass
class HuberValueHeadOptions(MSEValueHeadOptions):
    """conf/value_head/huber.yaml."""

    delta: Positive


@dataclass
class HistogramValueHeadOptions:
    """What the value heads with a support have in common; conf/value_head/c51.yaml has no more."""

    hidden_sizes: list[PositiveCount]
    activation: Activation
    initialization: Initialization
    gain: NonNegative
    bins: Bins
    support: Literal["auto"] | tuple[float, float]


@dataclass
class TwoHotValueHeadOptions(HistogramValueHeadOptions):
    """conf/value_head/two_hot.yaml."""

    symlog: bool


@dataclass
class HLGaussValueHeadOptions(HistogramValueHeadOptions):
    """conf/value_head/hl_gauss.yaml."""

    sigma: Positive


@dataclass
class QuantileValueHeadOptions(MSEValueHeadOptions):
    """conf/value_head/quantile.yaml."""

    quantiles: PositiveCount
    kappa: NonNegative


@dataclass
class GroupOptions:
    """What one part of the agent can have of its own; what is left out is the optimizer's."""

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

    policy_head: GroupOptions | None = None
    value_head: GroupOptions | None = None
    auxiliary: GroupOptions | None = None
    actor: BackboneGroupsOptions | None = None
    critic: BackboneGroupsOptions | None = None


@dataclass
class OptimizerOptions:
    """What we read of every optimizer; its other keys go to its constructor."""

    learning_rate: Positive
    schedule: Schedule
    final_learning_rate: NonNegative
    max_grad_norm: Positive | None
    groups: GroupsOptions


def by_path(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten `{critic: {memory: x}, extractor: y}` to `{"critic.memory": x, "extractor": y}`.

    A mapping with options of a group is a leaf, as is what is no mapping; what is null is left out.
    """
    options = {option.name for option in fields(GroupOptions)}
    found: dict[str, Any] = {}
    for key, node in tree.items():
        path = f"{prefix}{key}"
        if isinstance(node, Mapping) and not options & node.keys():
            found |= by_path(node, f"{path}.")
        elif node is not None:
            found[path] = node
    return found


@dataclass
class AdamOptions(OptimizerOptions):
    """conf/optimizer/adam.yaml, adamw.yaml and radam.yaml."""

    betas: tuple[FractionBelowOne, FractionBelowOne]
    eps: Positive
    weight_decay: NonNegative


@dataclass
class RMSpropOptions(OptimizerOptions):
    """conf/optimizer/rmsprop.yaml."""

    alpha: FractionBelowOne
    eps: Positive
    momentum: NonNegative
    centered: bool
    weight_decay: NonNegative


@dataclass
class RMSpropTFOptions(OptimizerOptions):
    """conf/optimizer/rmsprop_tf.yaml."""

    alpha: FractionBelowOne
    eps: Positive
    weight_decay: NonNegative


@dataclass
class SGDOptions(OptimizerOptions):
    """conf/optimizer/sgd.yaml."""

    momentum: NonNegative
    nesterov: bool
    weight_decay: NonNegative


@dataclass
class MaskVelocityOptions:
    """conf/pomdp/mask_velocity.yaml."""

    dimensions: list[Count] | None


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
    """No key that we read."""


# The classes of ours (and torch's optimizers) that each group knows, and the keys they take.
TARGETS: dict[str, dict[str, type]] = {
    "agent": {
        "agents.ppo.PPO": PPOOptions,
        "agents.a2c.A2C": A2COptions,
        "agents.dqn.DQN": DQNOptions,
        "agents.pqn.PQN": PQNOptions,
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
    "memory": {
        "networks.memory.NoMemory": MemoryOptions,
        "networks.memory.RNN": RNNOptions,
        "networks.memory.GRU": GatedMemoryOptions,
        "networks.memory.LSTM": GatedMemoryOptions,
    },
    "value_head": {
        "networks.heads.MSEValueHead": MSEValueHeadOptions,
        "networks.heads.HuberValueHead": HuberValueHeadOptions,
        "networks.heads.TwoHotValueHead": TwoHotValueHeadOptions,
        "networks.heads.HLGaussValueHead": HLGaussValueHeadOptions,
        "networks.heads.C51ValueHead": HistogramValueHeadOptions,
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
    "pomdp": {"envs.wrappers.MaskVelocity": MaskVelocityOptions},
    "wrapper": {
        "envs.wrappers.ScaleReward": ScaleRewardOptions,
        "envs.wrappers.GridCodes": GridCodesOptions,
        "envs.wrappers.GridPixels": GridPixelsOptions,
    },
}

# The keys we read of every other class in the group; the class takes what else it likes.
OTHER_TARGETS: dict[str, type] = {
    "auxiliary": AuxiliaryOptions,
    "extractor": ExtractorOptions,
    "memory": MemoryOptions,
    "optimizer": OptimizerOptions,
}
