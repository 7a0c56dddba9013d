"""The keys of networks, optimizers and masks; those of agents are in `conf.schema.agents`.

Each class here stands for the YAML files it names; `TARGETS` says which `_target_` takes which
keys.
"""

from dataclasses import dataclass
from typing import Literal

from conf.schema.agents import A2C, DQN, PPO, PQN
from conf.schema.extractors import (
    CNN,
    MLP,
    VAE,
    AnyAuxiliary,
    AnyExtractor,
    Autoencoder,
    ConvolutionalDecoder,
    DenseDecoder,
    DictExtractor,
    Flatten,
    ImpalaCNN,
    NextLatent,
    Reconstruction,
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
class AnyMemory:
    """What is read of every memory, a user's own included; conf/memory/none.yaml has no more."""

    sequence_length: Count


@dataclass
class GatedMemory(AnyMemory):
    """conf/memory/gru.yaml and lstm.yaml."""

    hidden_size: PositiveCount
    num_layers: PositiveCount
    initialization: Initialization
    gain: Positive


@dataclass
class RNN(GatedMemory):
    """conf/memory/rnn.yaml."""

    nonlinearity: Literal["tanh", "relu"]


@dataclass
class PolicyHead:
    """`policy_head` of conf/config.yaml."""

    hidden_sizes: list[PositiveCount]
    activation: Activation
    initialization: Initialization
    gain: Positive
    initial_log_std: float


@dataclass
class MSEValueHead:
    """conf/value_head/mse.yaml."""

    hidden_sizes: list[PositiveCount]
    activation: Activation
    initialization: Initialization
    gain: Positive


@dataclass
class HuberValueHead(MSEValueHead):
    """conf/value_head/huber.yaml."""

    delta: Positive


@dataclass
class HistogramValueHead:
    """What the value heads with a support have in common; conf/value_head/c51.yaml has no more."""

    hidden_sizes: list[PositiveCount]
    activation: Activation
    initialization: Initialization
    gain: NonNegative
    bins: Bins
    support: Literal["auto"] | tuple[float, float]


@dataclass
class TwoHotValueHead(HistogramValueHead):
    """conf/value_head/two_hot.yaml."""

    symlog: bool


@dataclass
class HLGaussValueHead(HistogramValueHead):
    """conf/value_head/hl_gauss.yaml."""

    sigma: Positive


@dataclass
class QuantileValueHead(MSEValueHead):
    """conf/value_head/quantile.yaml."""

    quantiles: PositiveCount
    kappa: NonNegative


@dataclass
class OptimizerGroup:
    """What one part of the agent can have of its own; what is left out is the optimizer's."""

    learning_rate: NonNegative = 0.0
    schedule: Schedule = "constant"
    final_learning_rate: NonNegative = 0.0
    weight_decay: NonNegative = 0.0


@dataclass
class AnyOptimizer:
    """What we read of every optimizer; its other keys go to its constructor."""

    learning_rate: Positive
    schedule: Schedule
    final_learning_rate: NonNegative
    max_grad_norm: Positive | None
    groups: dict[Literal["extractor", "memory", "actor", "critic", "auxiliary"], OptimizerGroup]


@dataclass
class Adam(AnyOptimizer):
    """conf/optimizer/adam.yaml, adamw.yaml and radam.yaml."""

    betas: tuple[FractionBelowOne, FractionBelowOne]
    eps: Positive
    weight_decay: NonNegative


@dataclass
class RMSprop(AnyOptimizer):
    """conf/optimizer/rmsprop.yaml."""

    alpha: FractionBelowOne
    eps: Positive
    momentum: NonNegative
    centered: bool
    weight_decay: NonNegative


@dataclass
class RMSpropTF(AnyOptimizer):
    """conf/optimizer/rmsprop_tf.yaml."""

    alpha: FractionBelowOne
    eps: Positive
    weight_decay: NonNegative


@dataclass
class SGD(AnyOptimizer):
    """conf/optimizer/sgd.yaml."""

    momentum: NonNegative
    nesterov: bool
    weight_decay: NonNegative


@dataclass
class MaskVelocity:
    """conf/pomdp/mask_velocity.yaml."""

    dimensions: list[Count] | None


@dataclass
class ScaleReward:
    """An entry of `env.wrappers`; there is no file for it."""

    factor: Positive


@dataclass
class GridCodes:
    """An entry of `env.wrappers`, in conf/env/minigrid.yaml."""

    direction: bool


@dataclass
class GridPixels:
    """An entry of `env.wrappers`, in conf/env/minigrid_rgb.yaml."""

    tile_size: PositiveCount


@dataclass
class Anything:
    """No key that we read."""


# The classes of ours (and torch's optimizers) that each group knows, and the keys they take.
TARGETS: dict[str, dict[str, type]] = {
    "agent": {
        "agents.ppo.PPO": PPO,
        "agents.a2c.A2C": A2C,
        "agents.dqn.DQN": DQN,
        "agents.pqn.PQN": PQN,
    },
    "extractor": {
        "networks.extractors.MLP": MLP,
        "networks.extractors.Flatten": Flatten,
        "networks.extractors.CNN": CNN,
        "networks.extractors.ImpalaCNN": ImpalaCNN,
        "networks.extractors.DictExtractor": DictExtractor,
        "networks.autoencoding.Encoder": Autoencoder,
    },
    "decoder": {
        "networks.autoencoding.DenseDecoder": DenseDecoder,
        "networks.autoencoding.ConvolutionalDecoder": ConvolutionalDecoder,
    },
    "memory": {
        "networks.memory.NoMemory": AnyMemory,
        "networks.memory.RNN": RNN,
        "networks.memory.GRU": GatedMemory,
        "networks.memory.LSTM": GatedMemory,
    },
    "value_head": {
        "networks.heads.MSEValueHead": MSEValueHead,
        "networks.heads.HuberValueHead": HuberValueHead,
        "networks.heads.TwoHotValueHead": TwoHotValueHead,
        "networks.heads.HLGaussValueHead": HLGaussValueHead,
        "networks.heads.C51ValueHead": HistogramValueHead,
        "networks.heads.QuantileValueHead": QuantileValueHead,
    },
    "auxiliary": {
        "networks.autoencoding.Reconstruction": Reconstruction,
        "networks.autoencoding.VAE": VAE,
        "networks.autoencoding.NextLatent": NextLatent,
    },
    "optimizer": {
        "torch.optim.Adam": Adam,
        "torch.optim.AdamW": Adam,
        "torch.optim.RAdam": Adam,
        "torch.optim.RMSprop": RMSprop,
        "torch.optim.SGD": SGD,
        "agents.learning.update_rules.RMSpropTF": RMSpropTF,
    },
    "pomdp": {"envs.wrappers.MaskVelocity": MaskVelocity},
    "wrapper": {
        "envs.wrappers.ScaleReward": ScaleReward,
        "envs.wrappers.GridCodes": GridCodes,
        "envs.wrappers.GridPixels": GridPixels,
    },
}

# The keys we read of every other class in the group; the class takes what else it likes.
OTHER_TARGETS: dict[str, type] = {
    "auxiliary": AnyAuxiliary,
    "extractor": AnyExtractor,
    "memory": AnyMemory,
    "optimizer": AnyOptimizer,
}
