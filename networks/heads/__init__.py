"""Policy and value heads."""

from networks.heads.box import DeterministicHead, GaussianHead, SquashedGaussianHead
from networks.heads.distributional import C51ValueHead, QuantileValueHead
from networks.heads.histograms import HLGaussValueHead, TwoHotValueHead
from networks.heads.policy import CategoricalHead
from networks.heads.values import HuberValueHead, MSEValueHead, ValueHead

__all__ = [
    "C51ValueHead", "CategoricalHead", "DeterministicHead", "GaussianHead", "HLGaussValueHead",
    "HuberValueHead", "MSEValueHead", "QuantileValueHead", "SquashedGaussianHead",
    "TwoHotValueHead", "ValueHead",
]  # fmt: skip
